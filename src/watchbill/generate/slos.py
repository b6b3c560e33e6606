"""Recording and alerting rules of the objectives under ``slos:``.

For each indicator two rates are recorded at each scrape, of slots that were bad and of all that had a verdict, every
check weighed by its interval. Whatever is longer is a sum over those, bad by all: an average of ratios would be
spoilt by the first window without a slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import groupby
from typing import TypeAlias

from watchbill.domain.config import Config
from watchbill.domain.fields import Service
from watchbill.domain.slo import FEWEST_FAILURES, Pair, Severity, pairs_of
from watchbill.generate.asked import Asked
from watchbill.generate.indicators import Indicator, indicators
from watchbill.generate.rules import Alert, Group, Recording, Rule
from watchbill.generate.texts import NUMBER, said, span

BRIDGED_SCRAPES = 3
"""How many scrapes back the last sample of a counter may lie: two in a row may fail."""
BUDGET_STEPS = 8640
"""How often in its window the budget is reckoned anew: every 5 minutes for 30 days."""
ROUNDING = 0.5
"""What a count of failures may be off by: sums of fractions are never quite whole."""
UNMEASURED_FOR = timedelta(minutes=15)
BAD, ALL, FAILURES = "slo:watchbill_bad_slots:rate", "slo:watchbill_slots:rate", "slo:watchbill_failures:rate"
BURN, OBJECTIVE = "slo:watchbill_burn_rate:ratio", "slo:watchbill_objective:ratio"
WINDOW = "slo:watchbill_window:seconds"
GOOD, REMAINING = "slo:watchbill_good:ratio", "slo:watchbill_error_budget_remaining:ratio"
BURN_ALERT, UNMEASURED_ALERT = "WatchbillErrorBudgetBurn", "WatchbillObjectiveUnmeasured"
SLOTS, LATENCY = "watchbill_check_slots_total", "watchbill_check_latency_seconds"

Parts: TypeAlias = Callable[[str, Indicator, timedelta], list[str]]
"""(matcher of checks, indicator, scrape interval) -> the rates of their series, to be added up."""


def slo_groups(config: Config, asked: Asked) -> tuple[list[Group], list[str]]:
    """The groups of every objective, and what the user should know of what they leave out."""
    groups: list[Group] = []
    warnings = [
        f"slo {slo_id}: all of its checks are parked, or discovered and not known to rules; nothing is recorded"
        for slo_id, slo in sorted(config.slos.items())
        if not slo.checks(asked.known(config))
    ]
    found = indicators(config, asked)
    for slo_id, same in groupby(found, key=lambda indicator: indicator.slo_id):
        of_one = list(same)
        groups += _groups(slo_id, of_one, config, asked)
        warnings += [warning for each in of_one for warning in _warnings(each, asked)]
    return groups, warnings


def _groups(slo_id: str, found: list[Indicator], config: Config, asked: Asked) -> Iterator[Group]:
    """What alerts is evaluated at each scrape: more rarely, some increments would be counted twice and others never."""
    scrape, window = asked.scrape_interval, found[0].slo.window
    rules: list[Rule] = []
    for indicator in found:
        rules += _base(indicator, scrape)
        rules += _burn_rates(indicator, scrape)
        rules += _alerts(indicator, config.services, scrape)
    yield Group(f"watchbill-slo-{slo_id}", rules, scrape)
    step = max(scrape, timedelta(seconds=round(window.total_seconds() / BUDGET_STEPS)))
    yield Group(f"watchbill-budget-{slo_id}", [rule for each in found for rule in _whole_window(each)], step)


# --- recordings ---------------------------------------------------------------------------------------


def _base(indicator: Indicator, scrape: timedelta) -> Iterator[Rule]:
    bad, judged = (_bad, _judged) if indicator.within is None else (_bad_or_slow, _judged_or_timed)
    yield Recording(BAD, _sum(indicator, bad, scrape), indicator.labels)
    yield Recording(ALL, _sum(indicator, judged, scrape), indicator.labels)
    yield Recording(FAILURES, _sum(indicator, bad, scrape, weighed=False), indicator.labels)


def _sum(indicator: Indicator, parts: Parts, scrape: timedelta, *, weighed: bool = True) -> str:
    """Over all checks. ``or`` joins what has no series in common, so that a side that is missing takes no other along."""
    lines = []
    for interval, ids in indicator.ids.items():
        weight = f"{interval.total_seconds():g} * " if weighed else ""
        lines += [f"{weight}{part}" for part in parts(indicator.matching(ids), indicator, scrape)]
    return "sum(\n  {}\n)\n".format("\n    or\n  ".join(lines))


def _rate(selector: str, scrape: timedelta) -> str:
    """By how much a counter has risen since the evaluation before, a second; nothing where it began anew meanwhile.

    Not ``rate``: its windows overlap, so that a failure counts by and by, and it extrapolates a counter that stood at 0
    less. These differences add up to what was counted, whatever the phases of slots, scrapes and evaluations.
    """
    last = f"last_over_time({selector}[{span(BRIDGED_SCRAPES * scrape)}]"
    return f"clamp_min({last}) - {last} offset {span(scrape)}), 0) / {scrape.total_seconds():g}"


def _bad(check: str, _: Indicator, scrape: timedelta) -> list[str]:
    return [_rate(f'{SLOTS}{{{check}, outcome="failure"}}', scrape)]


def _judged(check: str, _: Indicator, scrape: timedelta) -> list[str]:
    return [_rate(f'{SLOTS}{{{check}, outcome=~"success|failure"}}', scrape)]


def _bad_or_slow(check: str, indicator: Indicator, scrape: timedelta) -> list[str]:
    """Both sides of the difference come from one histogram, so that a check without the bucket is left out, not slow."""
    timed, fast = (
        _rate(f"{LATENCY}_bucket{{{check}, {le}}}", scrape) for le in ('le="+Inf"', indicator.bound)
    )
    return [f"({timed} - ignoring (le) {fast})", *_bad(check, indicator, scrape)]


def _judged_or_timed(check: str, indicator: Indicator, scrape: timedelta) -> list[str]:
    """A success that was measured over a stall of our own is in no histogram: nothing is known of the target's speed."""
    return [_rate(f"{LATENCY}_count{{{check}}}", scrape), *_bad(check, indicator, scrape)]


def _ratio(indicator: Indicator, window: timedelta) -> str:
    """The share of what was bad in a window. Without a slot there is none, rather than not-a-number."""
    over = f"[{span(window)}]"
    bad, judged = (f"sum_over_time({indicator.recorded(name)}{over})" for name in (BAD, ALL))
    return f"{bad}\n  /\n({judged} > 0)\n"


def _burn_rates(indicator: Indicator, scrape: timedelta) -> Iterator[Rule]:
    pairs = [pair for same in indicator.pairs(scrape).values() for pair in same]
    for window in sorted({window for pair in pairs for window in (pair.long, pair.short)}):
        labels = {**indicator.labels, "window": span(window)}
        yield Recording(BURN, f"{_ratio(indicator, window)}  / {indicator.budget.share:f}\n", labels)


def _whole_window(indicator: Indicator) -> Iterator[Rule]:
    objective = f"{indicator.objective / 100:f}"
    yield Recording(OBJECTIVE, f"vector({objective})", indicator.labels)
    yield Recording(WINDOW, f"vector({indicator.slo.window.total_seconds():g})", indicator.labels)
    yield Recording(GOOD, f"1 - (\n{_ratio(indicator, indicator.slo.window)})\n", indicator.labels)
    left = f"1 - (1 - {indicator.recorded(GOOD)}) / {indicator.budget.share:f}"
    yield Recording(REMAINING, left, indicator.labels)


# --- alerts -------------------------------------------------------------------------------------------


def _alerts(indicator: Indicator, services: Mapping[str, Service], scrape: timedelta) -> Iterator[Rule]:
    if not indicator.slo.alerts:
        return
    for severity, pairs in indicator.pairs(scrape).items():
        yield _burning(indicator, services, severity, pairs, scrape)
    yield _unmeasured(indicator, services, scrape)


def _burning(
    indicator: Indicator,
    services: Mapping[str, Service],
    severity: Severity,
    pairs: list[Pair],
    scrape: timedelta,
) -> Alert:
    """One alert for all pairs of a severity: an outage that moves on from one pair to the next is not told of again."""
    either = "\n    or\n".join(_both(indicator, pair, scrape) for pair in pairs)
    left = (
        f"{{{{ with printf `{indicator.recorded(REMAINING)}` | query }}}}"
        "Of the budget {{ . | first | value | humanizePercentage }} is left. {{ end }}"
    )
    windows = ", ".join(f"{pair} at {pair.factor}" for pair in pairs)
    return Alert(
        BURN_ALERT,
        f"max without (window) (\n{either}\n)\n",
        alert_labels(indicator, services, severity),
        said(
            BURN_ALERT,
            f"{indicator.shown} burns its error budget {NUMBER} times as fast as it may",
            f"At this rate {indicator.promise} will not hold. {left}"
            f"It rings while both windows of a pair burn faster than its factor: {windows}.",
            **_links(indicator, services),
        ),
    )


def _both(indicator: Indicator, pair: Pair, scrape: timedelta) -> str:
    """Long and short window, and so many failures in the long one that it cannot be a single probe."""
    long, short = (
        f"{indicator.recorded(BURN, window=span(window))} > {pair.factor}"
        for window in (pair.long, pair.short)
    )
    failures = f"sum_over_time({indicator.recorded(FAILURES)}[{span(pair.long)}])"
    guard = f"{failures} * {scrape.total_seconds():g} > {FEWEST_FAILURES - ROUNDING:g}"
    parts = (long, f"and ignoring (window) {short}", f"and ignoring (window) {guard}")
    return "    (\n{}\n    )".format("\n".join(f"      {part}" for part in parts))


def _unmeasured(indicator: Indicator, services: Mapping[str, Service], scrape: timedelta) -> Alert:
    checks = indicator.matching(sorted(check.id for check in indicator.checks))
    over = max(UNMEASURED_FOR, 3 * indicator.budget.interval)
    measured = f"sum_over_time({indicator.recorded(ALL)}[{span(over)}]) > 0"
    if indicator.bound:
        measured = (
            f"(\n  {measured}\n    and on ()\n  count({LATENCY}_bucket{{{checks}, {indicator.bound}}})\n)"
        )
    return Alert(
        UNMEASURED_ALERT,
        f"count({SLOTS}{{{checks}}}) > 0\n  unless on ()\n{measured}\n",
        alert_labels(indicator, services, "warning"),
        said(
            UNMEASURED_ALERT,
            f"{indicator.shown} is not measured",
            "The slots of its checks are scraped and nothing could be recorded of them for a quarter of an hour. "
            f"These rules were made for a scrape interval of {span(scrape)}: make them anew for yours.",
            **_links(indicator, services),
        ),
        hold=UNMEASURED_FOR,
    )


def alert_labels(indicator: Indicator, services: Mapping[str, Service], severity: Severity) -> dict[str, str]:
    owner = {"owner": services[indicator.service].owner} if indicator.service in services else {}
    return {name: text for name, text in {**indicator.labels, **owner, "severity": severity}.items() if text}


def _links(indicator: Indicator, services: Mapping[str, Service]) -> dict[str, str]:
    runbook = services[indicator.service].runbook if indicator.service in services else ""
    return {"runbook": runbook, "dashboard": f"/d/watchbill-slo?var-slo={indicator.slo_id}"}


# --- warnings -----------------------------------------------------------------------------------------


def _warnings(indicator: Indicator, asked: Asked) -> Iterator[str]:
    budget, name = indicator.budget, f"slo {indicator.shown}"
    for pair in pairs_of(indicator.slo.window):
        if why := budget.left_out(pair, asked.scrape_interval):
            yield f"{name}: the pair {pair} is left out: {why}"
        elif indicator.slo.alerts and budget.failures_of(pair) < FEWEST_FAILURES:
            share = float(budget.share_of(FEWEST_FAILURES))
            yield (
                f"{name}: one failure would ring the pair {pair}, so it takes {FEWEST_FAILURES}, "
                f"which are {share:.2g} of the whole budget"
            )
