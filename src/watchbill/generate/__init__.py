"""What a team would otherwise write by hand beside its checks: rules, their tests, dashboards; text out of a configuration.

Nothing here asks a network, a clock or a disk: the same configuration gives the same text.
"""
