"""What a made-up exporter counts of the checks of objectives, scrape by scrape, as input of rule tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from watchbill.domain.checks import Check, Heartbeat
from watchbill.generate.indicators import Indicator
from watchbill.generate.slos import LATENCY, SLOTS
from watchbill.generate.trials import Series


@dataclass(frozen=True, slots=True)
class Slots:
    """How many slots of a check end in each way between two scrapes. ``outside``: as error, and as many as missed.

    No real check has a million of them, but rules only see shares: so a burn takes minutes to show, and not days.
    """

    fast: int = 0
    slow: int = 0
    failed: int = 0
    outside: int = 0


@dataclass(frozen=True, slots=True)
class Phase:
    """So many scrapes of the same. ``every``: each how many-th scrape is there at all; ``anew``: with counters at 0 again."""

    scrapes: int
    slots: Mapping[str, Slots] | Slots = Slots()
    """Of each check by its id, or of all."""
    every: int = 1
    anew: bool = False
    gone: bool = False

    def of(self, check_id: str) -> Slots:
        return self.slots if isinstance(self.slots, Slots) else self.slots.get(check_id, Slots())


def counters(indicators: Iterable[Indicator], phases: Sequence[Phase]) -> list[Series]:
    """The series that the indicators read, and the outcomes that they must not read."""
    found = list(indicators)
    checks = {check.id: check for indicator in found for check in indicator.checks}
    bounds = sorted({each.within for each in found if each.within is not None})
    series: list[Series] = []
    for check in sorted(checks.values(), key=lambda check: check.id):
        labels = _labels(check)
        for outcome, part in _OUTCOMES.items():
            values = _values(phases, check.id, part)
            series.append(Series(SLOTS, {**labels, "outcome": outcome}, values))
        if not isinstance(check, Heartbeat) and bounds:
            timed = _values(phases, check.id, ("fast", "slow"))
            fast = _values(phases, check.id, ("fast",))
            buckets = {**{repr(bound.total_seconds()): fast for bound in bounds}, "+Inf": timed}
            series += [
                Series(f"{LATENCY}_bucket", {**labels, "le": le}, values) for le, values in buckets.items()
            ]
            series.append(Series(f"{LATENCY}_count", labels, timed))
    return series


_OUTCOMES = {
    "success": ("fast", "slow"),
    "failure": ("failed",),
    "error": ("outside",),
    "missed": ("outside",),
}


def _labels(check: Check) -> dict[str, str]:
    service = {"service": check.service} if check.service else {}
    return {"check": check.id, **service, "type": check.type, "job": "watchbill", "instance": "a:9876"}


def _values(phases: Sequence[Phase], check_id: str, parts: Sequence[str]) -> str:
    """In promtool's notation, from 0 at the first scrape of all."""
    written, value = ["0"], 0
    for phase in phases:
        if phase.gone:
            written += ["stale", f"_x{phase.scrapes - 1}"]
            continue
        value = 0 if phase.anew else value
        step = sum(getattr(phase.of(check_id), part) for part in parts)
        if phase.every > 1:
            times = phase.scrapes // phase.every
            gap = f"_x{phase.every - 1}"
            written += [piece for n in range(1, times + 1) for piece in (gap, str(value + n * step))]
            value += times * step
        else:
            written.append(f"{value + step}+{step}x{phase.scrapes - 1}")
            value += phase.scrapes * step
    return " ".join(written)
