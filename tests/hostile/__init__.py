"""Targets that attack a real exporter, all at once, while it looks after others."""
