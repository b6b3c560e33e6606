"""What rules and their tests are asked for: which of them, for which checks, under which Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from watchbill.domain.checks import Check
from watchbill.domain.config import Config
from watchbill.generate.promql import literal, one_of, quoted

PARTS = ("slo", "check", "self")
"""Objectives, single checks, and Watchbill itself."""
PROCESS_LABELS = "instance, pod, container, endpoint, node"
"""What names one running process: an alert that keeps none of them goes on where the process moves."""


@dataclass(frozen=True, slots=True)
class Asked:
    """``selectors``: label, ``check``, ``service`` or ``type`` -> the values that will do; a check meets all of them.

    ``discovered``: a regular expression that the ids of a block's checks match -> a check like them. ``job``: a regular expression that the exporter's scrape job, and no other, matches wholly.
    """

    only: frozenset[str] = frozenset(PARTS)
    selectors: Mapping[str, frozenset[str]] = field(default_factory=dict)
    scrape_interval: timedelta = timedelta(seconds=15)
    evaluation_interval: timedelta = timedelta(seconds=15)
    job: str = ".*watchbill.*"
    discovered: Mapping[str, Check] = field(default_factory=dict, repr=False)

    @property
    def job_matcher(self) -> tuple[str, ...]:
        """Of every series; none where any job will do."""
        return () if self.job in (".*", ".+") else (f"job=~{quoted(self.job)}",)

    @property
    def up(self) -> str:
        """Whether the exporter's scrapes succeed."""
        return "up" + "".join(f"{{{matcher}}}" for matcher in self.job_matcher)

    def check_matcher(self, ids: Sequence[str]) -> str:
        """Of the series of these checks, and of all that they stand for."""
        patterns = {check.id: pattern for pattern, check in self.discovered.items()}
        if patterns.keys().isdisjoint(ids):
            return one_of("check", ids)
        return f"check=~{quoted('|'.join(patterns.get(check_id) or literal(check_id) for check_id in ids))}"

    def checks(self, config: Config) -> list[Check]:
        """Those selected that are not parked, by their ids; one for all of a block of discovery."""
        known = [*config.checks.values(), *self.discovered.values()]
        selected = [check for check in known if check.enabled and self.selects(check)]
        return sorted(selected, key=lambda check: check.id)

    def selects(self, check: Check) -> bool:
        known = {**check.labels, "check": check.id, "service": check.service or "", "type": check.type}
        return all(known.get(name, "") in values for name, values in self.selectors.items())
