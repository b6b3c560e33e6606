"""Tests of the alerts on discovery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from math import ceil

from watchbill.domain.discovery import Discovery
from watchbill.generate.asked import Asked
from watchbill.generate.own_discovery import DROPPED, FAILING, KEPT, by_refresh, seen_for
from watchbill.generate.pace import HOUR, MINUTE
from watchbill.generate.rules import Alert
from watchbill.generate.texts import DISCOVERY, NUMBER, REASON_LABEL, filled
from watchbill.generate.trials import Firing, Look, Series, Trial
from watchbill.generate.world import NEXT_INSTANCE, World, firing

QUICK = 2 * HOUR
"""What waits for longer is not tried out."""
FAILURES, LOST = "watchbill_discovery_failures_total", "watchbill_discovery_kept_targets"


def discovery_trials(rules: Iterable[Alert], blocks: Mapping[str, Discovery], asked: Asked) -> list[Trial]:
    found = list(rules)
    failing = [rule for rule in found if rule.alert == FAILING]
    trials = [
        trial
        for rule, (refresh, names) in zip(failing, sorted(by_refresh(blocks).items()), strict=True)
        if rule.hold <= QUICK
        for trial in _failing(rule, refresh, names[-1], asked)
    ]
    return [*trials, *_targets({rule.alert: rule for rule in found}, asked, next(iter(blocks), ""))]


def _failing(rule: Alert, refresh: timedelta, name: str, asked: Asked) -> Iterator[Trial]:
    """As seldom as it is asked, and over a restart; then one failure alone."""
    step = max(asked.scrape_interval, MINUTE)
    every = max(1, ceil(refresh / step))
    failed = " ".join(f"{count}x{every - 1}" for count in range(1, ceil(2 * rule.hold / step / every) + 2))
    whole = World(asked, step, rule.hold + 3 * every * step + seen_for(refresh, asked))
    half = ceil(rule.hold / 2 / step)
    before, after = (
        whole.own(FAILURES, f"0x3 {failed}", discovery=name),
        whole.own(FAILURES, f"_x{half} 0x0 {failed}", discovery=name, instance=NEXT_INSTANCE),
    )
    series = [Series(before.name, before.labels, _first(before.values, half)), after]
    begins, at = 3 * step, _until(whole.length, asked)
    labels = {"job": before.labels["job"], "namespace": before.labels["namespace"], "discovery": name}
    ringing = firing({**labels, **rule.labels}, filled(rule.annotations, {DISCOVERY: name}))
    looks = [
        Look(_until(begins + rule.hold, asked) - asked.evaluation_interval, FAILING),
        Look(at, FAILING, [ringing]),
    ]
    yield Trial(f"a source that fails rings, and a restart does not end it: {name}", step, series, looks)
    twice = whole.own(FAILURES, f"0x3 1x{every} 2x{whole.steps}", discovery=name)
    silent = [Look(_until(share * whole.length, asked), FAILING) for share in (0.4, 0.6, 0.8, 1.0)]
    yield Trial(f"a source that fails twice rings nobody: {name}", step, [twice], silent)


def _first(values: str, count: int) -> str:
    """The first so many values and no more."""
    written = [
        piece[0]
        for each in values.split()
        for piece in [each.partition("x")] * (int(each.partition("x")[2]) + 1)
    ]
    return " ".join([*written[:count], "stale"])


def _until(length: timedelta, asked: Asked) -> timedelta:
    return ceil(length / asked.evaluation_interval) * asked.evaluation_interval


def _targets(rules: Mapping[str, Alert], asked: Asked, name: str) -> Iterator[Trial]:
    """Seven that are not valid, three that are gone; and none for a while."""
    if KEPT not in rules:
        return
    hold = rules[KEPT].hold
    step = asked.scrape_interval
    world = World(asked, step, hold + 4 * step)
    dropped = "watchbill_discovery_dropped_targets"
    series = [
        world.own(dropped, f"0x1 7x{world.steps}", discovery=name, reason="invalid"),
        world.own(dropped, world.steady(0), discovery=name, reason="duplicate"),
        world.own(LOST, f"0x1 3x{world.steps}", discovery=name),
        world.own(LOST, world.steady(0), discovery="another"),
    ]
    labels = {name: series[0].labels[name] for name in ("job", "namespace", "discovery")}
    early, at = _until(2 * step + hold, asked) - asked.evaluation_interval, _until(world.length, asked)
    texts = {DISCOVERY: name, REASON_LABEL: "invalid"}

    def fires(alert: str, number: str, **more: str) -> Firing:
        rule = rules[alert]
        return firing({**labels, **more, **rule.labels}, filled(rule.annotations, {**texts, NUMBER: number}))

    looks = [
        Look(early, DROPPED),
        Look(at, DROPPED, [fires(DROPPED, "7", reason="invalid")]),
        Look(early, KEPT),
        Look(at, KEPT, [fires(KEPT, "3")]),
    ]
    yield Trial(
        "targets that are no checks ring, and those that are probed although gone", step, series, looks
    )
