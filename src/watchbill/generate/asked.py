"""What rules and their tests are asked for: which of them, for which checks, under which Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from watchbill.domain.checks import Check
from watchbill.domain.config import Config
from watchbill.generate.families import Family, fits, pattern
from watchbill.generate.promql import literal, one_of, quoted

PARTS = ("slo", "check", "self")
"""Objectives, single checks, and Watchbill itself."""
PROCESS_LABELS = "instance, pod, container, endpoint, node"
"""What names one running process: an alert that keeps none of them goes on where the process moves."""


@dataclass(frozen=True, slots=True)
class Asked:
    """``selectors``: label, ``check``, ``service`` or ``type`` -> the values that will do; a check meets all of them.

    ``discovered``: what blocks of discovery will make. ``job``: a regular expression that the exporter's scrape job, and no
    other, matches wholly.
    """

    only: frozenset[str] = frozenset(PARTS)
    selectors: Mapping[str, frozenset[str]] = field(default_factory=dict)
    scrape_interval: timedelta = timedelta(seconds=15)
    evaluation_interval: timedelta = timedelta(seconds=15)
    job: str = ".*watchbill.*"
    discovered: tuple[Family, ...] = field(default=(), repr=False)

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
        found = {family.like.id: family for family in self.discovered if family.like.id in ids}
        if not found:
            return one_of("check", ids)
        patterns = [found[check_id].pattern if check_id in found else literal(check_id) for check_id in ids]
        besides = {pieces: None for family in found.values() for pieces in family.besides}
        # Better that what only looks like others rings with both than that a check rings with none.
        others = [pattern(each) for each in besides if not any(fits(check_id, each) for check_id in ids)]
        matcher = f"check=~{quoted('|'.join(patterns))}"
        return f"{matcher}, check!~{quoted('|'.join(others))}" if others else matcher

    def known(self, config: Config) -> list[Check]:
        """All that are declared; and one for all of a block of discovery."""
        return [*config.checks.values(), *(family.like for family in self.discovered)]

    def checks(self, config: Config) -> list[Check]:
        """Those selected that are not parked, by their ids."""
        selected = [check for check in self.known(config) if check.enabled and self.selects(check)]
        return sorted(selected, key=lambda check: check.id)

    def examples(self, checks: Iterable[Check]) -> Iterator[Check]:
        """The same, for tests: of what is discovered more than one."""
        found = {family.like.id: family.examples for family in self.discovered}
        for check in checks:
            yield from found.get(check.id, (check,))

    def selects(self, check: Check) -> bool:
        known = {**check.labels, "check": check.id, "service": check.service or "", "type": check.type}
        return all(known.get(name, "") in values for name, values in self.selectors.items())
