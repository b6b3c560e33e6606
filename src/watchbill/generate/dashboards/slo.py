"""Service level objectives: what is left of each error budget, how fast it goes, and since when."""

from __future__ import annotations

from watchbill.generate.dashboards import shared
from watchbill.generate.dashboards.frame import dashboard, job, to_dashboard, variable
from watchbill.generate.dashboards.looks import (
    ANY_IS_BAD,
    BUDGET,
    BURN,
    LASTS,
    LINE_AT_NOTHING,
    Json,
    coloured,
    override,
)
from watchbill.generate.dashboards.panels import bars, graph, query, stat, table

CHOSEN = 'service=~"$service", slo=~"$slo"'
EACH = "slo, sli, within"
ROW = f"{EACH}, service"
LEGEND = "{{slo}} {{sli}} {{within}}"
OBJECTIVE, GOOD, LEFT, BURNT = (
    f"slo:watchbill_{name}:ratio" for name in ("objective", "good", "error_budget_remaining", "burn_rate")
)
WINDOW = "slo:watchbill_window:seconds"
RECORDED = "Recorded by the rules of watchbill generate rules."
NOTHING = "no objective is recorded"


def slo(*, watchbill_url: str) -> Json:
    return dashboard(
        "slo",
        "SLO",
        "Service level objectives: what is left of each error budget, how fast it goes, and since when.",
        watchbill_url=watchbill_url,
        variables=[
            job(),
            variable("service", "Service", f"label_values({OBJECTIVE}, service)"),
            variable("slo", "Objective", f'label_values({OBJECTIVE}{{service=~"$service"}}, slo)'),
        ],
        rows=[
            ("", [*_at_a_glance(), _objectives(), shared.alerts_table(f'{CHOSEN}, slo!=""', width=24)]),
            ("Budget", _budget()),
            ("Slots behind it", _slots()),
        ],
    )


def _worst(family: str, by: str = EACH) -> str:
    return f"min by ({by}) ({family}{{{CHOSEN}}})"


def _at_a_glance() -> list[Json]:
    missed = f"count({_worst(LEFT, ROW)} < 0) or vector(0)"
    fast = f"max({BURNT}{{{CHOSEN}}})"
    return [
        stat("Objectives", f"count({_worst(OBJECTIVE, ROW)})", width=4, about=f"How many are chosen. {RECORDED}", defaults={"noValue": NOTHING}),
        stat("Missed", missed, width=4, about="Objectives whose error budget is used up: the promise of the window is broken.", thresholds=ANY_IS_BAD),
        stat("Least budget left", f"min({LEFT}{{{CHOSEN}}})", width=8, about="Of the objective with the least. Below nothing its promise is broken.", unit="percentunit", thresholds=BUDGET, defaults={"noValue": NOTHING, "decimals": 1}),
        stat("Fastest burn", fast, width=8, about="Over the alert window in which it is fastest; 1 uses the whole budget in the whole window of the objective.", thresholds=BURN, defaults={"noValue": NOTHING, "decimals": 2}),
    ]  # fmt: skip


def _objectives() -> Json:
    lasts = f"clamp_min({_worst(LEFT, ROW)}, 0) * {_worst(WINDOW, ROW)} / (max by ({ROW}) ({BURNT}{{{CHOSEN}}}) > 0)"
    columns = [
        ("objective", f"max by ({ROW}) ({OBJECTIVE}{{{CHOSEN}}})"),
        ("so far", _worst(GOOD, ROW)),
        ("budget left", _worst(LEFT, ROW)),
        ("fastest burn", f"max by ({ROW}) ({BURNT}{{{CHOSEN}}})"),
        ("at that rate it lasts", lasts),
    ]
    links = [to_dashboard("service", "This service in depth", service="${__value.raw:percentencode}")]
    return table(
        "Objectives",
        columns,
        about=f"What is promised, what was kept over the whole window, and what is left of the difference; how long that lasts if all goes on as in the alert window that burns fastest. {RECORDED}",
        height=8,
        labels=["slo", "sli", "within", "service"],
        sort_by="budget left",
        overrides=[
            override("objective", unit="percentunit", decimals=3),
            override("so far", unit="percentunit", decimals=3),
            coloured("budget left", BUDGET, unit="percentunit"),
            coloured("fastest burn", BURN, unit="short"),
            coloured("at that rate it lasts", LASTS, unit="s"),
            override("service", links=links),
        ],
        empty=NOTHING,
    )


def _budget() -> list[Json]:
    burn = f"max by ({EACH}, window) ({BURNT}{{{CHOSEN}}})"
    return [
        graph("Error budget left", query(_worst(LEFT), LEGEND), about="A line that falls is failures; it rises again as they leave the window. Below nothing the promise is broken.", unit="percentunit", defaults={"noValue": NOTHING}, thresholds=LINE_AT_NOTHING),
        graph("Burn rate by window", query(burn, f"{LEGEND} over {{{{window}}}}"), about="An alert needs both windows of a pair over its factor; for 30 days a page from 6, a ticket from 1.", defaults={"noValue": NOTHING, "min": 0}, thresholds=BURN),
        bars("Burn rate now", f"sort_desc({burn})", f"{LEGEND} over {{{{window}}}}", about="1 uses the whole budget in the whole window of the objective.", width=24, height=7, thresholds=BURN, defaults={"min": 0, "decimals": 2, "noValue": NOTHING}),
    ]  # fmt: skip


def _slots() -> list[Json]:
    def rates(what: str) -> str:
        return f"sum by ({EACH}) (slo:watchbill_{what}:rate{{{CHOSEN}}})"

    return [
        graph("Bad slots", query(f"{rates('bad_slots')} / {rates('slots')}", LEGEND), about="The share of bad ones among those with a verdict, weighed by interval, over the shortest window that is recorded.", unit="percentunit", defaults={"min": 0, "noValue": NOTHING}),
        graph("Slots with a verdict", query(rates("slots"), LEGEND), about="What the objectives are computed from, weighed by interval. Where it falls, checks end without a verdict: look at their coverage.", defaults={"min": 0, "noValue": NOTHING}),
    ]  # fmt: skip
