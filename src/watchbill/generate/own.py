"""Alerts on Watchbill itself: whether anybody watches at all, and whether what is seen can be trusted."""

from __future__ import annotations

from watchbill.generate.asked import Asked
from watchbill.generate.rules import Alert, Group


def own_groups(asked: Asked) -> list[Group]:
    return [Group("watchbill-exporter", [_watchdog()])]


def _watchdog() -> Alert:
    return Alert(
        "WatchbillWatchdog",
        "vector(1)",
        {"severity": "none"},
        {
            "summary": "Alerts of Watchbill reach you",
            "description": "It always fires: route it to a receiver that calls for help once it stops.",
        },
    )
