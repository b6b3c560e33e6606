"""Watchbill itself: whether it keeps its schedule, its history and its configuration."""

from __future__ import annotations

from watchbill.generate.dashboards.frame import dashboard, job, to_watchbill
from watchbill.generate.dashboards.looks import (
    ANY_IS_BAD,
    CONFIG_TEXTS,
    GREEN,
    LESS_THAN_ALL_IS_BAD,
    MORE_THAN_NOTHING_IS_BAD,
    NEUTRAL,
    OVER_50_MS,
    RED,
    Json,
    override,
    texts,
)
from watchbill.generate.dashboards.panels import graph, query, stat, table, timeline
from watchbill.generate.dashboards.queries import OF_OURS, OWN, increase, quantile, rate

LAG, DELAY = "watchbill_event_loop_lag_seconds", "watchbill_schedule_delay_seconds"
COMMIT = "watchbill_history_commit_seconds"
OWN_SIDE = "descriptors|network|resolver|permission|stall|internal"
UP = f"up{{{OWN}}} and on (job, instance) last_over_time(watchbill_build_info[1d])"
THIRD = 8


def exporter(*, watchbill_url: str) -> Json:
    return dashboard(
        "exporter",
        "Exporter",
        "Watchbill itself: whether it keeps its schedule, its history and its configuration.",
        watchbill_url=watchbill_url,
        variables=[job()],
        links=[to_watchbill("Watchbill's own page", "/")],
        rows=[
            ("", [*_at_a_glance(), *_which()]),
            ("Probing", _probing()),
            ("History", _history()),
            ("Process", _process()),
            ("HTTP", _http()),
            ("Configuration and faults", _faults()),
            ("Discovery", _discovery()),
            ("OpenTelemetry", _otlp()),
        ],
    )


def _own_errors(window: str) -> str:
    return increase("watchbill_failures_total", window, f'{OWN}, reason=~"{OWN_SIDE}"')


def _at_a_glance() -> list[Json]:
    lost = increase("watchbill_history_dropped_rows_total", "$__range")
    return [
        stat("Exporters answering", f"avg({UP})", width=3, about="The share that Prometheus can scrape.", unit="percentunit", thresholds=LESS_THAN_ALL_IS_BAD, defaults={"noValue": "none known"}),
        stat("Checks", f"sum(watchbill_checks{{{OWN}}})", width=3, about="Declared checks, the disabled ones too.", thresholds=NEUTRAL),
        stat("Probes a second", _probes(), width=3, about="Slots that ended with a probe.", unit="none", thresholds=NEUTRAL, defaults={"decimals": 1}),
        stat("Event loop lag p99", quantile(0.99, LAG, OWN), width=3, about="How late the loop wakes. Past 50 ms the machine is too small for the checks.", unit="s", thresholds=OVER_50_MS),
        stat("Slot start p99", quantile(0.99, DELAY, OWN), width=3, about="How late probes start after their slot is due.", unit="s", thresholds=OVER_50_MS),
        stat("Own errors", _own_errors("$__range"), width=3, about="Probes of the time shown that ended by a fault of our own side.", thresholds=MORE_THAN_NOTHING_IS_BAD, defaults={"decimals": 0}),
        stat("Rows lost", lost, width=3, about="Rows of history given up in the time shown.", thresholds=MORE_THAN_NOTHING_IS_BAD, defaults={"decimals": 0}),
        stat("Configuration", f"min(watchbill_config_last_reload_successful{{{OWN}}})", width=3, about="Whether the configuration that was read last is the one that runs.", defaults={"mappings": CONFIG_TEXTS}),
    ]  # fmt: skip


def _which() -> list[Json]:
    columns = [
        ("answers", f"max by (job, instance) ({UP})"),
        ("", f"max by (job, instance, version, python) (watchbill_build_info{{{OWN}}})"),
        ("", f"max by (job, instance, revision, digest) (watchbill_config_info{{{OWN}}})"),
        ("loaded", f"1000 * max by (job, instance) (watchbill_config_last_reload_success_timestamp_seconds{{{OWN}}})"),
        ("started", f"1000 * max by (job, instance) (process_start_time_seconds{{{OWN}}} {OF_OURS})"),
        ("checks", f"sum by (job, instance) (watchbill_checks{{{OWN}}})"),
        ("samples a scrape", f"max by (job, instance) (scrape_samples_scraped{{{OWN}}} {OF_OURS})"),
    ]  # fmt: skip
    answers = texts(_1=("yes", GREEN), _0=("no", RED))
    return [
        table("Exporters", columns, about="What runs where: the release, and the configuration by its digest and Git revision.", height=6, labels=["job", "instance", "Value #A", "version", "python", "revision", "digest"], sort_by="instance", overrides=[override("answers", mappings=answers, custom__cellOptions={"type": "color-background"}), override("loaded", unit="dateTimeFromNow"), override("started", unit="dateTimeFromNow")]),
        timeline("Exporters answering", f"max by (instance) ({UP})", "{{instance}}", about="When Prometheus could scrape each of them.", height=4, defaults={"mappings": answers}),
    ]  # fmt: skip


def _probes(by: str = "") -> str:
    return rate("watchbill_check_slots_total", f'{OWN}, outcome=~"success|failure|error"', by)


def _probing() -> list[Json]:
    skipped = rate("watchbill_slots_skipped_total", OWN, "reason")
    by_reason = increase(
        "watchbill_failures_total", "$__rate_interval", f'{OWN}, reason=~"{OWN_SIDE}"', "reason"
    )
    return [
        graph("Probes by type", query(_probes("type"), "{{type}}"), about="Slots a second that ended with a probe.", unit="ops", stacked=True, width=THIRD),
        graph("Probes in flight", query(f"sum by (instance) (watchbill_probes_running{{{OWN}}})", "{{instance}}"), about="At the instant of the scrape; limits.concurrent_probes bounds them.", width=THIRD),
        graph("Checks", query(f"sum by (type) (watchbill_checks{{{OWN}}})", "{{type}}"), about="Declared checks by type.", stacked=True, width=THIRD, defaults={"decimals": 0}),
        graph("Slot start", *_quantiles(DELAY), about="From the instant that a slot is due to the start of its probe.", unit="s", thresholds=OVER_50_MS, width=THIRD),
        graph("Event loop lag", *_quantiles(LAG), about="How late the loop wakes from a short sleep. Past 50 ms latencies are measured too high.", unit="s", thresholds=OVER_50_MS, width=THIRD),
        graph("Results taken while the loop stood still", query(increase("watchbill_results_stalled_total", "$__rate_interval"), "stalled"), about="They are marked, and left out of every duration.", width=THIRD),
        graph("Skipped slots", query(skipped, "{{reason}}"), about="Slots that were due and not probed: overlap (the probe before still ran), overload, shutdown, deleted.", unit="ops", stacked=True, width=THIRD),
        graph("Errors of our own side", query(by_reason, "{{reason}}"), about="Nothing is said about the targets. The reason says what is short here.", stacked=True, width=THIRD, defaults={"min": 0}),
        graph("Clock drift", query(f"max by (instance) (watchbill_clock_drift_seconds{{{OWN}}})", "{{instance}}"), about="Wall clock minus the timeline that slots are on; up to 2 s is slewed away.", unit="s", width=THIRD),
    ]  # fmt: skip


def _quantiles(family: str) -> list[Json]:
    return [query(quantile(share, family, OWN), name) for share, name in ((0.5, "p50"), (0.99, "p99"))]


def _history() -> list[Json]:
    mended = increase("watchbill_history_repaired_total", "$__range")
    gone = increase("watchbill_history_lost_batches_total", "$__range")
    return [
        graph("Rows", query(rate("watchbill_history_rows_total"), "written"), query(rate("watchbill_history_dropped_rows_total"), "dropped"), about="Rows a second into the store. Dropped rows are lost; probing goes on.", unit="ops", width=THIRD),
        graph("Waiting", query(f"sum by (instance) (watchbill_history_pending{{{OWN}}})", "{{instance}}"), about="Rows that are not committed yet: about a second's worth while the disk keeps up.", width=THIRD),
        graph("Commits", *_quantiles(COMMIT), about="How long a batch takes until it is safe on disk.", unit="s", width=THIRD),
        graph("Failed commits", query(increase("watchbill_history_commit_failures_total", "$__rate_interval"), "failed"), about="Each is tried again. A full disk shows here first.", width=THIRD),
        graph("Size", query(f"max by (instance) (watchbill_history_size_bytes{{{OWN}}})", "{{instance}} on disk"), query(f"max by (instance) (watchbill_history_memory_bytes{{{OWN}}})", "{{instance}} in memory"), about="The file on disk with its log, and what the database holds of it in memory.", unit="bytes", width=THIRD, defaults={"min": 0}),
        stat("Times mended", mended, width=4, about="How often a damaged history file was mended in the time shown; the log says what was done.", thresholds=ANY_IS_BAD, defaults={"decimals": 0}),
        stat("Batches lost", gone, width=4, about="Batches that had been committed and were gone at a start; their slots are missed.", thresholds=ANY_IS_BAD, defaults={"decimals": 0}),
    ]  # fmt: skip


def _process() -> list[Json]:
    return [
        graph("CPU", query(f"rate(process_cpu_seconds_total{{{OWN}}}[$__rate_interval]) {OF_OURS}", "{{instance}}"), about="Cores in use.", width=THIRD),
        graph("Memory", query(f"process_resident_memory_bytes{{{OWN}}} {OF_OURS}", "{{instance}}"), about="Resident memory.", unit="bytes", width=THIRD, defaults={"min": 0}),
        graph("Open files", query(f"process_open_fds{{{OWN}}} {OF_OURS}", "{{instance}} open"), query(f"process_max_fds{{{OWN}}} {OF_OURS}", "{{instance}} limit"), about="Descriptors in use and allowed: one a running probe.", width=THIRD, logarithmic=True),
    ]  # fmt: skip


def _http() -> list[Json]:
    requests = f"{rate('watchbill_http_requests_total', OWN, 'route, code')} > 0"
    slowest = quantile(0.99, "watchbill_http_request_duration_seconds", OWN, by="route")
    scrapes = f"scrape_duration_seconds{{{OWN}}} {OF_OURS}"
    samples = f"scrape_samples_scraped{{{OWN}}} {OF_OURS}"
    handshakes = increase("watchbill_web_handshake_failures_total", "$__rate_interval", OWN, "reason")
    web = f"max by (instance) (watchbill_web_config_last_reload_successful{{{OWN}}})"
    return [
        graph("Requests", query(requests, "{{route}} {{code}}"), about="Requests to the exporter, scrapes among them.", unit="reqps", width=6),
        graph("Slowest requests", query(slowest, "{{route}}"), about="99 of 100 requests of a route were faster.", unit="s", width=6),
        graph("Scrapes", query(scrapes, "{{instance}}"), about="How long Prometheus takes to read /metrics.", unit="s", width=6),
        graph("Samples a scrape", query(samples, "{{instance}}"), about="How many samples Prometheus takes from each exporter.", width=6),
        timeline("Web configuration", web, "{{instance}}", about="Whether the file of users and certificates was good when it was last read; while refused, the one from before holds.", height=5, width=12, defaults={"mappings": CONFIG_TEXTS, "noValue": "none is given"}),
        graph("Failed handshakes", query(handshakes, "{{reason}}"), about="Connections that came to nothing in TLS, a client's certificate among the reasons.", height=5, defaults={"min": 0, "noValue": "no TLS"}),
    ]  # fmt: skip


def _discovery() -> list[Json]:
    targets = f"sum by (discovery) (watchbill_discovery_targets{{{OWN}}})"
    dropped = f"sum by (discovery, reason) (watchbill_discovery_dropped_targets{{{OWN}}})"
    kept = f"sum by (discovery) (watchbill_discovery_kept_targets{{{OWN}}})"
    failures = increase("watchbill_discovery_failures_total", "$__rate_interval", OWN, "discovery")
    read = f"time() - max by (discovery) (watchbill_discovery_last_success_timestamp_seconds{{{OWN}}} > 0)"
    none: Json = {"noValue": "nothing is discovered", "decimals": 0}
    return [
        graph("Discovered checks", query(targets, "{{discovery}}"), about="Checks that each block of discover has of its targets.", width=6, stacked=True, defaults=none),
        graph("Targets that are no checks", query(dropped, "{{discovery}}: {{reason}}"), query(kept, "{{discovery}}: kept"), about="Not valid, or of an id that is taken. Kept are those that the source has no more, since most of the block would have gone.", width=6, defaults=none),
        graph("Sources that failed", query(failures, "{{discovery}}"), about="The source could not be asked, or was not understood: what it told last is kept.", width=6, defaults=none),
        graph("Since a source was read", query(read, "{{discovery}}"), about="Time since each source was last asked with success.", unit="s", width=6, defaults={"noValue": "nothing is discovered"}),
    ]  # fmt: skip


def _otlp() -> list[Json]:
    none: Json = {"noValue": "nothing is exported", "min": 0}
    exported = rate("watchbill_otlp_exported_total", OWN, "signal")
    dropped = increase("watchbill_otlp_dropped_total", "$__rate_interval", OWN, "signal, reason")
    failed = increase("watchbill_otlp_failed_requests_total", "$__rate_interval", OWN, "signal")
    pending = f"sum by (instance) (watchbill_otlp_pending_spans{{{OWN}}})"
    return [
        graph("Exported", query(exported, "{{signal}}"), about="Spans and data points a second that the receiver took.", unit="ops", width=6, defaults=none),
        graph("Waiting spans", query(pending, "{{instance}}"), about="They wait while the receiver does not answer, as many as fit.", width=6, defaults=none),
        graph("Failed requests", query(failed, "{{signal}}"), about="Requests to the receiver that failed; they are tried again.", width=6, defaults=none),
        graph("Given up", query(dropped, "{{signal}}: {{reason}}"), about="Spans and data points that the receiver never got.", width=6, defaults=none),
    ]  # fmt: skip


def _faults() -> list[Json]:
    handlers = increase("watchbill_handler_errors_total", "$__rate_interval", OWN, "handler")
    log = increase("watchbill_log_dropped_total", "$__rate_interval")
    loaded = f"max by (instance) (watchbill_config_last_reload_successful{{{OWN}}})"
    return [
        timeline("Configuration", loaded, "{{instance}}", about="Whether the last attempt to load a configuration succeeded; while refused, the one from before runs on.", height=5, defaults={"mappings": CONFIG_TEXTS}),
        graph("Failed handlers", query(handlers, "{{handler}}"), about="Anything over nothing is a defect of Watchbill: the log has its traceback.", defaults={"min": 0}),
        graph("Dropped log lines", query(log, "dropped"), about="Nobody read the log fast enough; lines were given up so that no probe waits.", defaults={"min": 0}),
    ]  # fmt: skip
