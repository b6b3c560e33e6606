"""One service: how it is for the people who rely on it, which of its checks say so, and whom to ask."""

from __future__ import annotations

from watchbill.generate.dashboards import shared
from watchbill.generate.dashboards.frame import dashboard, job, location, to_watchbill, variable, window
from watchbill.generate.dashboards.looks import (
    ANY_IS_BAD,
    BUDGET,
    BURN,
    LINE_AT_NOTHING,
    NEUTRAL,
    OUTCOMES,
    RATIO,
    STATUS_TEXTS,
    Json,
)
from watchbill.generate.dashboards.panels import bars, graph, query, stat, table, timeline
from watchbill.generate.dashboards.queries import (
    OWN,
    availability,
    checks_of_status,
    quantile,
    rate,
    weighted_availability,
    weighted_coverage,
)

SERVICE = f'{OWN}, service="$service"'
ITS = f'{SERVICE}, location=~"$location"'
LATENCY = "watchbill_check_latency_seconds"


def service(*, watchbill_url: str, services: Json | None = None) -> Json:
    return dashboard(
        "service",
        "Service",
        "One service: how it is for the people who rely on it, which of its checks say so, and whom to ask.",
        watchbill_url=watchbill_url,
        variables=[
            job(),
            variable("service", "Service", f'label_values(watchbill_check_info{{{OWN}, service!=""}}, service)', several=False),
            location(SERVICE),
            window(),
        ],
        links=[to_watchbill("This service on Watchbill's page", "/?service=${service:percentencode}")],
        rows=[
            ("", [*_at_a_glance(), _whom_to_ask(), shared.alerts_table('service="$service"', width=14), *_status()]),
            ("Checks", [shared.failing_table(ITS, width=24), shared.checks_table(ITS, "$__range")]),
            ("Promises", _promises()),
            ("Over time", _over_time()),
            ("Certificates", [shared.certificates(ITS)]),
            *([] if services is None else [("Who looks after what", [services])]),
        ],
    )  # fmt: skip


def _at_a_glance() -> list[Json]:
    ratio: Json = {"unit": "percentunit", "thresholds": RATIO, "defaults": {"decimals": 3}}
    budget = 'min(slo:watchbill_error_budget_remaining:ratio{service="$service"})'
    return [
        stat("Status", f"min(watchbill_service_status{{{SERVICE}}})", width=4, about="Up while all known checks of it are, down while none is, degraded between.", defaults={"mappings": STATUS_TEXTS}),
        stat("Checks down", checks_of_status("0", ITS), width=3, about="Its checks whose last verdict was a failure.", thresholds=ANY_IS_BAD),
        stat("Checks up", checks_of_status("1", ITS), width=3, about="Its checks whose last verdict was a success."),
        stat("Availability", weighted_availability(ITS, "$__range"), width=4, about="The share of the time shown in which its checks succeeded, each weighed by its interval.", **ratio),
        stat("Coverage", weighted_coverage(ITS, "$__range"), width=4, about="The share of the time shown for which there is a verdict.", **ratio),
        stat("Latency p95", quantile(0.95, LATENCY, ITS, "$__range"), width=3, about="95 of 100 successful probes of all its checks were faster.", unit="s", thresholds=NEUTRAL),
        stat("Error budget left", budget, width=3, about="Of the objective with the least. Recorded by the rules of watchbill generate rules.", unit="percentunit", thresholds=BUDGET, defaults={"noValue": "no objective"}),
    ]  # fmt: skip


def _whom_to_ask() -> Json:
    return table(
        "Whom to ask, what to do",
        [("", f"max by (service, owner, runbook) (watchbill_service_info{{{SERVICE}}})")],
        about="What the configuration says of the service.",
        height=8,
        width=10,
        labels=["service", "owner", "runbook"],
        sort_by="service",
        overrides=[shared.RUNBOOK],
        empty="not declared under services",
    )


def _status() -> list[Json]:
    return [
        timeline("Status", f"min by (service) (watchbill_service_status{{{SERVICE}}})", "{{service}}", about="The service's status over time.", height=3, defaults={"mappings": STATUS_TEXTS}),
        timeline("Status of its checks", f"max by (check, location) (watchbill_check_status{{{ITS}}})", "{{check}} {{location}}", about="Which of its checks made it so.", height=7, defaults={"mappings": STATUS_TEXTS}),
    ]  # fmt: skip


def _promises() -> list[Json]:
    chosen = 'service="$service"'
    left = f"min by (slo, sli, within) (slo:watchbill_error_budget_remaining:ratio{{{chosen}}})"
    burn = f"max by (slo, sli, within, window) (slo:watchbill_burn_rate:ratio{{{chosen}}})"
    return [
        graph("Error budget left", query(left, "{{slo}} {{sli}} {{within}}"), about="Of each objective of the service; below nothing the promise is broken.", unit="percentunit", thresholds=LINE_AT_NOTHING, defaults={"noValue": "no objective is recorded"}),
        bars("Burn rate", f"sort_desc({burn})", "{{slo}} {{sli}} {{within}} over {{window}}", about="1 uses the whole budget in the whole window of the objective.", thresholds=BURN, defaults={"min": 0, "decimals": 2, "noValue": "no objective is recorded"}),
    ]  # fmt: skip


def _over_time() -> list[Json]:
    by_check = availability(ITS, "$window", "check")
    failing = f"sum by (check, reason) (max by (check, location, reason) (watchbill_check_failing{{{ITS}}}))"
    return [
        graph("Availability by check", query(by_check, "{{check}}"), about="Over the window chosen above.", unit="percentunit", defaults={"min": 0, "max": 1}),
        graph("Latency p95 by check", query(quantile(0.95, LATENCY, ITS, "$window", "check"), "{{check}}"), about="Over the window chosen above, of successful probes.", unit="s"),
        graph("Slots by outcome", query(rate("watchbill_check_slots_total", ITS, "outcome"), "{{outcome}}"), about="How every scheduled probe of the service ended.", unit="ops", stacked=True, overrides=OUTCOMES),
        graph("Failing because", query(failing, "{{check}}: {{reason}}"), about="Locations at which a check fails, by the one reason each is given.", stacked=True, defaults={"decimals": 0}),
    ]  # fmt: skip
