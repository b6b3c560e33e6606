"""What is measured of the objectives under ``slos:``: of which checks, what counts as bad, and under which labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from itertools import groupby

from watchbill.domain.checks import Check, Heartbeat
from watchbill.domain.config import Config
from watchbill.domain.objectives import Slo, format_percentage
from watchbill.domain.slo import Budget, Pair, Severity, pairs_of
from watchbill.generate.asked import Asked
from watchbill.generate.promql import braces
from watchbill.generate.texts import span


@dataclass(frozen=True, eq=False)
class Indicator:
    """One objective of an SLO: what is bad of which checks. ``within``: nothing for availability.

    A block of discovery counts as one check, so that what is said of it holds however many targets there are: of more,
    the same share takes more failures. ``matching``: the matcher of series of such ids.
    """

    slo_id: str
    slo: Slo
    objective: Decimal
    checks: tuple[Check, ...]
    service: str
    matching: Callable[[Sequence[str]], str]
    within: timedelta | None = None

    @cached_property
    def labels(self) -> dict[str, str]:
        within = {} if self.within is None else {"within": span(self.within)}
        service = {"service": self.service} if self.service else {}
        return {"slo": self.slo_id, "sli": self.sli, **within, **service}

    @property
    def sli(self) -> str:
        return "availability" if self.within is None else "latency"

    @property
    def bound(self) -> str:
        """The matcher of its bucket, as Prometheus writes bounds; nothing for availability."""
        return "" if self.within is None else f'le="{self.within.total_seconds()!r}"'

    @property
    def shown(self) -> str:
        within = "" if self.within is None else f" within {span(self.within)}"
        return f"{self.slo_id}: {self.sli}{within}"

    @property
    def promise(self) -> str:
        return f"{format_percentage(self.objective)} over {span(self.slo.window)}"

    @cached_property
    def budget(self) -> Budget:
        interval = max(check.interval for check in self.checks)
        return Budget(self.objective, self.slo.window, interval, len(self.checks))

    @cached_property
    def ids(self) -> dict[timedelta, list[str]]:
        """The ids of the checks by their interval, in order."""
        ordered = sorted(self.checks, key=lambda check: (check.interval, check.id))
        return {
            interval: [check.id for check in same]
            for interval, same in groupby(ordered, key=lambda check: check.interval)
        }

    def pairs(self, scrape: timedelta) -> dict[Severity, list[Pair]]:
        """Those that can work, by what they are worth; also where nobody is alerted."""
        kept: dict[Severity, list[Pair]] = {}
        for pair in pairs_of(self.slo.window):
            if not self.budget.left_out(pair, scrape):
                kept.setdefault(pair.severity, []).append(pair)
        return kept

    def recorded(self, name: str, **labels: str) -> str:
        """The selector of one of its recorded series."""
        return name + braces({**self.labels, **labels})


def indicators(config: Config, asked: Asked) -> list[Indicator]:
    """Of the objectives about a check that was asked for, each whole, by their ids."""
    found: list[Indicator] = []
    for slo_id, slo in sorted(config.slos.items()):
        checks = tuple(slo.checks(asked.known(config)))
        timed = tuple(check for check in checks if not isinstance(check, Heartbeat))
        if not any(asked.selects(check) for check in checks):
            continue
        service = _service(slo, checks)
        if slo.availability is not None:
            found.append(Indicator(slo_id, slo, slo.availability, checks, service, asked.check_matcher))
        if timed:
            found += [
                Indicator(slo_id, slo, each.objective, timed, service, asked.check_matcher, each.within)
                for each in slo.latency
            ]
    return found


def _service(slo: Slo, checks: tuple[Check, ...]) -> str:
    """The one they all belong to, if there is one."""
    services = {check.service or "" for check in checks}
    return slo.service or (services.pop() if len(services) == 1 else "")
