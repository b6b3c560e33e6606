"""The arithmetic of objectives over probes: burn rates, windows, and what an interval can resolve.

A slot stands for its interval's seconds. A burn rate of 1 uses the error budget up exactly at the end of the
objective's window; an alert fires while a long and a short window both burn faster than its factor (Google SRE
Workbook, chapter 5). What is said of several checks follows the one with the longest interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from watchbill.domain.units import format_duration

Severity = Literal["critical", "warning"]

REFERENCE_WINDOW = timedelta(days=30)
SHORTEST_SHORT = 4
"""A short window in intervals: below, one slot more or less decides."""
LONG_TO_SHORT = 12
FEWEST_FAILURES = 2
"""That an alert takes: a single probe that failed is no outage, whatever share of the budget it stands for."""
FEWEST_ALLOWED = 2
"""Failures that an objective must allow over its window, or one of them breaks it."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A long and a short window that both have to burn ``factor`` times as fast as the budget allows."""

    severity: Severity
    long: timedelta
    short: timedelta
    factor: Decimal

    def __str__(self) -> str:
        return f"{format_duration(self.long)}/{format_duration(self.short)}"


PAIRS = (
    Pair("critical", timedelta(hours=1), timedelta(minutes=5), Decimal("14.4")),
    Pair("critical", timedelta(hours=6), timedelta(minutes=30), Decimal(6)),
    Pair("warning", timedelta(days=1), timedelta(hours=2), Decimal(3)),
    Pair("warning", timedelta(days=3), timedelta(hours=6), Decimal(1)),
)
"""For a window of 30 days: 2, 5, 10 and 10 % of the budget, used up within the long window."""


def pairs_of(window: timedelta) -> Iterator[Pair]:
    """The windows follow the objective's, so that each pair stands for the same share of the budget at the same factor."""
    for pair in PAIRS:
        short = timedelta(seconds=round(pair.short.total_seconds() * (window / REFERENCE_WINDOW)))
        yield Pair(pair.severity, LONG_TO_SHORT * short, short, pair.factor)


@dataclass(frozen=True, slots=True)
class Budget:
    """What may fail: ``objective`` in percent over ``window``, of ``checks`` of which the slowest has ``interval``."""

    objective: Decimal
    window: timedelta
    interval: timedelta
    checks: int = 1

    @property
    def share(self) -> Decimal:
        """Of the slots that may fail, in (0, 1), exactly."""
        return 1 - self.objective / 100

    @property
    def failures(self) -> Decimal:
        """How many failures of one check its own budget allows."""
        return _seconds(self.window) / _seconds(self.interval) * self.share

    @property
    def resolved(self) -> bool:
        return self.failures >= FEWEST_ALLOWED

    def failures_of(self, pair: Pair) -> int:
        """The fewest failures in a full long window that burn faster than the pair's factor."""
        slots = self.checks * _seconds(pair.long) / _seconds(self.interval)
        return int(pair.factor * self.share * slots) + 1

    def share_of(self, failures: int) -> Decimal:
        """What part of the whole budget so many failures use up."""
        return failures / (self.failures * self.checks)

    def left_out(self, pair: Pair, scrape: timedelta) -> str:
        """Why the pair cannot work, or nothing.

        A short window of fewer than four intervals hangs on single slots, one of fewer than four scrapes on single
        scrapes; stretched, it is too near to the long one to tell that an outage is over.
        """
        if pair.factor * self.share >= 1:
            return f"all of it failing burns {float(1 / self.share):.3g} times the budget, never over {pair.factor}"
        step = max(self.interval, scrape)
        shortest = max(pair.short, SHORTEST_SHORT * step)
        if pair.long < LONG_TO_SHORT * shortest:
            what = "the interval" if self.interval >= scrape else "the scrape interval"
            return (
                f"with {what} of {format_duration(step)} its short window is at least {format_duration(shortest)}, "
                f"and the long one {LONG_TO_SHORT} times that"
            )
        return ""


def _seconds(length: timedelta) -> Decimal:
    return Decimal(length // timedelta(microseconds=1)) / 1_000_000
