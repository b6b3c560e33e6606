"""The series of an exporter as Prometheus has them, well or not: what the generated tests of rules are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import ceil

import re2

from watchbill.domain.checks import Check, target_of
from watchbill.domain.errors import WatchbillError
from watchbill.domain.results import Reason
from watchbill.generate.asked import PROCESS_LABELS, Asked
from watchbill.generate.checks import ahead_of, shows_certificate
from watchbill.generate.texts import filled
from watchbill.generate.trials import Firing, Series

INSTANCE = "10.0.0.7:9876"
NEXT_INSTANCE = "10.0.0.9:9876"
LOCATION = "eu"
POD = {INSTANCE: "watchbill-0", NEXT_INSTANCE: "watchbill-7"}
DAY = timedelta(days=1)
_OF_A_PROCESS = frozenset(PROCESS_LABELS.split(", "))


def job_for(pattern: str) -> str:
    """A name that the pattern matches.

    :raises WatchbillError: where none is at hand.
    """
    pieces = [piece.replace(".*", "").replace(".+", "x").replace("\\", "") for piece in pattern.split("|")]
    for name in ("watchbill", *pieces, *(f"{piece}watchbill" for piece in pieces)):
        if name and re2.fullmatch(pattern, name):
            return name
    raise WatchbillError(f"no name of a job comes to mind that {pattern} matches; write --job more plainly")


@dataclass(frozen=True, slots=True)
class World:
    """``step``: between two values, which there are for ``length`` from 0 on; no alert needs more than a day of notice."""

    asked: Asked
    step: timedelta
    length: timedelta
    digest: str = ""

    @property
    def steps(self) -> int:
        return ceil(self.length / self.step)

    def steady(self, value: float) -> str:
        return f"{value:g}x{self.steps}"

    def rising(self, each_second: float) -> str:
        return f"0+{each_second * self.step.total_seconds():g}x{self.steps}"

    def process(self, instance: str = INSTANCE) -> dict[str, str]:
        """What a scrape attaches to everything of one process."""
        job = job_for(self.asked.job)
        return {"job": job, "instance": instance, "namespace": "monitoring", "pod": POD[instance]}

    def own(self, name: str, values: str, *, instance: str = INSTANCE, **labels: str) -> Series:
        return Series(name, self.process(instance) | labels, values)

    def of(self, check: Check, name: str, values: str, *, instance: str = INSTANCE, **labels: str) -> Series:
        """One of a check's series, with all the labels that it has in truth."""
        common = {"check": check.id, "location": LOCATION, "service": check.service or "", "type": check.type}
        # As the exposition has it: a label of the family wins over a declared one, one of the scrape over both.
        known = {name: value for name, value in {**check.labels, **common, **labels}.items() if value}
        return Series(name, known | self.process(instance), values)

    def healthy(self, check: Check) -> Iterator[Series]:
        rate = 1 / check.interval.total_seconds()
        yield self.of(check, "watchbill_check_info", self.steady(1), target=target_of(check))
        yield self.of(check, "watchbill_check_status", self.steady(1))
        yield self.of(check, "watchbill_check_slots_total", self.rising(rate), outcome="success")
        for outcome in ("failure", "error", "skipped", "excused", "missed"):
            yield self.of(check, "watchbill_check_slots_total", self.steady(0), outcome=outcome)
        yield self.of(check, "probe_success", self.steady(1), target=target_of(check))
        if shows_certificate(check):
            yield self.certificate(check, ahead_of(check) + self.length + DAY)

    def certificate(self, check: Check, ends: timedelta) -> Series:
        """One that ends so long after the start."""
        name = "probe_ssl_earliest_cert_expiry"
        return self.of(check, name, self.steady(ends.total_seconds()), target=target_of(check))

    def exporter(self, *, up: bool = True) -> Iterator[Series]:
        """A healthy one, whose history is written and whose loop is quick."""
        yield self.own("up", self.steady(up))
        yield self.own("watchbill_config_last_reload_successful", self.steady(1))
        yield self.own("watchbill_config_info", self.steady(1), digest=self.digest, revision="")
        for kind in ("http", "icmp"):
            yield self.own("watchbill_failures_total", self.rising(1), type=kind, reason=Reason.REFUSED)
            yield self.own("watchbill_failures_total", self.steady(0), type=kind, reason=Reason.NETWORK)
        yield self.own("watchbill_history_rows_total", self.rising(1))
        yield self.own("watchbill_history_pending", self.steady(1))
        yield self.own("watchbill_history_dropped_rows_total", self.steady(0))
        yield self.own("watchbill_handler_errors_total", self.steady(0), handler="writer")
        yield from self.lag(0.01)

    def lag(self, share: float) -> Iterator[Series]:
        """An event loop of whose sleeps that share ends more than 50 ms late."""
        for bound, below in (("0.05", 1 - share), ("0.1", 1.0), ("+Inf", 1.0)):
            yield self.own("watchbill_event_loop_lag_seconds_bucket", self.rising(20 * below), le=bound)


def kept(series: Series, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of an alert that drops those of the process: the series' own and, over them, the rule's."""
    own = {name: value for name, value in series.labels.items() if name not in _OF_A_PROCESS}
    return {name: value for name, value in {**own, **labels}.items() if value}


def firing(labels: Mapping[str, str], annotations: Mapping[str, str]) -> Firing:
    return Firing(dict(sorted(filled(labels, {}).items())), annotations)


def human_span(length: timedelta) -> str:
    """As Prometheus' ``humanizeDuration`` writes whole seconds, from a minute on."""
    days, rest = divmod(int(length.total_seconds()), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    if days:
        return f"{days}d {hours}h {minutes}m {seconds}s"
    return f"{hours}h {minutes}m {seconds}s" if hours else f"{minutes}m {seconds}s"
