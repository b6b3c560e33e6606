"""What is up and what is down, how sure that is, and where to look next."""

from __future__ import annotations

from watchbill.generate.dashboards import shared
from watchbill.generate.dashboards.frame import (
    dashboard,
    job,
    location,
    to_dashboard,
    to_watchbill,
    variable,
    window,
)
from watchbill.generate.dashboards.looks import (
    ANY_IS_BAD,
    BUDGET,
    CERTIFICATE,
    CONFIG_TEXTS,
    GREEN,
    GREY,
    LESS_THAN_ALL_IS_BAD,
    OUTCOMES,
    RATIO,
    STATUS_COLUMN,
    STATUS_TEXTS,
    Json,
    coloured,
    override,
)
from watchbill.generate.dashboards.panels import bars, graph, query, stat, table, timeline
from watchbill.generate.dashboards.queries import (
    OWN,
    availability,
    availability_over_time,
    checks_of_status,
    checks_without_status,
    coverage,
    rate,
    weighted_availability,
    weighted_coverage,
)

FEW_POINTS = 100
"""Of a graph over all checks: with thousands of them each point takes its time."""
CHOSEN = 'job=~"$job", location=~"$location", service=~"$service"'


def overview(*, watchbill_url: str, services: Json | None = None) -> Json:
    """``services``: a panel that says who looks after what, where a configuration was given."""
    return dashboard(
        "overview",
        "Overview",
        "What is up and what is down, how sure that is, and where to look next.",
        watchbill_url=watchbill_url,
        variables=[
            job(),
            location(OWN),
            variable("service", "Service", f"label_values(watchbill_check_info{{{OWN}}}, service)"),
            window(),
        ],
        links=[to_watchbill("Watchbill's own page", "/")],
        rows=[
            ("", [*_at_a_glance(), *_now()]),
            ("Services", [*_services(), *([] if services is None else [services])]),
            ("Checks", [shared.checks_table(CHOSEN, "$window")]),
            ("Verdicts", _verdicts()),
            ("Certificates", [shared.certificates(CHOSEN)]),
        ],
    )


def _at_a_glance() -> list[Json]:
    ours = f"up{{{OWN}}} and on (job, instance) last_over_time(watchbill_build_info[1d])"
    soonest = f"min(probe_ssl_earliest_cert_expiry{{{CHOSEN}}}) - time()"
    ratio: Json = {"unit": "percentunit", "thresholds": RATIO, "defaults": {"decimals": 2}}
    return [
        stat("Exporters answering", f"avg({ours})", width=3, about="The share of Watchbill's exporters that Prometheus can scrape. What is below 100 % is not judged, and the rest of this page may be old.", unit="percentunit", thresholds=LESS_THAN_ALL_IS_BAD, defaults={"noValue": "none known"}),
        stat("Down", checks_of_status("0", CHOSEN), width=3, about="Checks whose last verdict was a failure.", thresholds=ANY_IS_BAD),
        stat("Up", checks_of_status("1", CHOSEN), width=2, about="Checks whose last verdict was a success."),
        stat("Unknown", checks_without_status(CHOSEN), width=3, about="Checks without a verdict so far, or parked.", thresholds=((None, GREEN), (1, GREY))),
        stat("Availability", weighted_availability(CHOSEN, "$__range"), width=3, about="The share of the time shown in which checks succeeded, each weighed by its interval.", **ratio),
        stat("Coverage", weighted_coverage(CHOSEN, "$__range"), width=3, about="The share of the time shown for which there is a verdict. Where it is low, availability rests on little.", **ratio),
        stat("Next certificate to expire", soonest, width=4, about="Time until the first certificate seen by any check expires.", unit="s", thresholds=CERTIFICATE, defaults={"noValue": "none seen"}),
        stat("Configuration", f"min(watchbill_config_last_reload_successful{{{OWN}}})", width=3, about="Whether the configuration that was read last is the one that runs.", defaults={"mappings": CONFIG_TEXTS}),
    ]  # fmt: skip


def _now() -> list[Json]:
    return [
        shared.failing_table(CHOSEN, width=14),
        shared.alerts_table('service=~"$service"', width=10),
    ]


def _services() -> list[Json]:
    chosen = f'{OWN}, service=~"$service"'
    columns = [
        ("status", f"min by (service) (watchbill_service_status{{{chosen}}})"),
        ("availability", weighted_availability(f'{CHOSEN}, service!=""', "$window", "service")),
        ("", f"max by (service, owner, runbook) (watchbill_service_info{{{chosen}}})"),
    ]
    link = [to_dashboard("service", "This service in depth", service="${__value.raw:percentencode}")]
    budget = (
        'sort(min by (slo, sli, within) (slo:watchbill_error_budget_remaining:ratio{service=~"$service"}))'
    )
    by_service = availability_over_time(CHOSEN, "$window", "service")
    return [
        table(
            "Services",
            columns,
            about="Each service as its checks make it, its availability over the window chosen above; its name leads to it in depth, and who looks after it stands beside it.",
            height=8,
            labels=["service", "Value #A", "Value #B", "owner", "runbook"],
            sort_by="status",
            overrides=[STATUS_COLUMN, coloured("availability", RATIO, unit="percentunit"), override("service", links=link), shared.RUNBOOK],
            empty="no services are declared",
        ),
        timeline("Status of services", f"min by (service) (watchbill_service_status{{{chosen}}})", "{{service}}", about="The status of each service over time, as its checks make it.", height=8, width=12, defaults={"mappings": STATUS_TEXTS}),
        graph("Availability by service", query(by_service, "{{service}}"), about="Over the window chosen above; checks without a service share one line.", points=FEW_POINTS, unit="percentunit", defaults={"min": 0, "max": 1}),
        bars("Error budget left", budget, "{{slo}} {{sli}} {{within}}", about="Of each objective; below nothing the promise is broken. Recorded by the rules of watchbill generate rules.", width=24, height=6, unit="percentunit", thresholds=BUDGET, defaults={"min": 0, "max": 1, "noValue": "no objective is recorded"}),
    ]  # fmt: skip


def _verdicts() -> list[Json]:
    failing = f"sum by (reason) (max by (check, location, reason) (watchbill_check_failing{{{CHOSEN}}}))"
    totals = f"sum by (type, reason) (increase(watchbill_failures_total{{{OWN}}}[$__range])) > 0"
    ratio: Json = {"unit": "percentunit", "thresholds": RATIO, "defaults": {"min": 0, "max": 1}}
    return [
        graph("Slots by outcome", query(rate("watchbill_check_slots_total", CHOSEN, "outcome"), "{{outcome}}"), about="How every scheduled probe ended. Error is our own side's fault, missed is a slot nobody ran.", points=FEW_POINTS, unit="ops", stacked=True, overrides=OUTCOMES),
        graph("Failing checks by reason", query(failing, "{{reason}}"), about="Checks that fail at each moment, by the one reason each is given.", stacked=True, defaults={"decimals": 0}),
        bars("Lowest availability", f"bottomk(10, {availability(CHOSEN, '$__range', 'check, location')})", "{{check}} {{location}}", about="The ten checks with the fewest successes among their verdicts.", width=8, **ratio),
        bars("Lowest coverage", f"bottomk(10, {coverage(CHOSEN, '$__range', 'check, location')})", "{{check}} {{location}}", about="The ten checks with the fewest verdicts among their slots.", width=8, **ratio),
        bars("Failures and errors by reason", totals, "{{type}}: {{reason}}", about="Over all checks and the time shown. descriptors, network, resolver, permission, stall and internal are our own side's.", width=8, defaults={"noValue": "none"}),
    ]  # fmt: skip
