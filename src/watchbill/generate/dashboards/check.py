"""One check in depth: its status, where its time goes, how sure its availability is."""

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
    BACKGROUND,
    CERTIFICATE,
    NEUTRAL,
    OUTCOMES,
    RATIO,
    RED,
    STATUS_COLUMN,
    STATUS_TEXTS,
    SUCCESS_TEXTS,
    Json,
    override,
)
from watchbill.generate.dashboards.panels import graph, heatmap, query, stat, table, timeline
from watchbill.generate.dashboards.queries import OWN, availability, coverage, quantile

CHECK = f'{OWN}, check="$check"'
ONE = f'{CHECK}, location=~"$location"'
LATENCY = "watchbill_check_latency_seconds"


def check(*, watchbill_url: str) -> Json:
    return dashboard(
        "check",
        "Check",
        "One check in depth: its status, where its time goes, how sure its availability is.",
        watchbill_url=watchbill_url,
        variables=[
            job(),
            variable("check", "Check", f"label_values(watchbill_check_info{{{OWN}}}, check)", several=False),
            location(CHECK),
            window(),
        ],
        links=[
            to_watchbill("This check, as Watchbill sees it", "/api/v1/checks/${check:percentencode}"),
            to_watchbill("Its results, with messages", "/api/v1/checks/${check:percentencode}/results"),
        ],
        rows=[
            (
                "",
                [
                    *_at_a_glance(),
                    *_status(),
                    _what_it_is(),
                    shared.alerts_table('check="$check"', width=10, height=5),
                ],
            ),
            ("Latency", _latency()),
            ("Slots", _slots()),
            ("Details", [*_details(), _last_results()]),
            ("Ping and heartbeat", _of_other_types()),
        ],
    )


def _at_a_glance() -> list[Json]:
    ratio: Json = {"unit": "percentunit", "thresholds": RATIO, "defaults": {"decimals": 3}}
    last_result = f"time() - max(watchbill_check_last_result_timestamp_seconds{{{ONE}}})"
    expiry = f"min(probe_ssl_earliest_cert_expiry{{{ONE}}}) - time()"
    last_up = f"max_over_time(timestamp(watchbill_check_status{{{ONE}}} == 1)[6h:15s])"
    last_success = f"time() - min(max by (location) ({last_up}))"
    return [
        stat("Status", f"min(watchbill_check_status{{{ONE}}})", width=3, about="The last verdict; the worst of all locations shown.", defaults={"mappings": STATUS_TEXTS}),
        stat("Failing because", f"max by (reason) (watchbill_check_failing{{{ONE}}})", width=3, about="The one reason, while it fails; nothing otherwise.", legend="{{reason}}", shows="name", thresholds=((None, RED),), defaults={"noValue": "-"}),
        stat("Availability", availability(ONE, "$__range", "check"), width=3, about="Successes among the verdicts of the time shown.", **ratio),
        stat("Coverage", coverage(ONE, "$__range", "check"), width=3, about="Slots with a verdict among the slots expected.", **ratio),
        stat("Latency p95", quantile(0.95, LATENCY, ONE, "$__range"), width=3, about="95 of 100 successful probes were faster.", unit="s", thresholds=NEUTRAL),
        stat("Last success", last_success, width=3, about="How long ago its status was last up, if within six hours; that of the location where it is the longest.", unit="s", thresholds=NEUTRAL, defaults={"noValue": "over 6 hours ago"}),
        stat("Last result", last_result, width=3, about="Time since the newest result.", unit="s", thresholds=NEUTRAL),
        stat("Certificate", expiry, width=3, about="Time until the first certificate in the chain expires.", unit="s", thresholds=CERTIFICATE, defaults={"noValue": "-"}),
    ]  # fmt: skip


def _status() -> list[Json]:
    return [
        timeline("Status", f"max by (location) (watchbill_check_status{{{ONE}}})", "{{location}}", about="The status at each location over time.", height=4, defaults={"mappings": STATUS_TEXTS}),
        timeline("Failing because", f"max by (location, reason) (watchbill_check_failing{{{ONE}}})", "{{location}} {{reason}}", about="When it failed, for which reason.", height=4, thresholds=((None, RED),), defaults={"color": {"mode": "thresholds"}, "noValue": "never failed in the time shown"}),
    ]  # fmt: skip


def _what_it_is() -> Json:
    labels = "service, type, target, location"
    # Two exporters may say different things of a service while one of them is behind.
    of_service = (
        f"topk by (service) (1, group by (service, owner, runbook) (watchbill_service_info{{{OWN}}}))"
    )
    columns = [
        ("", f"max by ({labels}) (watchbill_check_info{{{ONE}}})"),
        ("interval", f"max by ({labels}) (watchbill_check_interval_seconds{{{ONE}}} * on (job, instance, check, location) group_left (target) watchbill_check_info{{{ONE}}})"),
        ("", f"max by ({labels}, owner, runbook) (watchbill_check_info{{{ONE}}} * on (service) group_left (owner, runbook) {of_service})"),
    ]  # fmt: skip
    link = [to_dashboard("service", "This service in depth", service="${__value.raw:percentencode}")]
    return table(
        "What it is",
        columns,
        about="What the check asks, and who looks after its service.",
        height=5,
        width=14,
        labels=["service", "owner", "runbook", "type", "target", "location"],
        sort_by="location",
        overrides=[override("service", links=link), shared.RUNBOOK, override("interval", unit="s")],
        empty="no such check",
    )


def _latency() -> list[Json]:
    shares = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    quantiles = [query(quantile(share, LATENCY, ONE, "$window"), name) for share, name in shares]
    phases = f'avg by (phase) ({{__name__=~"probe_(http|dns|icmp)_duration_seconds", {ONE}}})'
    return [
        heatmap("Latency", f"sum by (le) (increase({LATENCY}_bucket{{{ONE}}}[$__rate_interval]))", width=12, height=9, about="Successful probes by how long they took; a refused connection is not fast, so failures are not in it."),
        graph("Latency quantiles", *quantiles, about="Over the window chosen above. Exact to the histogram's buckets (metrics.buckets).", unit="s", height=9),
        graph("Phases of the last probe", query(phases, "{{phase}}"), about="Where the time goes: resolve, connect, tls, processing, transfer for HTTP; their DNS and ICMP counterparts for those.", unit="s", stacked=True),
        graph("Duration of the last probe", query(f"max by (location) (probe_duration_seconds{{{ONE}}})", "{{location}}"), about="The newest probe at each scrape, failures included.", unit="s"),
    ]  # fmt: skip


def _slots() -> list[Json]:
    outcomes = f"sum by (outcome) (increase(watchbill_check_slots_total{{{ONE}}}[$__rate_interval]))"
    both = [
        query(availability(ONE, "$window", "check"), "availability"),
        query(coverage(ONE, "$window", "check"), "coverage"),
    ]
    return [
        graph("Slots by outcome", query(outcomes, "{{outcome}}"), about="How every scheduled probe ended.", stacked=True, overrides=OUTCOMES),
        graph("Availability and coverage", *both, about="Over the window chosen above.", unit="percentunit", defaults={"min": 0, "max": 1}),
    ]  # fmt: skip


def _details() -> list[Json]:
    expiry = f"min by (location) (probe_ssl_earliest_cert_expiry{{{ONE}}}) - time()"
    return [
        graph("Certificate", query(expiry, "{{location}}"), about="Time left; it jumps up when the certificate is renewed. Only where TLS is spoken.", unit="s", thresholds=CERTIFICATE),
        graph("HTTP status code", query(f"max by (location) (probe_http_status_code{{{ONE}}})", "{{location}}"), about="Of the last probe; only for http checks.", unit="none", defaults={"decimals": 0}),
    ]  # fmt: skip


def _last_results() -> Json:
    columns = [
        ("status", f"max by (location) (watchbill_check_status{{{ONE}}})"),
        ("last success", f"max by (location) (probe_success{{{ONE}}})"),
        ("duration", f"max by (location) (probe_duration_seconds{{{ONE}}})"),
        ("status code", f"max by (location) (probe_http_status_code{{{ONE}}})"),
        ("answers", f"max by (location) (probe_dns_answer_rrs{{{ONE}}})"),
        ("IP protocol", f"max by (location) (probe_ip_protocol{{{ONE}}})"),
        ("ended", f"1000 * max by (location) (watchbill_check_last_result_timestamp_seconds{{{ONE}}})"),
    ]
    return table(
        "Last results",
        columns,
        about="The newest result at each location. Older ones, with their messages, are behind the link above: Its results.",
        height=6,
        labels=["location"],
        sort_by="location",
        overrides=[
            STATUS_COLUMN,
            override("last success", mappings=SUCCESS_TEXTS, custom__cellOptions=BACKGROUND),
            override("duration", unit="s"),
            override("ended", unit="dateTimeFromNow"),
            override("status code", unit="none"),
        ],
        empty="no result yet",
    )


def _of_other_types() -> list[Json]:
    def worst(family: str) -> str:
        return f"max by (location) ({family}{{{ONE}}})"

    since = f"time() - {worst('watchbill_check_last_heartbeat_timestamp_seconds')}"
    return [
        graph("Packets lost", query(worst("watchbill_check_loss_ratio"), "{{location}}"), about="The share of echo requests without a reply in the last probe; only for icmp checks.", unit="percentunit", width=8, defaults={"min": 0, "max": 1}),
        graph("Round trips", query(worst("probe_icmp_rtt_min_seconds"), "shortest {{location}}"), query(worst("probe_icmp_rtt_max_seconds"), "longest {{location}}"), about="Of the last probe; only for icmp checks with a count over 1.", unit="s", width=8),
        graph("Since the last heartbeat", query(since, "{{location}}"), about="How long ago the job called in; only for heartbeat checks.", unit="s", width=8),
    ]  # fmt: skip
