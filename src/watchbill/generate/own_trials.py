"""Tests of the alerts on Watchbill itself, and of what must ring nothing at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from math import ceil

from watchbill.domain.checks import Check, target_of
from watchbill.generate import pace
from watchbill.generate.asked import Asked
from watchbill.generate.pace import MINUTE
from watchbill.generate.rules import Alert
from watchbill.generate.texts import (
    AT_LOCATION,
    HANDLER,
    NUMBER,
    REASON_LABEL,
    SHARE,
    SPAN,
    TYPE,
    filled,
)
from watchbill.generate.texts import INSTANCE as INSTANCE_PIECE
from watchbill.generate.trials import Firing, Look, Query, Series, Trial
from watchbill.generate.world import INSTANCE, LOCATION, World, firing

NEVER = 'count(count_over_time(ALERTS{{alertstate="{state}", severity!="none", slo=""}}[{seconds}s])) or vector(0)'
"""Objectives have quiet tests of their own."""
OTHER_LOCATION = "us"


def quiet_trials(checks: Sequence[Check], asked: Asked, *, digest: str) -> list[Trial]:
    """What must ring nothing: all well, and a restart whose missed slots are added at once when it is over.

    ``checks``: such that each rule has one of its own among them.
    """
    return [_healthy(checks, asked, digest), _restarted(checks, asked, digest)]


def _longer_than_any(asked: Asked) -> timedelta:
    """The longest window is an hour, and what looks back for so long waits for longer."""
    return pace.window(pace.HOUR, asked) + 15 * MINUTE


def _nothing(state: str, at: timedelta) -> Query:
    return Query(at, NEVER.format(state=state, seconds=int(at.total_seconds()) + 1), {"": 0})


def _healthy(checks: Sequence[Check], asked: Asked, digest: str) -> Trial:
    world = World(asked, asked.scrape_interval, pace.window(25 * MINUTE, asked), digest)
    series = [*world.exporter(), *(series for check in checks for series in world.healthy(check))]
    at = world.length
    queries = [_nothing("pending", at), _nothing("firing", at)]
    return Trial("all well: nothing is even pending", world.step, series, (), queries)


def _restarted(checks: Sequence[Check], asked: Asked, digest: str) -> Trial:
    """As long as a restart may take, and after it eight hours' slots at once; then well for longer than any alert waits."""
    step = asked.scrape_interval
    before, gap = ceil(10 * MINUTE / step), ceil(pace.gone(asked) / step) - 1
    world = World(asked, step, _longer_than_any(asked), digest)
    rest = world.steps
    series = [
        world.own("up", f"1x{before} 0x{gap - 1} 1x{rest}"),
        world.own("watchbill_config_info", f"1x{before} stale _x{gap - 1} 1x{rest}", digest=digest),
        world.own("watchbill_config_last_reload_successful", f"1x{before} stale _x{gap - 1} 1x{rest}"),
    ]
    for check in checks:
        each = step / check.interval
        counts = f"0+{each:g}x{before} stale _x{gap - 1} 0+{each:g}x{rest}"
        at_once = f"0x{before} stale _x{gap - 1} 0x{ceil(MINUTE / step)} {28800 / check.interval.total_seconds():g}x{rest}"
        steady = f"1x{before} stale _x{gap - 1} 1x{rest}"
        slots = "watchbill_check_slots_total"
        series += [
            world.of(check, "watchbill_check_info", steady, target=target_of(check)),
            world.of(check, "watchbill_check_status", steady),
            world.of(check, "probe_success", steady, target=target_of(check)),
            world.of(check, slots, counts, outcome="success"),
            world.of(check, slots, at_once, outcome="missed"),
        ]
    return Trial(
        "a restart, and the slots it missed, page nobody",
        step,
        series,
        (),
        [_nothing("firing", world.length)],
    )


def own_trials(rules: Iterable[Alert], checks: Sequence[Check], asked: Asked, *, digest: str) -> list[Trial]:
    found = {rule.alert: rule for rule in rules}
    tests = _Own(found, asked, digest)
    return [
        tests.down(),
        tests.absent(),
        tests.configuration(),
        tests.renamed(checks),
        tests.coverage(checks),
        tests.history_and_process(),
    ]


class _Own:
    """The tests of each alert by its name, on series with and without what it is about."""

    def __init__(self, rules: Mapping[str, Alert], asked: Asked, digest: str) -> None:
        self._rules, self._asked, self._digest = rules, asked, digest

    def _world(self, length: timedelta) -> World:
        return World(self._asked, self._asked.scrape_interval, length, self._digest)

    def _fires(self, name: str, labels: Mapping[str, str], texts: Mapping[str, str]) -> Firing:
        rule = self._rules[name]
        return firing({**labels, **rule.labels}, filled(rule.annotations, texts))

    def _of_process(self, name: str, texts: Mapping[str, str] | None = None, **more: str) -> Firing:
        labels = {"job": self._job(), "instance": INSTANCE, "namespace": "monitoring", **more}
        return self._fires(name, labels, {INSTANCE_PIECE: INSTANCE, **(texts or {})})

    def _job(self) -> str:
        return self._world(MINUTE).process()["job"]

    def _until(self, length: timedelta) -> timedelta:
        evaluation = self._asked.evaluation_interval
        return ceil(length / evaluation) * evaluation

    def _before(self, name: str, begins: timedelta) -> timedelta:
        return self._until(begins + self._rules[name].hold) - self._asked.evaluation_interval

    def down(self) -> Trial:
        name, step = "WatchbillExporterDown", self._asked.scrape_interval
        world = self._world(pace.gone(self._asked) + pace.absent(self._asked) + 6 * step)
        at = self._until(world.length)
        series = [world.own("up", f"1x1 0x{world.steps}")]
        labels = dict(series[0].labels)
        looks = [
            Look(self._before(name, 2 * step), name),
            Look(at, name, [self._fires(name, labels, {INSTANCE_PIECE: INSTANCE})]),
            Look(at, "WatchbillExporterAbsent"),
            Look(at, "WatchbillWatchdog", [self._fires("WatchbillWatchdog", {}, {})]),
        ]
        return Trial("an exporter that does not answer is down, not absent", step, series, looks)

    def absent(self) -> Trial:
        name, step = "WatchbillExporterAbsent", self._asked.scrape_interval
        world = self._world(pace.absent(self._asked) + 6 * step)
        series = [
            world.own("up", "1x1 stale"),
            Series("up", {"job": "another", "instance": "10.0.0.1:9100"}, world.steady(1)),
        ]
        at = self._until(world.length)
        looks = [
            Look(self._before(name, 2 * step), name),
            Look(at, name, [self._fires(name, {}, {})]),
            Look(at, "WatchbillExporterDown"),
        ]
        return Trial("an exporter whose target is gone is absent", step, series, looks)

    def configuration(self) -> Trial:
        """Refused for a while and mended; another one for good."""
        step, other = self._asked.scrape_interval, "WatchbillConfigMismatch"
        refusals = {
            "WatchbillConfigReloadFailed": "watchbill_config_last_reload_successful",
            "WatchbillWebConfigReloadFailed": "watchbill_web_config_last_reload_successful",
        }
        failing = 4 + max(ceil(self._rules[name].hold / step) for name in refusals)
        world = self._world(40 * MINUTE)
        series = [world.own("watchbill_config_info", world.steady(1), digest="another", revision="4f2a")]
        looks = []
        for name, metric in refusals.items():
            series.append(world.own(metric, f"1x1 0x{failing} 1x{world.steps}"))
            looks += [
                Look(self._before(name, 2 * step), name),
                Look(self._until((failing + 1) * step), name, [self._of_process(name)]),
                Look(self._until((failing + 3) * step), name),
            ]
        if other in self._rules:
            late = self._until(self._rules[other].hold) + self._asked.evaluation_interval
            looks += [
                Look(self._before(other, timedelta()), other),
                Look(late, other, [self._of_process(other)]),
            ]
        return Trial("a refused configuration rings, and one that is not the rules'", step, series, looks)

    def renamed(self, checks: Sequence[Check]) -> Trial:
        """As where service discovery attaches a service, and the scrape does not honour the exporter's."""
        step, name = self._asked.scrape_interval, "WatchbillLabelsRewritten"
        at = self._until(self._rules[name].hold) + self._asked.evaluation_interval
        world = self._world(at)
        attached = {"service": "watchbill", "exported_service": "shop"}
        series = [
            world.of(check, "watchbill_check_info", world.steady(1), **attached) for check in checks[:2]
        ]
        labels = {"job": self._job(), "namespace": "monitoring"}
        fires = [self._fires(name, labels, {NUMBER: f"{len(series)}"})] if series else []
        looks = [Look(self._before(name, timedelta()), name), Look(at, name, fires)]
        return Trial("labels that the scrape renames ring", step, series, looks)

    def coverage(self, checks: Sequence[Check]) -> Trial:
        """Nine tenths at one place, 96 of 100 at another; an own error here, a failing target there."""
        step = max(MINUTE, self._asked.scrape_interval)
        low, own, raised = "WatchbillCoverageLow", "WatchbillOwnSideErrors", "WatchbillHandlerErrors"
        at = self._until(self._rules[low].hold + 4 * step)
        world = World(self._asked, step, at, self._digest)
        window = ceil(pace.window(15 * MINUTE, self._asked) / step)
        series = [
            world.own("watchbill_failures_total", world.rising(1), type="icmp", reason="permission"),
            world.own("watchbill_failures_total", world.rising(1), type="icmp", reason="loss"),
            world.own(
                "watchbill_failures_total", f"0x{window} 2x{world.steps}", type="http", reason="network"
            ),
            world.own("watchbill_handler_errors_total", world.rising(1), handler="writer"),
            world.own("watchbill_handler_errors_total", world.steady(0), handler="board"),
        ]
        seconds = pace.window(15 * MINUTE, self._asked).total_seconds()
        labels = {"job": self._job(), "namespace": "monitoring"}
        number = {NUMBER: _humanized(seconds)}
        looks = [
            Look(
                at,
                own,
                [
                    self._fires(
                        own,
                        {**labels, "type": "icmp", "reason": "permission"},
                        {TYPE: "icmp", REASON_LABEL: "permission", **number},
                    )
                ],
            ),
            Look(
                at,
                raised,
                [self._fires(raised, {**labels, "handler": "writer"}, {HANDLER: "writer", **number})],
            ),
        ]
        for check in checks[:1]:
            slots = "watchbill_check_slots_total"
            for place, counts in (
                (LOCATION, {"success": 85, "failure": 5, "skipped": 10, "excused": 50}),
                (OTHER_LOCATION, {"success": 90, "failure": 6, "missed": 4}),
            ):
                series += [
                    world.of(check, slots, world.rising(count), location=place, outcome=outcome)
                    for outcome, count in counts.items()
                ]
            texts = {SHARE: "90%", AT_LOCATION: f" at {LOCATION}"}
            looks.append(Look(self._before(low, step), low))
            looks.append(Look(at, low, [self._fires(low, {**labels, "location": LOCATION}, texts)]))
        return Trial("errors of the own side and a low coverage ring", step, series, looks)

    def history_and_process(self) -> Trial:
        """A disk that is full from the start, and drops at last; one that is slow; a loop that is late."""
        step = max(MINUTE, self._asked.scrape_interval)
        unwritten, dropping = "WatchbillHistoryNotWritten", "WatchbillHistoryDropping"
        lagging, late = "WatchbillHistoryLagging", "WatchbillEventLoopLag"
        window = pace.window(5 * MINUTE, self._asked)
        at = self._until(window + 15 * MINUTE)
        world = World(self._asked, step, at, self._digest)
        drops = world.steps - 3
        slow = {"job": self._job(), "instance": "10.0.0.8:9876", "namespace": "monitoring"}
        series = [
            world.own("watchbill_history_rows_total", world.steady(1000)),
            world.own("watchbill_history_pending", world.steady(600)),
            world.own("watchbill_history_dropped_rows_total", f"0x{drops} 60x{world.steps}"),
            Series("watchbill_history_rows_total", slow, world.rising(2)),
            Series("watchbill_history_pending", slow, world.steady(61)),
            *world.lag(0.02),
        ]
        slow_texts = {INSTANCE_PIECE: slow["instance"], NUMBER: "61"}
        looks = [
            Look(self._before(unwritten, step), unwritten),
            Look(at, unwritten, [self._of_process(unwritten, {NUMBER: "600"}, pod=world.process()["pod"])]),
            Look(self._until((drops - 1) * step), dropping),
            Look(self._before(lagging, step), lagging),
            Look(at, lagging, [self._fires(lagging, slow, slow_texts)]),
            Look(self._before(late, step), late),
            Look(at, late, [self._of_process(late, {SPAN: "75ms"})]),
        ]
        fires = f'count(ALERTS{{alertname="{dropping}", alertstate="firing"}}) or vector(0)'
        return Trial(
            "a full disk, a slow one and a late event loop ring",
            step,
            series,
            looks,
            [Query(at, fires, {"": 1})],
        )


def _humanized(value: float) -> str:
    """As Prometheus' ``humanize`` writes numbers up to thousands."""
    return f"{value:.4g}" if value < 1000 else f"{value / 1000:.4g}k"
