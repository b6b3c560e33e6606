"""The two Grafana dashboards, written down once as plain values: ``render()`` gives the files' text.

Made for Grafana 10 to 12. Nothing is imported from Grafana: its JSON is the interface, and a generated file
that a test runs query by query says more than types that change with each of its releases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from scripts.panels import (
    ANY_IS_BAD,
    BACKGROUND,
    CERTIFICATE,
    CHECK_LINK,
    CHECK_UID,
    GREEN,
    GREY,
    OUTCOMES,
    OVER_50_MS,
    OVERVIEW_UID,
    RATIO,
    RED,
    STATUS_COLUMN,
    STATUS_MAPPINGS,
    Json,
    bars,
    dashboard,
    graph,
    override,
    panel,
    query,
    stat,
    steps,
    table,
    timeline,
    variable,
)

FOLDER = "deploy/grafana/dashboards"

# --- the overview -------------------------------------------------------------------------------------

CHOSEN = 'job=~"$job", location=~"$location", service=~"$service"'
OWN = 'job=~"$job"'
ROW = "check, service, type, location"
VERDICTS, ASKED_FOR = 'outcome=~"success|failure"', 'outcome!="excused"'


def share(part: str, whole: str, chosen: str, window: str, by: str = "") -> str:
    """How much of the slots of one outcome are of another, over a window."""
    grouped = f"sum by ({by})" if by else "sum"
    slots = "watchbill_check_slots_total"
    return f"{grouped} (increase({slots}{{{part}, {chosen}}}[{window}])) / {grouped} (increase({slots}{{{whole}, {chosen}}}[{window}]))"


def availability(chosen: str, window: str, by: str = "") -> str:
    return share('outcome="success"', VERDICTS, chosen, window, by)


def coverage(chosen: str, window: str, by: str = "") -> str:
    return share(VERDICTS, ASKED_FOR, chosen, window, by)


def quantile(share_below: float, family: str, chosen: str, window: str = "$__rate_interval") -> str:
    return f"histogram_quantile({share_below}, sum by (le) (rate({family}_bucket{{{chosen}}}[{window}])))"


def _count_of_status(value: str) -> str:
    return f"count(max by (check, location) (watchbill_check_status{{{CHOSEN}}}) == {value}) or vector(0)"


def _at_a_glance() -> list[Json]:
    unknown = f"""count(max by (check, location) (watchbill_check_info{{{CHOSEN}}})
        unless max by (check, location) (watchbill_check_status{{{CHOSEN}}})) or vector(0)"""
    soonest = f"min(probe_ssl_earliest_cert_expiry{{{CHOSEN}}}) - time()"
    ratio: Json = {"unit": "percentunit", "thresholds": RATIO, "defaults": {"decimals": 2}}
    return [
        stat("Up", _count_of_status("1"), width=3, about="Checks whose last verdict was a success."),
        stat("Down", _count_of_status("0"), width=3, about="Checks whose last verdict was a failure.", thresholds=ANY_IS_BAD),
        stat("Unknown", unknown, width=3, about="Checks without a verdict so far, or parked.", thresholds=((None, GREEN), (1, GREY))),
        stat("Availability", availability(CHOSEN, "$__range"), width=4, about="Successes among the verdicts of the time shown.", **ratio),
        stat("Coverage", coverage(CHOSEN, "$__range"), width=4, about="Slots with a verdict among the slots expected. Where it is low, availability rests on little.", **ratio),
        stat("Next certificate to expire", soonest, width=4, about="Time until the first certificate seen by any check expires.", unit="s", thresholds=CERTIFICATE),
        stat(
            "Configuration",
            f"min(watchbill_config_last_reload_successful{{{OWN}}})",
            width=3,
            about="Whether the configuration that was read last is the one that runs.",
            defaults={"mappings": [{"type": "value", "options": {"1": {"text": "current", "color": GREEN}, "0": {"text": "refused", "color": RED}}}]},
        ),
    ]  # fmt: skip


def _checks_table() -> Json:
    columns = [
        ("status", f"max by ({ROW}) (watchbill_check_status{{{CHOSEN}}})"),
        ("", f"max by ({ROW}, reason) (watchbill_check_failing{{{CHOSEN}}})"),
        ("last probe", f"max by ({ROW}) (probe_duration_seconds{{{CHOSEN}}})"),
        (
            "last result",
            f"time() - max by ({ROW}) (watchbill_check_last_result_timestamp_seconds{{{CHOSEN}}})",
        ),
        ("availability", availability(CHOSEN, "$__range", ROW)),
        ("coverage", coverage(CHOSEN, "$__range", ROW)),
        ("", f"max by ({ROW}, target) (watchbill_check_info{{{CHOSEN}}})"),
    ]
    coloured = {
        "unit": "percentunit",
        "custom__cellOptions": {"type": "color-text"},
        "thresholds": steps(RATIO),
    }
    return table(
        "Checks",
        columns,
        about="Every check as it stands; its name leads to it in depth. An empty status is unknown.",
        height=11,
        labels=["check", "service", "type", "location", "target", "Value #A", "reason"],
        sort_by="status",
        overrides=[
            STATUS_COLUMN,
            CHECK_LINK,
            override("last probe", unit="s"),
            override("last result", unit="s"),
            override("availability", **coloured),
            override("coverage", **coloured),
        ],
    )


def _services() -> list[Json]:
    status = f'min by (service) (watchbill_service_status{{{OWN}, service=~"$service"}})'
    by_service = availability(CHOSEN, "$__rate_interval", "service")
    return [
        timeline("Services", status, "{{service}}", about="The status of each service over time, as its checks make it.", height=8, width=12, defaults={"mappings": STATUS_MAPPINGS}),
        graph("Availability by service", query(by_service, "{{service}}"), about="Successes among the verdicts of each moment; checks without a service share one line.", unit="percentunit", defaults={"min": 0, "max": 1}),
    ]  # fmt: skip


def _verdicts() -> list[Json]:
    outcomes = f"sum by (outcome) (rate(watchbill_check_slots_total{{{CHOSEN}}}[$__rate_interval]))"
    failing = f"sum by (reason) (max by (check, location, reason) (watchbill_check_failing{{{CHOSEN}}}))"
    totals = f"sum by (type, reason) (increase(watchbill_failures_total{{{OWN}}}[$__range])) > 0"
    ratio: Json = {"unit": "percentunit", "thresholds": RATIO, "defaults": {"min": 0, "max": 1}}
    return [
        graph("Slots by outcome", query(outcomes, "{{outcome}}"), about="How every scheduled probe ended. Error is our own side's fault, missed is a slot nobody ran.", unit="ops", stacked=True, overrides=OUTCOMES),
        graph("Failing checks by reason", query(failing, "{{reason}}"), about="Checks that fail at each moment, by the one reason each is given.", stacked=True, defaults={"decimals": 0}),
        bars("Lowest availability", f"bottomk(10, {availability(CHOSEN, '$__range', 'check, location')})", "{{check}} {{location}}", about="The ten checks with the fewest successes among their verdicts.", width=8, **ratio),
        bars("Lowest coverage", f"bottomk(10, {coverage(CHOSEN, '$__range', 'check, location')})", "{{check}} {{location}}", about="The ten checks with the fewest verdicts among their slots.", width=8, **ratio),
        bars("Failures and errors by reason", totals, "{{type}}: {{reason}}", about="Over all checks and the time shown. descriptors, network, resolver, permission, stall and internal are our own side's.", width=8),
    ]  # fmt: skip


def _certificates() -> Json:
    return table(
        "Certificates",
        [("expires in", f"min by (check, service, location, target) (probe_ssl_earliest_cert_expiry{{{CHOSEN}}}) - time()")],
        about="Time left of the certificate that expires first in each chain seen, also where it failed verification.",
        height=8,
        labels=["check", "service", "location", "target"],
        sort_by="expires in",
        overrides=[
            CHECK_LINK,
            override("expires in", unit="s", thresholds=steps(CERTIFICATE), custom__cellOptions=BACKGROUND),
        ],
    )  # fmt: skip


def _exporter() -> list[Json]:
    of_ours = "and on (job, instance) watchbill_build_info"
    revision = [
        ("", f"max by (job, instance, version) (watchbill_build_info{{{OWN}}})"),
        ("", f"max by (job, instance, revision, digest) (watchbill_config_info{{{OWN}}})"),
        (
            "loaded",
            f"1000 * max by (job, instance) (watchbill_config_last_reload_success_timestamp_seconds{{{OWN}}})",
        ),
        ("checks", f"sum by (job, instance) (watchbill_checks{{{OWN}}})"),
        ("samples a scrape", f"max by (job, instance) (scrape_samples_scraped{{{OWN}}})"),
    ]
    rows = f"sum(rate(watchbill_history_rows_total{{{OWN}}}[$__rate_interval]))"
    dropped = f"sum(rate(watchbill_history_dropped_rows_total{{{OWN}}}[$__rate_interval]))"
    return [
        table("Exporters", revision, about="What runs where: the release, and the configuration by its digest and Git revision.", height=5, labels=["job", "instance", "version", "revision", "digest"], sort_by="instance", overrides=[override("loaded", unit="dateTimeFromNow")]),
        graph("Event loop lag and schedule delay", query(quantile(0.99, "watchbill_event_loop_lag_seconds", OWN), "loop lag p99"), query(quantile(0.99, "watchbill_schedule_delay_seconds", OWN), "slot start p99"), query(quantile(0.5, "watchbill_schedule_delay_seconds", OWN), "slot start p50"), about="How late the loop wakes and slots start. Past 50 ms the machine is too small for the checks.", unit="s", thresholds=OVER_50_MS, width=8),
        graph("History written", query(rows, "rows written"), query(dropped, "rows dropped"), about="Rows a second into the store. Dropped rows are lost; probing goes on.", unit="ops", width=8),
        graph("History waiting", query(f"sum(watchbill_history_pending{{{OWN}}})", "rows waiting"), about="Rows that are not committed yet: about a second's worth while the disk keeps up.", width=8),
        graph("History commits", query(quantile(0.5, "watchbill_history_commit_seconds", OWN), "p50"), query(quantile(0.99, "watchbill_history_commit_seconds", OWN), "p99"), about="How long a batch takes until it is safe on disk.", unit="s", width=8),
        graph("Skipped slots", query(f"sum by (reason) (rate(watchbill_slots_skipped_total{{{OWN}}}[$__rate_interval]))", "{{reason}}"), about="Slots that were due and not probed: overlap (the probe before still ran), overload, shutdown, deleted.", unit="ops", stacked=True, width=8),
        graph("Own faults", query(f"sum(increase(watchbill_handler_errors_total{{{OWN}}}[$__rate_interval]))", "failed handlers"), query(f"sum(increase(watchbill_log_dropped_total{{{OWN}}}[$__rate_interval]))", "dropped log lines"), about="Both should be nothing.", width=8),
        graph("Requests", query(f"sum by (route, code) (rate(watchbill_http_requests_total{{{OWN}}}[$__rate_interval])) > 0", "{{route}} {{code}}"), about="Requests to the exporter, scrapes among them.", unit="reqps", width=8),
        graph("CPU", query(f"rate(process_cpu_seconds_total{{{OWN}}}[$__rate_interval]) {of_ours}", "{{instance}}"), about="Cores in use.", width=8),
        graph("Memory", query(f"process_resident_memory_bytes{{{OWN}}} {of_ours}", "{{instance}}"), about="Resident memory.", unit="bytes", width=8),
        graph("Open files", query(f"process_open_fds{{{OWN}}} {of_ours}", "{{instance}} open"), query(f"process_max_fds{{{OWN}}} {of_ours}", "{{instance}} limit"), about="Descriptors in use and allowed: one a running probe.", width=8, defaults={"custom": {"scaleDistribution": {"type": "log", "log": 10}, "showPoints": "never"}}),
        graph("Scrapes", query(f"scrape_duration_seconds{{{OWN}}} {of_ours}", "{{instance}}"), about="How long Prometheus takes to read /metrics.", unit="s", width=8),
    ]  # fmt: skip


def overview() -> Json:
    return dashboard(
        OVERVIEW_UID,
        "Watchbill / Overview",
        "What is up and what is down, how sure that is, and how the exporter itself is doing.",
        variables=[
            variable("job", "Job", "label_values(watchbill_build_info, job)", everything=None),
            variable("location", "Location", "label_values(watchbill_check_info, location)"),
            variable("service", "Service", "label_values(watchbill_check_info, service)"),
        ],
        links=[],
        rows=[
            ("", [*_at_a_glance(), _checks_table()]),
            ("Services", _services()),
            ("Verdicts", _verdicts()),
            ("Certificates", [_certificates()]),
            ("The exporter", _exporter()),
        ],
    )


# --- one check ----------------------------------------------------------------------------------------

ONE = 'check="$check", location=~"$location"'


def _check_at_a_glance() -> list[Json]:
    ratio: Json = {"unit": "percentunit", "thresholds": RATIO, "defaults": {"decimals": 3}}
    last_result = f"time() - max(watchbill_check_last_result_timestamp_seconds{{{ONE}}})"
    expiry = f"min(probe_ssl_earliest_cert_expiry{{{ONE}}}) - time()"
    return [
        stat("Status", f"min(watchbill_check_status{{{ONE}}})", width=3, about="The last verdict; the worst of all locations shown.", defaults={"mappings": STATUS_MAPPINGS}),
        stat("Failing because", f"max by (reason) (watchbill_check_failing{{{ONE}}})", width=3, about="The one reason, while it fails; nothing otherwise.", legend="{{reason}}", text_mode="name", thresholds=((None, RED),), defaults={"noValue": "-"}),
        stat("Availability", availability(ONE, "$__range"), width=4, about="Successes among the verdicts of the time shown.", **ratio),
        stat("Coverage", coverage(ONE, "$__range"), width=4, about="Slots with a verdict among the slots expected.", **ratio),
        stat("Latency p95", quantile(0.95, "watchbill_check_latency_seconds", ONE, "$__range"), width=4, about="95 of 100 successful probes were faster.", unit="s"),
        stat("Last result", last_result, width=3, about="Time since the newest result.", unit="s"),
        stat("Certificate", expiry, width=3, about="Time until the first certificate in the chain expires.", unit="s", thresholds=CERTIFICATE, defaults={"noValue": "-"}),
    ]  # fmt: skip


def _check_status() -> list[Json]:
    return [
        timeline("Status", f"max by (location) (watchbill_check_status{{{ONE}}})", "{{location}}", about="The status at each location over time.", height=4, defaults={"mappings": STATUS_MAPPINGS}),
        timeline("Failing because", f"max by (location, reason) (watchbill_check_failing{{{ONE}}})", "{{location}} {{reason}}", about="When it failed, for which reason.", height=4, thresholds=((None, RED),), defaults={"color": {"mode": "thresholds"}, "noValue": "never failed in the time shown"}),
    ]  # fmt: skip


def _heatmap() -> Json:
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64, "exponent": 0.5, "fill": "dark-orange"},
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "rowsFrame": {"layout": "auto"},
        "filterValues": {"le": 1e-9},
        "tooltip": {"mode": "single", "yHistogram": True},
        "legend": {"show": True},
    }
    return panel(
        "heatmap",
        "Latency",
        [query(f"sum by (le) (increase(watchbill_check_latency_seconds_bucket{{{ONE}}}[$__rate_interval]))", "{{le}}", kind="heatmap")],
        size=(12, 9),
        about="Successful probes by how long they took; a refused connection is not fast, so failures are not in it.",
        options=options,
    )  # fmt: skip


def _check_latency() -> list[Json]:
    quantiles = [
        query(quantile(q, "watchbill_check_latency_seconds", ONE, "$window"), name)
        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]
    phases = f'avg by (phase) ({{__name__=~"probe_(http|dns|icmp)_duration_seconds", {ONE}}})'
    return [
        _heatmap(),
        graph("Latency quantiles", *quantiles, about="Over the window chosen above. Exact to the histogram's buckets (metrics.buckets).", unit="s", height=9),
        graph("Phases of the last probe", query(phases, "{{phase}}"), about="Where the time goes: resolve, connect, tls, processing, transfer for HTTP; their DNS and ICMP counterparts for those.", unit="s", stacked=True),
        graph("Duration of the last probe", query(f"max by (location) (probe_duration_seconds{{{ONE}}})", "{{location}}"), about="The newest probe at each scrape, failures included.", unit="s"),
    ]  # fmt: skip


def _check_slots() -> list[Json]:
    outcomes = f"sum by (outcome) (increase(watchbill_check_slots_total{{{ONE}}}[$__rate_interval]))"
    both = [
        query(availability(ONE, "$window"), "availability"),
        query(coverage(ONE, "$window"), "coverage"),
    ]
    return [
        graph("Slots by outcome", query(outcomes, "{{outcome}}"), about="How every scheduled probe ended.", stacked=True, overrides=OUTCOMES),
        graph("Availability and coverage", *both, about="Over the window chosen above.", unit="percentunit", defaults={"min": 0, "max": 1}),
    ]  # fmt: skip


def _check_details() -> list[Json]:
    expiry = f"min by (location) (probe_ssl_earliest_cert_expiry{{{ONE}}}) - time()"
    columns = [
        ("status", f"max by (location) (watchbill_check_status{{{ONE}}})"),
        ("last success", f"max by (location) (probe_success{{{ONE}}})"),
        ("duration", f"max by (location) (probe_duration_seconds{{{ONE}}})"),
        ("status code", f"max by (location) (probe_http_status_code{{{ONE}}})"),
        ("IP protocol", f"max by (location) (probe_ip_protocol{{{ONE}}})"),
        ("ended", f"1000 * max by (location) (watchbill_check_last_result_timestamp_seconds{{{ONE}}})"),
        ("interval", f"max by (location) (watchbill_check_interval_seconds{{{ONE}}})"),
        ("", f"max by (location, service, type, target) (watchbill_check_info{{{ONE}}})"),
    ]
    return [
        graph("Certificate", query(expiry, "{{location}}"), about="Time left; it jumps up when the certificate is renewed. Only where TLS is spoken.", unit="s", thresholds=CERTIFICATE),
        graph("HTTP status code", query(f"max by (location) (probe_http_status_code{{{ONE}}})", "{{location}}"), about="Of the last probe; only for http checks.", unit="none", defaults={"decimals": 0}),
        table("Last results", columns, about="The newest result at each location. Older ones, with their messages, are in the history: GET /api/v1/checks/ID/results.", height=6, labels=["location", "service", "type", "target"], sort_by="location", overrides=[STATUS_COLUMN, override("last success", mappings=[{"type": "value", "options": {"1": {"text": "yes", "color": GREEN}, "0": {"text": "no", "color": RED}}}], custom__cellOptions=BACKGROUND), override("duration", unit="s"), override("interval", unit="s"), override("ended", unit="dateTimeFromNow"), override("status code", unit="none")]),
    ]  # fmt: skip


def check() -> Json:
    window = {
        "type": "custom",
        "name": "window",
        "label": "Window",
        "query": "5m,15m,1h,6h,1d",
        "current": {"text": "15m", "value": "15m"},
        "options": [{"text": text, "value": text, "selected": text == "15m"} for text in ("5m", "15m", "1h", "6h", "1d")],
    }  # fmt: skip
    back = {
        "type": "link",
        "title": "Overview",
        "icon": "dashboard",
        "url": f"/d/{OVERVIEW_UID}",
        "keepTime": True,
        "targetBlank": False,
    }
    return dashboard(
        CHECK_UID,
        "Watchbill / Check",
        "One check in depth: its status, where its time goes, how sure its availability is.",
        variables=[
            variable(
                "check", "Check", "label_values(watchbill_check_info, check)", several=False, everything=None
            ),
            variable("location", "Location", 'label_values(watchbill_check_info{check="$check"}, location)'),
            window,
        ],
        links=[back],
        rows=[
            ("", [*_check_at_a_glance(), *_check_status()]),
            ("Latency", _check_latency()),
            ("Slots", _check_slots()),
            ("Details", _check_details()),
        ],
    )


# --- files and queries --------------------------------------------------------------------------------


def render() -> dict[str, str]:
    """Path from the top of the source tree -> the file's text."""
    return {
        f"{FOLDER}/overview.json": _text(overview()),
        f"{FOLDER}/check.json": _text(check()),
    }


def _text(board: Json) -> str:
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"


def queries(board: Json, variables: Mapping[str, str]) -> list[str]:
    """Every query of the dashboard with ``$name`` replaced, its variables' and annotations' among them.

    :raises KeyError: a query names a variable that is not given.
    """
    return [_VARIABLE.sub(lambda found: variables[found[1]], text) for text in _texts(board)]


_VARIABLE = re.compile(r"\$\{?([a-z_]+)\}?")
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


def _texts(board: Json) -> Iterator[str]:
    for one in board["templating"]["list"]:
        if one["type"] == "query":
            series, label = _LABEL_VALUES.fullmatch(one["definition"]).groups()  # type: ignore[union-attr]
            yield f"count by ({label}) ({series})"
    for one in board["panels"]:
        yield from (target["expr"] for target in one.get("targets", ()))
    yield from (one["expr"] for one in board["annotations"]["list"])
