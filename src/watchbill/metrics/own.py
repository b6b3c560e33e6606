"""The families over all checks: what Watchbill knows of its configuration, its work and its process."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

from prometheus_client import CollectorRegistry, ProcessCollector

from watchbill.board import Board
from watchbill.clock import Clock
from watchbill.domain.checks import TYPE_NAMES
from watchbill.domain.fields import Service
from watchbill.domain.messages import ConfigRejected, ConfigReloaded
from watchbill.domain.results import Reason
from watchbill.domain.status import STATUS_VALUE
from watchbill.domain.units import SECOND, Instant
from watchbill.metrics.exposition import Family, histogram, labels, number, sample, samples
from watchbill.metrics.sources import DiscoveryNumbers, OtlpNumbers, Sources, WebNumbers

OWN_FAMILIES: tuple[Family, ...] = (
    Family("watchbill_service_status", "gauge", "1 up, 0.5 degraded, 0 down; absent while unknown.", ("service",)),
    Family("watchbill_service_info", "gauge", "A declared service, who looks after it and where it says what to do; always 1.", ("service", "owner", "runbook")),
    Family("watchbill_checks", "gauge", "Registered checks.", ("type",)),
    Family("watchbill_failures_total", "counter", "Scheduled probes that failed or erred, by their primary reason.", ("type", "reason")),
    Family("watchbill_slots_skipped_total", "counter", "Scheduled slots that were not probed.", ("reason",)),
    Family("watchbill_schedule_delay_seconds", "histogram", "From the instant a slot is due to the start of its probe."),
    Family("watchbill_event_loop_lag_seconds", "histogram", "How late the event loop woke from a short sleep."),
    Family("watchbill_results_stalled_total", "counter", "Results taken while the event loop stood still, marked and left out of durations."),
    Family("watchbill_probes_running", "gauge", "Probes in flight."),
    Family("watchbill_clock_drift_seconds", "gauge", "Wall clock minus the timeline that slots are on."),
    Family("watchbill_history_rows_total", "counter", "Rows committed to history."),
    Family("watchbill_history_dropped_rows_total", "counter", "Rows given up because the store did not take them in time."),
    Family("watchbill_history_pending", "gauge", "Events waiting for their commit."),
    Family("watchbill_history_commit_seconds", "histogram", "How long commits to history took."),
    Family("watchbill_history_commit_failures_total", "counter", "Commits to history that failed and were retried."),
    Family("watchbill_history_size_bytes", "gauge", "Size of the history file, with the log beside it."),
    Family("watchbill_history_memory_bytes", "gauge", "Memory that the store uses, mostly for history it has at hand; part of the process's."),
    Family("watchbill_history_repaired_total", "counter", "Times that history was found damaged and was mended."),
    Family("watchbill_history_lost_batches_total", "counter", "Batches that had been committed and were not there any more at a start."),
    Family("watchbill_handler_errors_total", "counter", "Event subscribers that raised.", ("handler",)),
    Family("watchbill_log_dropped_total", "counter", "Log lines given up because nobody read them in time."),
    Family("watchbill_http_requests_total", "counter", "HTTP requests answered.", ("route", "method", "code")),
    Family("watchbill_http_request_duration_seconds", "histogram", "How long HTTP requests took.", ("route",)),
    Family("watchbill_web_config_last_reload_successful", "gauge", "1 if the web configuration was good when it was last read."),
    Family("watchbill_web_config_last_reload_success_timestamp_seconds", "gauge", "When the web configuration that holds was read."),
    Family("watchbill_web_config_reload_failures_total", "counter", "Readings of the web configuration that were rejected."),
    Family("watchbill_web_handshake_failures_total", "counter", "Connections to the web that came to nothing in TLS.", ("reason",)),
    Family("watchbill_otlp_exported_total", "counter", "Spans (traces) and data points (metrics) that the OTLP receiver took.", ("signal",)),
    Family("watchbill_otlp_dropped_total", "counter", "Spans and data points that were given up.", ("signal", "reason")),
    Family("watchbill_otlp_failed_requests_total", "counter", "Requests to the OTLP receiver that failed and may be tried again.", ("signal",)),
    Family("watchbill_otlp_pending_spans", "gauge", "Spans waiting for the OTLP receiver."),
    Family("watchbill_config_last_reload_successful", "gauge", "1 if the last load of the configuration succeeded."),
    Family("watchbill_config_last_reload_success_timestamp_seconds", "gauge", "When the configuration was last loaded successfully."),
    Family("watchbill_config_info", "gauge", "The running configuration; always 1.", ("digest", "revision")),
    Family("watchbill_discovery_targets", "gauge", "Checks that a block of discover has of its targets.", ("discovery",)),
    Family("watchbill_discovery_dropped_targets", "gauge", "Targets of a block that are no checks: not valid, or of an id that is taken.", ("discovery", "reason")),
    Family("watchbill_discovery_kept_targets", "gauge", "Checks that a source has no more and that were kept, since most of the block would have gone.", ("discovery",)),
    Family("watchbill_discovery_failures_total", "counter", "Times that a source could not be asked, or was not understood.", ("discovery",)),
    Family("watchbill_discovery_last_success_timestamp_seconds", "gauge", "When a source was last asked with success; 0 if never.", ("discovery",)),
    Family("watchbill_build_info", "gauge", "The running program; always 1.", ("version", "python")),
)  # fmt: skip
_FAMILY = {family.name: family for family in OWN_FAMILIES}

Block = tuple[Family, str]


@dataclass(slots=True)
class ReloadState:
    """What the last attempts to load the configuration came to."""

    successful: bool = False
    succeeded_at: Instant = 0
    digest: str | None = None
    revision: str = ""

    def reloaded(self, event: ConfigReloaded) -> None:
        self.successful, self.succeeded_at = True, event.at
        self.digest, self.revision = event.loaded.digest, event.loaded.revision

    def rejected(self, event: ConfigRejected) -> None:
        self.successful = False


class OwnFamilies:
    """Renders ``OWN_FAMILIES`` and the process's."""

    def __init__(self, *, board: Board, clock: Clock, sources: Sources, version: str) -> None:
        self._board = board
        self._clock = clock
        self._sources = sources
        self._build = {"version": version, "python": ".".join(map(str, sys.version_info[:3]))}
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self.reloads = ReloadState()

    def blocks(self) -> Iterator[Block]:
        for name, text in self._texts():
            yield _FAMILY[name], text
        yield from self._process_blocks()

    def _texts(self) -> Iterator[tuple[str, str]]:
        yield from self._board_texts()
        yield from self._scheduler_texts()
        yield from self._history_texts()
        yield from self._border_texts()
        yield from self._config_texts()

    def _board_texts(self) -> Iterator[tuple[str, str]]:
        board = self._board
        name = "watchbill_service_status"
        known = [(service, STATUS_VALUE.get(status)) for service, status in board.services.items()]
        yield name, samples(name, "service", [(key, value) for key, value in known if value is not None])
        yield "watchbill_service_info", "".join(_services(board.declared_services))
        name = "watchbill_checks"
        counts: Counter[str] = Counter(state.check.type for state in board.checks.values())
        yield name, samples(name, "type", [(kind, counts[kind]) for kind in TYPE_NAMES])
        name = "watchbill_failures_total"
        yield name, "".join(self._failures(name))
        yield _single("watchbill_results_stalled_total", board.stalled)
        name = "watchbill_slots_skipped_total"
        yield name, samples(name, "reason", [(reason.value, n) for reason, n in board.skipped.items()])

    def _failures(self, name: str) -> Iterable[str]:
        """Every reason of every type in use, also those that never happened."""
        failures = self._board.failures
        for kind in dict.fromkeys(kind for kind, _ in failures):
            for reason in Reason:
                count = failures.get((kind, reason), 0)
                yield f'{name}{{type="{kind}",reason="{reason.value}"}} {count}\n'

    def _scheduler_texts(self) -> Iterator[tuple[str, str]]:
        yield _single("watchbill_clock_drift_seconds", self._clock.drift() / SECOND)
        if self._sources.scheduler is None:
            return
        numbers = self._sources.scheduler()
        for name, seen in (
            ("watchbill_schedule_delay_seconds", numbers.delay),
            ("watchbill_event_loop_lag_seconds", numbers.lag),
        ):
            yield name, histogram(name, "", seen)
        yield _single("watchbill_probes_running", numbers.running)

    def _history_texts(self) -> Iterator[tuple[str, str]]:
        if self._sources.writer is None:
            return
        numbers = self._sources.writer()
        yield _single("watchbill_history_rows_total", numbers.rows)
        yield _single("watchbill_history_dropped_rows_total", numbers.dropped_rows)
        yield _single("watchbill_history_pending", numbers.pending)
        name = "watchbill_history_commit_seconds"
        yield name, histogram(name, "", numbers.commit_seconds)
        yield _single("watchbill_history_commit_failures_total", numbers.failures)
        if self._sources.storage is not None:
            kept = self._sources.storage()
            if kept.size_bytes is not None:
                yield _single("watchbill_history_size_bytes", kept.size_bytes)
            if kept.memory_bytes is not None:
                yield _single("watchbill_history_memory_bytes", kept.memory_bytes)
            yield _single("watchbill_history_repaired_total", kept.repairs)
            yield _single("watchbill_history_lost_batches_total", kept.lost_batches)

    def _border_texts(self) -> Iterator[tuple[str, str]]:
        if self._sources.bus is not None:
            name = "watchbill_handler_errors_total"
            yield name, samples(name, "handler", self._sources.bus().handler_errors.items())
        if self._sources.log is not None:
            yield _single("watchbill_log_dropped_total", self._sources.log().dropped)
        if self._sources.http is not None:
            yield from _http_texts(self._sources)
        if self._sources.web is not None:
            yield from _web_texts(self._sources.web())
        numbers = self._sources.otlp() if self._sources.otlp is not None else None
        if numbers is not None:
            yield from _otlp_texts(numbers)

    def _config_texts(self) -> Iterator[tuple[str, str]]:
        reloads = self.reloads
        yield _single("watchbill_config_last_reload_successful", reloads.successful)
        yield _single("watchbill_config_last_reload_success_timestamp_seconds", reloads.succeeded_at / SECOND)
        if reloads.digest is not None:
            name = "watchbill_config_info"
            info = {"digest": reloads.digest, "revision": reloads.revision}
            yield name, sample(name, labels(info), 1)
        if self._sources.discovery is not None:
            yield from _discovery_texts(self._sources.discovery())
        yield "watchbill_build_info", sample("watchbill_build_info", labels(self._build), 1)

    def _process_blocks(self) -> Iterator[Block]:
        for metric in self._process.collect():
            counter = metric.type == "counter"
            name = f"{metric.name}_total" if counter else metric.name
            text = "".join(f"{seen.name} {number(seen.value)}\n" for seen in metric.samples)
            yield Family(name, "counter" if counter else "gauge", metric.documentation), text


def _services(declared: Mapping[str, Service]) -> Iterator[str]:
    for name, service in declared.items():
        told = {"service": name, "owner": service.owner, "runbook": service.runbook}
        yield sample("watchbill_service_info", labels(told), 1)


def _single(name: str, value: float) -> tuple[str, str]:
    return name, sample(name, "", value)


def _web_texts(numbers: WebNumbers) -> Iterator[tuple[str, str]]:
    yield _single("watchbill_web_config_last_reload_successful", numbers.successful)
    yield _single("watchbill_web_config_last_reload_success_timestamp_seconds", numbers.succeeded_at / SECOND)
    yield _single("watchbill_web_config_reload_failures_total", numbers.failures)
    if numbers.handshake_failures is not None:
        name = "watchbill_web_handshake_failures_total"
        yield name, samples(name, "reason", numbers.handshake_failures.items())


def _http_texts(sources: Sources) -> Iterator[tuple[str, str]]:
    if sources.http is None:
        return
    numbers = sources.http()
    name = "watchbill_http_requests_total"
    yield (
        name,
        "".join(
            sample(name, labels({"route": route, "method": method, "code": str(code)}), count)
            for (route, method, code), count in numbers.requests.items()
        ),
    )
    name = "watchbill_http_request_duration_seconds"
    yield (
        name,
        "".join(histogram(name, labels({"route": route}), seen) for route, seen in numbers.durations.items()),
    )


def _discovery_texts(blocks: Mapping[str, DiscoveryNumbers]) -> Iterator[tuple[str, str]]:
    for name, value in (
        ("watchbill_discovery_targets", attrgetter("checks")),
        ("watchbill_discovery_kept_targets", attrgetter("kept")),
        ("watchbill_discovery_failures_total", attrgetter("failures")),
        ("watchbill_discovery_last_success_timestamp_seconds", attrgetter("succeeded_at")),
    ):
        yield name, samples(name, "discovery", [(block, value(numbers)) for block, numbers in blocks.items()])
    name = "watchbill_discovery_dropped_targets"
    dropped = [
        sample(name, labels({"discovery": block, "reason": reason}), count)
        for block, numbers in blocks.items()
        for reason, count in (("duplicate", numbers.duplicate), ("invalid", numbers.invalid))
    ]
    yield name, "".join(dropped)


def _otlp_texts(numbers: OtlpNumbers) -> Iterator[tuple[str, str]]:
    name = "watchbill_otlp_exported_total"
    yield name, samples(name, "signal", numbers.exported.items())
    name = "watchbill_otlp_dropped_total"
    dropped = numbers.dropped.items()
    yield (
        name,
        "".join(
            sample(name, labels({"signal": signal, "reason": reason}), count)
            for (signal, reason), count in dropped
        ),
    )
    name = "watchbill_otlp_failed_requests_total"
    yield name, samples(name, "signal", numbers.failures.items())
    yield _single("watchbill_otlp_pending_spans", numbers.pending)
