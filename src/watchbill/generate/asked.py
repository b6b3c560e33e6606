"""What rules and their tests are asked for: which of them, for which checks, under which Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from watchbill.domain.checks import Check
from watchbill.domain.config import Config
from watchbill.generate.promql import quoted

PARTS = ("slo", "check", "self")
"""Objectives, single checks, and Watchbill itself."""
PROCESS_LABELS = "instance, pod, container, endpoint, node"
"""What names one running process: an alert that keeps none of them goes on where the process moves."""


@dataclass(frozen=True, slots=True)
class Asked:
    """``selectors``: label, ``check``, ``service`` or ``type`` -> the values that will do; a check meets all of them.

    ``job``: a regular expression that the exporter's scrape job, and no other, matches wholly.
    """

    only: frozenset[str] = frozenset(PARTS)
    selectors: Mapping[str, frozenset[str]] = field(default_factory=dict)
    scrape_interval: timedelta = timedelta(seconds=15)
    evaluation_interval: timedelta = timedelta(seconds=15)
    job: str = ".*watchbill.*"

    @property
    def job_matcher(self) -> tuple[str, ...]:
        """Of every series; none where any job will do."""
        return () if self.job in (".*", ".+") else (f"job=~{quoted(self.job)}",)

    @property
    def up(self) -> str:
        """Whether the exporter's scrapes succeed."""
        return "up" + "".join(f"{{{matcher}}}" for matcher in self.job_matcher)

    def checks(self, config: Config) -> list[Check]:
        """Those selected that are not parked, by their ids."""
        selected = [check for check in config.checks.values() if check.enabled and self.selects(check)]
        return sorted(selected, key=lambda check: check.id)

    def selects(self, check: Check) -> bool:
        known = {**check.labels, "check": check.id, "service": check.service or "", "type": check.type}
        return all(known.get(name, "") in values for name, values in self.selectors.items())
