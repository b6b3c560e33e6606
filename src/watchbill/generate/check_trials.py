"""Tests of the alerts on single checks, whose series are those that the checks would have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from math import ceil

from watchbill.domain.checks import target_of
from watchbill.domain.config import Config
from watchbill.generate import pace
from watchbill.generate.asked import Asked
from watchbill.generate.checks import Ruled, ahead_of, ruled_checks
from watchbill.generate.pace import MINUTE
from watchbill.generate.promql import braces
from watchbill.generate.texts import (
    AT_LOCATION,
    CHECK,
    FAILING_BECAUSE,
    NUMBER,
    SEEN_FROM,
    SHARE,
    SPAN,
    TARGET,
    TYPE,
    filled,
)
from watchbill.generate.trials import Firing, Look, Query, Series, Trial
from watchbill.generate.world import LOCATION, NEXT_INSTANCE, World, firing, human_span, kept

QUICK = 30 * MINUTE
"""What waits for longer is tested at a slower pace, in a file of its own."""
MOST_OF_A_RULE = 1000
"""promtool loads at most 10,000 samples for a query."""
SLOW_SCRAPE = 4 * MINUTE
"""As seldom as leaves no series stale."""
SLOW_EVALUATION = 12 * MINUTE


def check_trials(config: Config, asked: Asked, *, slow: bool = False) -> list[Trial]:
    """``slow``: only of the alerts that wait for longer than ``QUICK``."""
    found = list(ruled_checks(config, asked))
    downs = [ruled for ruled in _named("WatchbillCheckDown", found) if (ruled.alert.hold > QUICK) == slow]
    gone = pace.gone(asked)
    if slow:
        asked = replace(asked, scrape_interval=SLOW_SCRAPE, evaluation_interval=SLOW_EVALUATION)
    trials = (
        [_hard_down(downs, asked), _through_a_restart(downs, asked, gone), _blip(downs, asked)]
        if downs
        else []
    )
    if slow or not found:
        return trials
    return [
        *trials,
        _unknown(_named("WatchbillChecksUnknown", found), asked),
        *_certificates(found, asked),
        _unwatched(_named("WatchbillCheckUnwatched", found), asked),
    ]


def slow_alerts(config: Config, asked: Asked) -> int:
    """How many alerts only the slow tests are for."""
    return sum(
        ruled.alert.hold > QUICK for ruled in _named("WatchbillCheckDown", ruled_checks(config, asked))
    )


def _named(alert: str, found: Iterable[Ruled]) -> list[Ruled]:
    return [ruled for ruled in found if ruled.alert.alert == alert]


def _until(span: timedelta, pace_of: timedelta) -> timedelta:
    """The first evaluation at which so much has passed."""
    return ceil(span / pace_of) * pace_of


def ever(alert: str, state: str, at: timedelta) -> Query:
    """How many alerts of that name were ever in that state, where there should be none."""
    return ever_so_many(alert, state, at, 0)


def ever_so_many(alert: str, state: str, at: timedelta, count: int) -> Query:
    labels = braces({"alertname": alert, "alertstate": state})
    window = int(at.total_seconds()) + 1
    return Query(at, f"count(count_over_time(ALERTS{labels}[{window}s])) or vector(0)", {"": count})


# --- down ---------------------------------------------------------------------------------------------


def _hard_down(downs: Sequence[Ruled], asked: Asked) -> Trial:
    """Every check of every rule (of very many, some throughout), counted by what tells the rules apart."""
    step = asked.scrape_interval
    begins = _until(2 * step, asked.evaluation_interval)
    longest = max(_until(ruled.alert.hold, asked.evaluation_interval) for ruled in downs)
    world = World(asked, step, begins + longest)
    series, queries = [], []
    for ruled in downs:
        labels = {"service": "", "owner": "", **filled(ruled.alert.labels, {})}
        chosen = braces({"alertname": ruled.alert.alert, "alertstate": "firing", **labels})
        rings = begins + _until(ruled.alert.hold, asked.evaluation_interval)
        count = f"count(ALERTS{chosen}) or vector(0)"
        queries.append(Query(rings - asked.evaluation_interval, count, {"": 0}))
        checks = tuple(asked.examples(ruled.checks))
        some = checks if len(checks) <= MOST_OF_A_RULE else checks[:: len(checks) // MOST_OF_A_RULE]
        queries.append(Query(rings, count, {"": len(some)}))
        values = f"1x1 0x{world.steps}"
        series += [world.of(check, "watchbill_check_status", values) for check in some]
    return Trial(
        "checks that are down ring once their wait is over, and not before", step, series, (), queries
    )


def _through_a_restart(downs: Sequence[Ruled], asked: Asked, gone: timedelta) -> Trial:
    """The exporter comes back as another pod at another address, as late as it may without counting as gone."""
    step = asked.scrape_interval
    first = max(ceil(ruled.alert.hold / step) for ruled in downs) + 2
    gap = ceil(gone / step) - 1
    last = first + gap + 3
    world = World(asked, step, last * step)
    series = [
        world.own("up", f"1x{first} 0x{last - first}"),
        world.own("up", f"_x{first + gap} 1x{last}", instance=NEXT_INSTANCE),
    ]
    alerts = []
    for ruled in downs:
        check = ruled.checks[0]
        status = world.of(check, "watchbill_check_status", f"0x{first} stale")
        after = world.of(check, "watchbill_check_status", f"_x{first + gap} 0x{last}", instance=NEXT_INSTANCE)
        why = world.of(check, "watchbill_check_failing", f"1x{first} stale", reason="refused")
        series += [status, after, why]
        texts = {
            CHECK: check.id,
            TYPE: check.type,
            SEEN_FROM: f", seen from {LOCATION}",
            FAILING_BECAUSE: " Reason: refused.",
        }
        alerts.append(firing(kept(status, ruled.alert.labels), filled(ruled.alert.annotations, texts)))
    name = "WatchbillCheckDown"
    there = f"count(ALERTS{braces({'alertname': name, 'alertstate': 'firing'})}) or vector(0)"
    anew = f"count(ALERTS{braces({'alertname': name, 'alertstate': 'pending'})}) or vector(0)"
    within = _until((first + 1) * step, asked.evaluation_interval)
    queries = [
        query
        for at in (within, _until(last * step, asked.evaluation_interval))
        for query in (Query(at, there, {"": len(downs)}), Query(at, anew, {"": 0}))
    ]
    rung = _until(max(ruled.alert.hold for ruled in downs), asked.evaluation_interval)
    looks = [Look(rung, name, alerts)]
    return Trial(
        "an alert names the check, its people and the reason, and a restart neither ends nor repeats it",
        step,
        series,
        looks,
        queries,
    )


def _blip(downs: Sequence[Ruled], asked: Asked) -> Trial:
    """One failed slot, seen for as long as can be: answered at once, the next one only at its timeout."""
    step = asked.scrape_interval
    longest = max(ruled.alert.hold // step for ruled in downs)
    world = World(asked, step, (longest + 4) * step)
    series = []
    for ruled in downs:
        check = max(ruled.checks, key=lambda check: check.interval + check.timeout)
        scrapes = min(ceil((check.interval + check.timeout) / step) + 1, ruled.alert.hold // step)
        values = f"1x1 0x{scrapes - 1} 1x{world.steps}"
        series.append(world.of(check, "watchbill_check_status", values))
    at = _until(world.length, asked.evaluation_interval)
    name = "WatchbillCheckDown"
    queries = [ever(name, "firing", at), ever_so_many(name, "pending", at, len(downs))]
    return Trial("a single failed slot pages nobody", step, series, (), queries)


# --- unknown, unwatched -------------------------------------------------------------------------------


def _unknown(unknowns: Sequence[Ruled], asked: Asked) -> Trial:
    step = asked.scrape_interval
    waits = [_until(ruled.alert.hold, asked.evaluation_interval) for ruled in unknowns]
    world = World(asked, step, max(waits))
    series, alerts = [], []
    for ruled in unknowns:
        some = ruled.checks[:2]
        found = [
            world.of(check, "watchbill_check_info", world.steady(1), target=target_of(check))
            for check in some
        ]
        series += found
        texts = {NUMBER: f"{len(some)}", AT_LOCATION: f" at {LOCATION}"}
        left = {name: found[0].labels[name] for name in ("job", "namespace", "location")}
        alerts.append(firing({**left, **ruled.alert.labels}, filled(ruled.alert.annotations, texts)))
    name = "WatchbillChecksUnknown"
    looks = [Look(min(waits) - asked.evaluation_interval, name), Look(max(waits), name, alerts)]
    return Trial("checks without a status ring once for each service", step, series, looks)


def _unwatched(ruled_ones: Sequence[Ruled], asked: Asked) -> Trial:
    """Of what was meant to run, four tenths have a verdict of the first check of each rule, six tenths of the second."""
    step = max(MINUTE, asked.scrape_interval)
    rings = ruled_ones[0].alert.hold + 5 * MINUTE
    world = World(asked, step, rings)
    series: list[Series] = []
    alerts: list[Firing] = []
    for ruled in ruled_ones:
        for check, verdicts in zip(ruled.checks, (4, 6), strict=False):
            seldom = check.interval > pace.SELDOM
            info = world.of(check, "watchbill_check_info", world.steady(1), target=target_of(check))
            series.append(info)
            counts = {"success": verdicts - 1, "failure": 1, "error": 10 - verdicts, "excused": 10}
            series += [
                world.of(check, "watchbill_check_slots_total", world.rising(count), outcome=outcome)
                for outcome, count in counts.items()
            ]
            if verdicts == 6 and seldom:
                series.append(world.of(check, "probe_success", world.steady(1), target=target_of(check)))
            if verdicts == 4:
                labels = kept(info, ruled.alert.labels)
                labels.pop("target")
                texts = {CHECK: check.id, SHARE: "0%" if seldom else "40%"}
                alerts.append(firing(labels, filled(ruled.alert.annotations, texts)))
    name = "WatchbillCheckUnwatched"
    looks = [Look(ruled_ones[0].alert.hold - 5 * MINUTE, name), Look(rings, name, alerts)]
    return Trial("a check that hardly gets a verdict rings after more than an hour", step, series, looks)


# --- certificates -------------------------------------------------------------------------------------


def _certificates(found: Sequence[Ruled], asked: Asked) -> Iterator[Trial]:
    expiring = _named("WatchbillCertificateExpiring", found)
    if expiring:
        yield _expiring(expiring, asked)
        yield _expired(_named("WatchbillCertificateExpired", found), asked, expiring[0].alert.hold)


def _expiring(ruled_ones: Sequence[Ruled], asked: Asked) -> Trial:
    """Each a day before or after it should ring; one error in between is no end of it."""
    step, name = asked.scrape_interval, "WatchbillCertificateExpiring"
    hold = ruled_ones[0].alert.hold
    at = _until(hold + 4 * step, asked.evaluation_interval)
    world = World(asked, step, at)
    series, alerts = [], []
    for ruled in ruled_ones:
        for ahead in sorted({ahead_of(check) for check in ruled.checks}):
            near, *others = [check for check in ruled.checks if ahead_of(check) == ahead]
            ends = ahead - timedelta(days=1)
            seconds = ends.total_seconds()
            values = f"{seconds:g}x{world.steps // 2} stale {seconds:g}x{world.steps}"
            seen = world.of(near, "probe_ssl_earliest_cert_expiry", values, target=target_of(near))
            series.append(seen)
            series += [world.certificate(far, ahead + timedelta(days=1)) for far in others[:1]]
            texts = {CHECK: near.id, TARGET: target_of(near), SPAN: human_span(ends - at)}
            alerts.append(firing(kept(seen, ruled.alert.labels), filled(ruled.alert.annotations, texts)))
    looks = [
        Look(_until(hold, asked.evaluation_interval) - asked.evaluation_interval, name),
        Look(at, name, alerts),
    ]
    return Trial("a certificate rings before it runs out", step, series, looks)


def _expired(ruled_ones: Sequence[Ruled], asked: Asked, hold: timedelta) -> Trial:
    """What has run out rings anew, and not as expiring any more, however long that waits."""
    step, name = asked.scrape_interval, "WatchbillCertificateExpired"
    ends = 4 * max(step, asked.evaluation_interval)
    world = World(asked, step, ends + hold + ends)
    series, alerts = [], []
    for ruled in ruled_ones:
        check = ruled.checks[0]
        seen = world.certificate(check, ends)
        series.append(seen)
        texts = {CHECK: check.id, TARGET: target_of(check)}
        alerts.append(firing(kept(seen, ruled.alert.labels), filled(ruled.alert.annotations, texts)))
    late = _until(world.length, asked.evaluation_interval)
    looks = [
        Look(_until(ends / 2, asked.evaluation_interval), name),
        Look(_until(2 * ends, asked.evaluation_interval), name, alerts),
        Look(late, "WatchbillCertificateExpiring"),
    ]
    return Trial("a certificate that has run out rings at once", step, series, looks)
