"""The real application over a simulated clock, network, store and configuration, with faults drawn from a seed."""
