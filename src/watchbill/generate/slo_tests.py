"""Unit tests of the rules that ``slos`` makes: each alert rings where it must, and nowhere else.

What they expect is worked out from the objectives, not from the rules: how much of an indicator is bad, weighed by
interval, and so how fast its budget burns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from watchbill.domain.config import Config
from watchbill.domain.fields import Service
from watchbill.domain.slo import FEWEST_FAILURES, REFERENCE_WINDOW, Severity, pairs_of
from watchbill.generate.asked import Asked
from watchbill.generate.counters import Phase, Slots, counters
from watchbill.generate.indicators import Indicator, indicators
from watchbill.generate.promql import braces
from watchbill.generate.slos import (
    BRIDGED_SCRAPES,
    BURN_ALERT,
    GOOD,
    OBJECTIVE,
    REMAINING,
    UNMEASURED_ALERT,
    UNMEASURED_FOR,
    alert_labels,
)
from watchbill.generate.trials import Query, Trial

MANY = 1_000_000
"""Slots between two scrapes: a share of them is a share to six digits."""
BURNS = (0.5, 2, 4.5, 10)
"""Between the factors of the pairs: what rings none, the last, the last two, and all but the first."""
STEADY = 12
"""Scrapes of the same, after which every window has its share."""
BURST, BURST_AFTER = timedelta(minutes=5), timedelta(minutes=65)
BURST_BURN = 60
"""Over 65 minutes of health: 60 in 5m, 10 in 30m, 5 in 1h and 4.3 in 6h, so that only the long windows are silent."""
MOST_SCRAPES = 400
"""Of one test: what takes longer, because scrapes are frequent or windows long, is left to those that are not."""
LOOKBACK = timedelta(minutes=5)
NEAR = 0.02
"""Burn rates that are as near to a factor are left to chance by rounding, and are not tested."""


def slo_trials(config: Config, asked: Asked) -> list[Trial]:
    """The tests that fit :func:`watchbill.generate.slos.slo_groups` of the same arguments."""
    found = indicators(config, asked)
    if not found:
        return []
    scene = _Scene(found, config.services, asked.scrape_interval)
    return [
        _healthy(scene),
        _down_and_up_again(scene),
        _blip(scene),
        *(_slow_burn(scene, burn) for burn in BURNS),
        *_burst(scene),
        *_slow_answers(scene),
        *_slowest_fail(scene),
        _gone_and_back(scene),
        *_scraped_too_rarely(scene),
    ]


@dataclass(frozen=True)
class _Scene:
    indicators: Sequence[Indicator]
    services: Mapping[str, Service]
    scrape: timedelta

    def trial(self, name: str, phases: Sequence[Phase], queries: Iterable[Query]) -> Trial:
        return Trial(
            f"objectives: {name}", self.scrape, counters(self.indicators, phases), queries=list(queries)
        )

    def at(self, scrapes: int) -> timedelta:
        return scrapes * self.scrape

    def ringing(
        self, scrapes: int, severities: Mapping[Indicator, Iterable[Severity]], alert: str = BURN_ALERT
    ) -> Query:
        """Exactly these alerts of that name."""
        labels = (
            {"alertname": alert, "alertstate": "firing", **alert_labels(each, self.services, severity)}
            for each, wanted in severities.items()
            for severity in wanted
        )
        samples = {f"ALERTS{braces(dict(sorted(each.items())))}": 1.0 for each in labels}
        chosen = {"alertname": alert, "alertstate": "firing"}
        return Query(self.at(scrapes), f"ALERTS{braces(chosen)}", samples)

    def silent(self, scrapes: int) -> Iterator[Query]:
        for alert in (BURN_ALERT, UNMEASURED_ALERT):
            yield self.ringing(scrapes, {}, alert)

    def value(self, scrapes: int, indicator: Indicator, name: str, value: float) -> Query:
        difference = f"abs({indicator.recorded(name)} - {value:.9g}) < bool 1e-06"
        return Query(self.at(scrapes), f"sum({difference})", {"": 1.0})


def _healthy(scene: _Scene) -> Trial:
    """Errors of our own and missed slots among it, and more of them than of successes."""
    queries = list(scene.silent(STEADY))
    for each in scene.indicators:
        for name, value in ((OBJECTIVE, float(each.objective) / 100), (GOOD, 1), (REMAINING, 1)):
            queries.append(scene.value(STEADY, each, name, value))
    return scene.trial(
        "all is well but for Watchbill itself", [Phase(STEADY, Slots(fast=1, outside=2))], queries
    )


def _down_and_up_again(scene: _Scene) -> Trial:
    """Down from the start, so that it is all that any window holds. It ends with the short windows of the pages."""
    down = 20
    shorts = {each: _longest_short(each, scene) for each in scene.indicators}
    recovering = {each: short for each, short in shorts.items() if short <= MOST_SCRAPES * scene.scrape}
    up = max((short // scene.scrape for short in recovering.values()), default=0) + 2 * BRIDGED_SCRAPES
    queries = [scene.ringing(down, {each: _severities(each, scene) for each in scene.indicators})]
    queries += [_ringing_of(scene, down + up, each, [], severity="critical") for each in recovering]
    phases = [Phase(down, Slots(failed=1)), Phase(up, Slots(fast=1))]
    return scene.trial("hard down, and up again", phases, queries)


def _longest_short(indicator: Indicator, scene: _Scene) -> timedelta:
    pages = indicator.pairs(scene.scrape).get("critical", [])
    return max((pair.short for pair in pages), default=timedelta())


def _severities(indicator: Indicator, scene: _Scene, share: float = 1.0) -> list[Severity]:
    """Which ring while so much of every window is bad."""
    if not indicator.slo.alerts:
        return []
    burn = share / float(indicator.budget.share)
    return [
        severity
        for severity, pairs in indicator.pairs(scene.scrape).items()
        if any(burn > pair.factor for pair in pairs)
    ]


def _blip(scene: _Scene) -> Trial:
    """One failure and no other slot burns as fast as can be, and pages nobody; a second one does.

    Each is looked at two scrapes later, when it is counted in full and is still in the shortest of short windows.
    """
    chosen: set[str] = set()
    for each in scene.indicators:
        if chosen.isdisjoint(check.id for check in each.checks):
            chosen.add(each.checks[0].id)
    once = {check_id: Slots(failed=1) for check_id in chosen}
    phases = [Phase(5), Phase(1, once), Phase(5), Phase(1, once), Phase(2)]
    queries = [
        scene.ringing(
            scrapes, {each: _with_failures(each, scene, failures, chosen) for each in scene.indicators}
        )
        for scrapes, failures in ((8, 1), (14, 2))
    ]
    return scene.trial("a single probe fails, then a second", phases, queries)


def _with_failures(each: Indicator, scene: _Scene, failures: int, chosen: set[str]) -> list[Severity]:
    seen = failures * sum(check.id in chosen for check in each.checks)
    return _severities(each, scene) if seen >= FEWEST_FAILURES else []


def _slow_burn(scene: _Scene, burn: float) -> Trial:
    """Each check fails as often as burns the budget so fast of the first objective that it belongs to."""
    shares: dict[str, float] = {}
    for each in scene.indicators:
        for check in each.checks:
            shares.setdefault(check.id, min(1.0, burn * float(each.budget.share)))
    slots = {check_id: _failing(share) for check_id, share in shares.items()}
    return _steady(scene, f"a burn rate of {burn:g}", slots)


def _failing(share: float) -> Slots:
    failed = round(share * MANY)
    return Slots(fast=MANY - failed, failed=failed, outside=MANY)


def _burst(scene: _Scene) -> Iterator[Trial]:
    """Too short for the long windows of the pages; of objectives over 30 days, since others have other windows."""
    shares: dict[str, float] = {}
    for each in scene.indicators:
        share = BURST_BURN * float(each.budget.share)
        if each.slo.window == REFERENCE_WINDOW and share < 1:
            for check in each.checks:
                shares.setdefault(check.id, share)
    judged = [each for each in scene.indicators if _bursting(each, shares)]
    before, burst = BURST_AFTER // scene.scrape, BURST // scene.scrape
    if judged and before + burst <= MOST_SCRAPES:
        slots = {check_id: _failing(share) for check_id, share in shares.items()}
        phases = [Phase(before, Slots(fast=MANY)), Phase(burst, slots)]
        queries = [_ringing_of(scene, before + burst, each, [], severity="critical") for each in judged]
        yield scene.trial("a burst that is over before it matters", phases, queries)


def _bursting(indicator: Indicator, shares: Mapping[str, float]) -> bool:
    """Whether all of it fails at just the rate that tells long windows from short ones."""
    wanted = BURST_BURN * float(indicator.budget.share)
    return all(shares.get(check.id) == wanted for check in indicator.checks)


def _slow_answers(scene: _Scene) -> Iterator[Trial]:
    if any(each.within is not None for each in scene.indicators):
        half = Slots(fast=MANY // 2, slow=MANY // 2, outside=MANY)
        checks = {check.id: half for each in scene.indicators for check in each.checks}
        yield _steady(scene, "half of all answers come late", checks)


def _slowest_fail(scene: _Scene) -> Iterator[Trial]:
    """Half of the slots of the checks with the longest interval: each counts for so many seconds."""
    slowest = {
        check.id
        for each in scene.indicators
        if len(each.ids) > 1
        for check in each.checks
        if check.interval == each.budget.interval
    }
    if slowest:
        checks = {check.id for each in scene.indicators for check in each.checks}
        slots = {check_id: _failing(0.5 if check_id in slowest else 0.0) for check_id in checks}
        yield _steady(scene, "the slowest checks of each fail half of the time", slots)


def _steady(scene: _Scene, name: str, slots: Mapping[str, Slots]) -> Trial:
    """The same all the time, so that every window has the same share of what is bad."""
    shares = {each: _share(each, slots) for each in scene.indicators}
    decided = {each: share for each, share in shares.items() if _decided(each, share)}
    queries = []
    for each, share in decided.items():
        queries += [
            scene.value(STEADY, each, GOOD, 1 - share),
            _ringing_of(scene, STEADY, each, _severities(each, scene, share)),
        ]
    return scene.trial(name, [Phase(STEADY, slots)], queries)


def _ringing_of(
    scene: _Scene, scrapes: int, each: Indicator, severities: Iterable[Severity], **chosen: str
) -> Query:
    """The burn-rate alerts of one indicator; ``chosen``: those with these labels."""
    found = scene.ringing(scrapes, {each: severities})
    labels = {"within": "", **each.labels, "alertname": BURN_ALERT, "alertstate": "firing", **chosen}
    return Query(found.at, f"ALERTS{braces(labels)}", found.samples)


def _share(indicator: Indicator, slots: Mapping[str, Slots]) -> float:
    bad = judged = 0.0
    for check in indicator.checks:
        seen, weight = slots[check.id], check.interval.total_seconds()
        slow = seen.slow if indicator.within is not None else 0
        bad += weight * (seen.failed + slow)
        judged += weight * (seen.fast + seen.slow + seen.failed)
    return bad / judged


def _decided(indicator: Indicator, share: float) -> bool:
    burn = share / float(indicator.budget.share)
    return all(abs(burn / float(pair.factor) - 1) > NEAR for pair in pairs_of(indicator.slo.window))


def _gone_and_back(scene: _Scene) -> Trial:
    """A restart, and a longer absence: counters begin anew, and slots were missed. Neither is bad, nor good."""
    phases = [
        Phase(20, Slots(fast=1)),
        Phase(10, Slots(fast=1, outside=50), anew=True),
        Phase(30, gone=True),
        Phase(20, Slots(fast=1, outside=50), anew=True),
    ]
    queries = [query for scrapes in (25, 45, 60, 79) for query in scene.silent(scrapes)]
    queries += [scene.value(79, each, name, 1) for each in scene.indicators for name in (GOOD, REMAINING)]
    return scene.trial("a restart with missed slots, and an exporter gone and back", phases, queries)


def _scraped_too_rarely(scene: _Scene) -> Iterator[Trial]:
    every = BRIDGED_SCRAPES + 2
    scrapes = UNMEASURED_FOR // scene.scrape + 3 * every
    if every * scene.scrape >= LOOKBACK or scrapes > MOST_SCRAPES:
        return  # Prometheus forgets the series between two such scrapes
    alerting = {each: ["warning"] if each.slo.alerts else [] for each in scene.indicators}
    queries = [scene.ringing(scrapes, alerting, UNMEASURED_ALERT)]  # type: ignore[arg-type]
    yield scene.trial(
        "scraped too rarely for the rules", [Phase(scrapes, Slots(fast=1), every=every)], queries
    )
