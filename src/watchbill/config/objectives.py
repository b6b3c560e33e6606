"""What an objective asks of the rest of the configuration: checks that it selects, often enough probed, and a bucket."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TypeAlias

from watchbill.config.fields import suggestion
from watchbill.config.nodes import shown_key
from watchbill.config.samples import Sample
from watchbill.domain.checks import Check, Heartbeat
from watchbill.domain.objectives import Slo, format_percentage, labels_of
from watchbill.domain.slo import FEWEST_ALLOWED, Budget
from watchbill.domain.units import format_duration

MOST_SLOS = 2_000
MOST_SELECTED = 200_000
"""Checks of all objectives together, so that they cannot make loading take minutes, nor a rule be megabytes long."""

Place: TypeAlias = tuple[str | int, ...]
"""The keys within an objective that lead to what is wrong."""
Mistake: TypeAlias = tuple[Place, str]


class Selection:
    """The checks by what they can be selected by."""

    def __init__(
        self, checks: Mapping[str, Check], samples: Mapping[str, Sample | str] | None = None
    ) -> None:
        """``samples``: of what each block of discovery will make, or why there is none."""
        found = {block: each for block, each in (samples or {}).items() if isinstance(each, Sample)}
        self._blocks = {each.check.id: block for block, each in found.items()}
        self._guessed = {each.check.id for each in found.values() if "interval" in each.hanging}
        checks = {**{each.check.id: each.check for each in found.values()}, **checks}
        self._checks = checks
        self._by_label: dict[str, dict[str, dict[str, None]]] = {}
        for check in checks.values():
            for name, value in labels_of(check).items():
                self._by_label.setdefault(name, {}).setdefault(value, {})[check.id] = None
        self._left = MOST_SELECTED

    def mistakes(
        self, slo: Slo, *, services: Collection[str], buckets: Collection[float]
    ) -> Iterator[Mistake]:
        if slo.service is not None and slo.service not in services:
            message = f"service {shown_key(slo.service)} is not declared under services"
            yield ("service",), message + suggestion(slo.service, services)
            return
        found = self._selected(slo)
        if not found:
            yield self._nothing(slo)
            return
        self._left -= len(found)
        if self._left < 0:
            yield (), f"all objectives together select more than {MOST_SELECTED:,} checks; declare fewer"
            return
        running = [self._checks[check_id] for check_id in found if self._checks[check_id].enabled]
        yield from self._unresolved(slo, running)
        yield from _unmeasured(slo, running, buckets)

    def _selected(self, slo: Slo) -> Collection[str]:
        wanted = {"service": (slo.service or "",)} if slo.match is None else slo.match
        each = [self._having(name, values) for name, values in wanted.items()]
        return [check_id for check_id in min(each, key=len) if all(check_id in other for other in each)]

    def _having(self, name: str, values: Collection[str]) -> Collection[str]:
        known = self._by_label.get(name, {})
        return {check_id: None for value in values for check_id in known.get(value, ())}

    def _nothing(self, slo: Slo) -> Mistake:
        if slo.match is None:
            message = (
                f"no check belongs to service {shown_key(slo.service or '')}, and an objective needs one"
            )
            return ("service",), message
        for name, values in slo.match.items():
            known = self._by_label.get(name, {})
            if not any(value in known for value in values):
                near = suggestion(values[0], known) if known else suggestion(name, self._by_label)
                some = " or ".join(map(shown_key, values[:3]))
                return ("match", name), f"match must find a check, and none has {name} {some}{near}"
        return ("match",), "match must find a check, and none meets all of its keys at once"

    def _unresolved(self, slo: Slo, checks: Collection[Check]) -> Iterator[Mistake]:
        """A guess of an interval refuses nothing."""
        known = [check for check in checks if check.id not in self._guessed]
        for place, budget, slowest in _budgets(slo, known):
            if not budget.resolved:
                block = self._blocks.get(slowest.id)
                yield place, _too_coarse(budget, f"each check of discover.{block}" if block else slowest.id)


def _budgets(slo: Slo, checks: Collection[Check]) -> Iterator[tuple[Place, Budget, Check]]:
    objectives: list[tuple[Place, Decimal | None, Collection[Check]]] = [
        (("availability",), slo.availability, checks)
    ]
    timed = _timed(checks)
    objectives += [
        (("latency", number, "objective"), each.objective, timed) for number, each in enumerate(slo.latency)
    ]
    for place, objective, judged in objectives:
        slowest = max(judged, key=lambda check: check.interval, default=None)
        if objective is None or slowest is None:
            continue
        yield place, Budget(objective, slo.window, slowest.interval), slowest


def _too_coarse(budget: Budget, slowest: str) -> str:
    window, interval = format_duration(budget.window), format_duration(budget.interval)
    return (
        f"{format_percentage(budget.objective)} over {window} allows {float(budget.failures):.2g} failures of {slowest}, "
        f"which is probed every {interval}, and must allow {FEWEST_ALLOWED}: "
        "probe it more often, leave it out, lower the objective or lengthen its window"
    )


def _unmeasured(slo: Slo, checks: Collection[Check], buckets: Collection[float]) -> Iterator[Mistake]:
    if slo.latency and checks and not _timed(checks):
        yield ("latency",), "heartbeats have no latency; leave it out, or select other checks too"
        return
    for number, each in enumerate(slo.latency):
        if each.within.total_seconds() not in buckets:
            yield ("latency", number, "within"), _no_bucket(each.within, buckets)


def _no_bucket(within: timedelta, buckets: Collection[float]) -> str:
    shown = ", ".join(f"{bound:g}" for bound in buckets)
    return (
        f"within {format_duration(within)} must be one of metrics.buckets ({shown} seconds), which are what is counted: choose one, "
        f"or add {within.total_seconds():g} there"
    )


def _timed(checks: Collection[Check]) -> list[Check]:
    return [check for check in checks if not isinstance(check, Heartbeat)]
