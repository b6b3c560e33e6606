"""The real exporter, a receiver of OTLP and a target that looks at what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.exporter import Exporter, exporter, free_port
from tests.metrics.states import series_of
from tests.otlp.receiver import Receiver, Reply, attributes, receiving
from tests.otlp.translated import series_of_metrics

pytestmark = pytest.mark.e2e
SECRET = "sesame-open-42"


@dataclass
class Target:
    """``parents``: the traceparent of every request, in order."""

    port: int = 0
    parents: list[str | None] = field(default_factory=list)


@contextmanager
def target() -> Iterator[Target]:
    found = Target()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.parents.append(self.headers.get("traceparent"))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write(config: Path, otlp: str, port: int) -> None:
    checks = [
        f"  told: {{type: http, url: 'http://127.0.0.1:{port}/?token=query-canary', interval: 1s, traceparent: true}}",
        f"  quiet: {{type: http, url: 'http://127.0.0.1:{port}/quiet', interval: 1s, service: shop}}",
        f"  refused: {{type: tcp, host: 127.0.0.1, port: {free_port()}, interval: 1s}}",
    ]
    aside = config.with_suffix(".new")
    aside.write_text("\n".join(["version: 1", otlp, "services: {shop: {}}", "checks:", *checks, ""]))
    aside.replace(config)


def section(receiver: Receiver, more: str = "") -> str:
    return (
        f"otlp: {{endpoint: '{receiver.endpoint}', interval: 1s, headers: {{Authorization: 'Bearer ${{OTLP_TOKEN}}'}}"
        f"{more}}}"
    )


def reload(running: Exporter) -> None:
    assert running.request("/-/reload", method="POST").status == 200


def results(running: Exporter) -> float:
    return running.total("watchbill_history_rows_total")


def test_metrics_and_one_span_a_probe_and_the_target_sees_the_trace(tmp_path: Path) -> None:
    config = tmp_path / "checks.yaml"
    with receiving() as receiver, target() as seen:
        write(config, section(receiver, ", resource: {deployment.environment.name: test}"), seen.port)
        with exporter(config, tmp_path / "run", environ={"OTLP_TOKEN": SECRET}) as running:
            receiver.until("a dozen spans", lambda: len(receiver.spans()) >= 12)
            receiver.until("metrics", receiver.metrics)
            own = {name for name in running.metrics() if "watchbill_otlp_" in name}
            config_shown = running.request("/api/v1/config").text
            assert running.stop() == 0
            log = running.log.read_text()
        spans = receiver.spans()
        stored = [line for line in log.splitlines() if '"watchbill.stopped"' in line]
        # One span a probe: as many as results, each of an id of its own, none lost on the way down.
        assert f'"results_produced": {len(spans)},' in stored[0]
        assert len({span.trace_id for span in spans}) == len({span.span_id for span in spans}) == len(spans)
        told = [span for span in spans if attributes(span.attributes)["watchbill.check"] == "told"]
        parents = [parent for parent in seen.parents if parent is not None]
        assert sorted(parents) == sorted(f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in told)
        assert None in seen.parents
        for span in spans:
            said = attributes(span.attributes)
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.events[0].name == "resolve"
            assert (span.status.code == 2) == (said["watchbill.outcome"] != "success")
        for request in receiver.requests:
            assert request.headers["authorization"] == f"Bearer {SECRET}"
            assert isinstance(request.message, ExportTraceServiceRequest | ExportMetricsServiceRequest)
            parts = (
                request.message.resource_spans
                if isinstance(request.message, ExportTraceServiceRequest)
                else request.message.resource_metrics
            )
            resource = attributes(parts[0].resource.attributes)
            assert resource["service.name"] == "watchbill"
            assert resource["deployment.environment.name"] == "test"
            assert resource["service.instance.id"].endswith(running.url.rpartition(":")[2])
            assert b"query-canary" not in request.message.SerializeToString()
        assert receiver.refused == []
        assert len(own) == 16
        assert SECRET not in config_shown + log
        assert '"endpoint"' in config_shown


def test_the_last_export_is_what_the_last_scrape_showed(tmp_path: Path) -> None:
    config = tmp_path / "checks.yaml"
    with receiving() as receiver, target() as seen:
        write(
            config, section(receiver, ", traces: false").replace("interval: 1s", "interval: 1h", 1), seen.port
        )
        text = config.read_text().replace("interval: 1s", "interval: 1h")
        config.write_text(text)
        with exporter(config, tmp_path / "run", environ={"OTLP_TOKEN": SECRET}) as running:
            running.until("all were probed", lambda: results(running) >= 3)
            shown = series_of(running.request("/metrics").text)
            assert running.stop() == 0
        exported = series_of_metrics(receiver.metrics())
        checks = {key: value for key, value in shown.items() if any(name == "check" for name, _ in key[1])}
        assert exported == checks
        assert [request.path for request in receiver.requests] == ["/v1/metrics"]


def test_a_reload_switches_it_on_to_another_receiver_and_off(tmp_path: Path) -> None:
    config = tmp_path / "checks.yaml"
    with receiving() as first, receiving() as second, target() as seen:
        write(config, "", seen.port)
        with exporter(config, tmp_path / "run", environ={"OTLP_TOKEN": SECRET}) as running:
            running.until("probes", lambda: results(running) >= 3)
            assert not any("watchbill_otlp_" in name for name in running.metrics())
            before = len(seen.parents)
            running.until("more probes", lambda: len(seen.parents) > before + 2)
            assert first.requests == []
            write(config, section(first), seen.port)
            reload(running)
            first.until("spans", lambda: len(first.spans()) >= 3)
            write(config, section(second), seen.port)
            reload(running)
            second.until("spans", lambda: len(second.spans()) >= 3)
            second.until("metrics", second.metrics)
            write(config, "", seen.port)
            reload(running)
            running.until("nothing waits", lambda: running.metrics()["watchbill_otlp_pending_spans"] == 0)
            quiet = len(second.requests)
            more = len(seen.parents)
            running.until("probes go on", lambda: len(seen.parents) > more + 6)
            assert len(second.requests) == quiet
            assert running.total("watchbill_otlp_dropped_total") == 0
            assert running.stop() == 0
        ids = [span.span_id for receiver in (first, second) for span in receiver.spans()]
        assert len(ids) == len(set(ids))


def test_a_receiver_that_fails_hangs_and_refuses_holds_nothing_up(tmp_path: Path) -> None:
    config = tmp_path / "checks.yaml"
    with receiving() as receiver, target() as seen:
        receiver.answer("/v1/traces", Reply(503, headers={"Retry-After": "1"}), Reply(400))
        receiver.answer("/v1/metrics", Reply(hangs=True))
        write(config, section(receiver, ", timeout: 1s"), seen.port)
        with exporter(config, tmp_path / "run", environ={"OTLP_TOKEN": SECRET}) as running:
            receiver.until("spans after all", lambda: len(receiver.spans()) >= 3)
            receiver.until("metrics after all", receiver.metrics)
            seen_all = running.metrics()
            assert seen_all['watchbill_otlp_failed_requests_total{signal="traces"}'] == 1
            assert seen_all['watchbill_otlp_failed_requests_total{signal="metrics"}'] >= 1
            rejected = seen_all['watchbill_otlp_dropped_total{signal="traces",reason="rejected"}']
            assert rejected >= 1
            assert running.total("watchbill_slots_skipped_total") == 0
            receiver.otherwise = Reply(hangs=True)
            receiver.until("hanging", lambda: len(receiver.requests) > len(receiver.taken) + 3)
            assert running.stop() == 0
            log = running.log.read_text()
        assert '"otlp.dropped"' in log
        assert SECRET not in log
