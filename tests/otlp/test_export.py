"""When what is sent, again, or given up: over a fake client and virtual time."""

from __future__ import annotations

import gc
import gzip
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest
import structlog.testing
import trio
import trio.testing
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.metrics.states import declare, probe_of
from tests.otlp.receiver import PROTOBUF, attributes
from watchbill.board import Board
from watchbill.clock import Clock
from watchbill.domain.checks import Check
from watchbill.domain.config import Config, LoadedConfig
from watchbill.domain.messages import CheckDeleted, CheckRegistered, ConfigReloaded
from watchbill.domain.otlp import OtlpOptions
from watchbill.domain.plan import Plan
from watchbill.domain.results import Reason
from watchbill.domain.tracing import Trace, TraceContext
from watchbill.domain.units import SECOND
from watchbill.metrics import CHECK_FAMILIES, Metrics
from watchbill.otlp import Export, ExportParts, courier, queue
from watchbill.ports import HttpError
from watchbill.testing import FakeHttp, HttpReply, HttpRequest, inline, virtual_clock

TRACES, METRICS = "http://collector.test:4318/v1/traces", "http://collector.test:4318/v1/metrics"
OK = HttpReply(200, (), {"Content-Type": PROTOBUF})
Answer = HttpReply | HttpError


@dataclass
class Stage:
    """An export over a receiver that says ``replies`` in turn, then takes everything."""

    clock: Clock
    replies: list[Answer] = field(default_factory=list)
    otherwise: Answer = OK
    board: Board = field(default_factory=Board)
    came_at: list[float] = field(default_factory=list)
    drawn: bytes = b"\x80\0"

    def __post_init__(self) -> None:
        self.http = FakeHttp(self._answer)
        self.export = Export(
            ExportParts(
                http=self.http,
                clock=self.clock,
                offload=inline,
                random_bytes=lambda _: self.drawn,
                checks=self.board.checks,
                families=CHECK_FAMILIES,
                read=Metrics(self.board, self.clock).read,
                slots_are_late=lambda: False,
                attributes={"service.name": "watchbill"},
                version="1.2.3",
            )
        )
        self.started = self.clock.monotonic()

    def _answer(self, _: HttpRequest) -> Answer:
        self.came_at.append(round(self.clock.monotonic() - self.started, 1))
        return self.replies.pop(0) if self.replies else self.otherwise

    async def configure(self, **options: Any) -> None:
        otlp = (
            OtlpOptions.model_validate({"endpoint": "http://collector.test:4318", **options})
            if options
            else None
        )
        config = Config(otlp=otlp)
        await self.export.configured(
            ConfigReloaded(LoadedConfig(config, "digest"), Plan(), self.clock.now(), "test")
        )

    def probe(self, count: int = 1) -> Check:
        check = declare()
        for number in range(count):
            context = TraceContext(number.to_bytes(16, "big"), b"\1" * 8, sampled=True)
            now = self.clock.now()
            result = replace(probe_of(check).result, trace=Trace(context, check, now, 0.001, ()))
            self.export.probed(replace(probe_of(check), result=result))
        return check

    def register(self) -> None:
        self.board.registered(CheckRegistered(declare(), self.clock.now(), ""))

    @property
    def sent(self) -> list[str]:
        return [request.url for request in self.http.requests]

    def numbers(self) -> Mapping[str, Any]:
        statistics = self.export.statistics()
        assert statistics is not None
        return {
            "exported": dict(statistics.exported),
            "dropped": {key: count for key, count in statistics.dropped.items() if count},
            "failures": dict(statistics.failures),
            "pending": statistics.pending,
        }


@asynccontextmanager
async def running(stage: Stage, *, drained: bool = True) -> AsyncIterator[Stage]:
    async with anyio.create_task_group() as group:
        await group.start(stage.export.run)
        yield stage
        if drained:
            await stage.export.drain(5)
        group.cancel_scope.cancel()


def on_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def trace_ids(request: HttpRequest) -> list[int]:
    body = gzip.decompress(request.body) if "content-encoding" in request.headers else request.body
    message = ExportTraceServiceRequest.FromString(body)
    return [int.from_bytes(span.trace_id, "big") for span in message.resource_spans[0].scope_spans[0].spans]


# --- what is sent -------------------------------------------------------------------------------------


def test_spans_wait_for_each_other_and_go_as_one_request() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock())
        await stage.configure(metrics=False, headers={"X-Token": "sesame-open"})
        async with running(stage):
            stage.probe()
            await anyio.sleep(4)
            assert stage.sent == []
            stage.probe()
            await anyio.sleep(2)
            (request,) = stage.http.requests
        assert (request.method, request.url, len(trace_ids(request))) == ("POST", TRACES, 2)
        assert dict(request.headers) == {
            "content-type": PROTOBUF, "content-encoding": "gzip", "X-Token": "sesame-open",
        }  # fmt: skip
        assert stage.numbers()["exported"] == {"metrics": 0, "traces": 2}

    on_virtual_time(main)


def test_a_full_batch_waits_for_nobody_and_is_no_more_than_a_batch() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock())
        await stage.configure(metrics=False, compression="none")
        async with running(stage):
            stage.probe(queue.BATCH_SPANS + 1)
            await anyio.sleep(1)
            assert [len(trace_ids(request)) for request in stage.http.requests] == [queue.BATCH_SPANS]
        assert [len(trace_ids(request)) for request in stage.http.requests] == [queue.BATCH_SPANS, 1]
        assert "content-encoding" not in stage.http.requests[0].headers

    on_virtual_time(main)


def test_metrics_go_at_every_interval_and_once_more_at_the_end() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock())
        stage.register()
        await stage.configure(interval="20s", traces=False)
        async with running(stage):
            await anyio.sleep(50)
            assert stage.sent == [METRICS, METRICS]
            assert stage.came_at == [20, 40]
        assert stage.came_at == [20, 40, 50]

    on_virtual_time(main)


def test_many_checks_are_more_than_one_request_and_every_point_is_in_one() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock())
        count = 1500
        for number in range(count):
            stage.board.registered(CheckRegistered(declare(f"c{number}"), stage.clock.now(), ""))
        await stage.configure(interval="20s", traces=False)
        async with running(stage):
            await anyio.sleep(30)
            first = len(stage.sent)
            points = stage.numbers()["exported"]["metrics"]
        assert first > 1
        assert points == count * 9  # info, interval, six outcomes, the histogram

    on_virtual_time(main)


# --- what is sent again, and what is not --------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [HttpReply(429), HttpReply(502), HttpReply(503), HttpReply(504), HttpError(Reason.REFUSED, "nobody listens"),
     HttpError(Reason.TIMEOUT, "nobody answers")],
    ids=["429", "502", "503", "504", "refused", "hangs"],
)  # fmt: skip
def test_what_may_pass_is_tried_again_with_growing_pauses(first: Answer) -> None:
    async def main() -> None:
        stage = Stage(virtual_clock(), [first, first, first])
        await stage.configure(metrics=False)
        async with running(stage):
            stage.probe(3)
            await anyio.sleep(30)
            assert stage.came_at == [5, 6, 8, 12]
            assert [trace_ids(request) for request in stage.http.requests] == [[0, 1, 2]] * 4
        assert stage.numbers() == {
            "exported": {"metrics": 0, "traces": 3}, "dropped": {}, "failures": {"metrics": 0, "traces": 3}, "pending": 0,
        }  # fmt: skip

    on_virtual_time(main)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0.8),
        ("Fri, 15 Jan 2027 08:00:25 GMT", 20),
        ("Friday, 15-Jan-27 08:00:25 GMT", 20),
        ("Fri Jan 15 08:00:25 2027", 20),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.8),
        ("100000", 300),
        ("soon", 0.8),
        ("", 0.8),
    ],
)
def test_the_receiver_says_when_it_wants_it_again(value: str, seconds: float) -> None:
    async def main() -> None:
        stage = Stage(
            virtual_clock(start=1_800_000_000 * SECOND),
            [HttpReply(429, (), {"Retry-After": value})],
            drawn=b"\0\0",
        )
        await stage.configure(metrics=False)
        async with running(stage):
            stage.probe()
            await anyio.sleep(310)
            assert stage.came_at == [5, pytest.approx(5 + seconds, abs=0.1)]

    on_virtual_time(main)


def test_a_receiver_that_wants_it_at_once_and_fails_on_is_not_hammered() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock(), otherwise=HttpReply(503, (), {"Retry-After": "0"}))
        await stage.configure(metrics=False)
        async with running(stage):
            stage.probe()
            await anyio.sleep(30)
            assert stage.came_at == [5, 6, 8, 12, 20]

    on_virtual_time(main)


def test_what_the_receiver_asked_for_holds_for_all_that_waits() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock(), otherwise=HttpReply(429, (), {"Retry-After": "600"}), drawn=b"\0\0")
        stage.register()
        await stage.configure(interval="10s", compression="none")
        async with running(stage):
            stage.probe(4 * queue.BATCH_SPANS)
            await anyio.sleep(1000)
            by_signal = {
                url: [at for at, sent in zip(stage.came_at, stage.sent, strict=True) if sent == url]
                for url in (TRACES, METRICS)
            }
            stage.otherwise = OK
        for came_at in by_signal.values():
            assert len(came_at) == 4
            assert all(later - earlier >= 300 for earlier, later in pairwise(came_at))

    on_virtual_time(main)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 500, 501])
def test_what_would_be_refused_again_is_given_up_and_counted(status: int) -> None:
    async def main() -> None:
        said = Status(message="bad data: sesame-open \x1b[31m").SerializeToString()
        stage = Stage(virtual_clock(), [HttpReply(status, (said,), {"Content-Type": PROTOBUF})])
        await stage.configure(metrics=False, headers={"Authorization": "Bearer sesame-open"})
        with structlog.testing.capture_logs() as logs:
            async with running(stage):
                stage.probe(2)
                await anyio.sleep(60)
        assert len(stage.sent) == 1
        assert stage.numbers()["dropped"] == {("traces", "rejected"): 2}
        (line,) = [line for line in logs if line["event"] == "otlp.dropped"]
        assert line["error"] == f"it answers {status}: bad data: ***  [31m"

    on_virtual_time(main)


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_web_page_that_says_200_to_everything_is_no_receiver(size: int) -> None:
    async def main() -> None:
        page = HttpReply(200, (b"<html>" * size,), {"Content-Type": "text/html"})
        stage = Stage(virtual_clock(), otherwise=page)
        await stage.configure(metrics=False)
        async with running(stage):
            stage.probe()
            await anyio.sleep(10)
        assert stage.numbers()["dropped"] == {("traces", "rejected"): 1}

    on_virtual_time(main)


def test_a_part_that_is_not_taken_is_counted_told_once_and_not_sent_again() -> None:
    async def main() -> None:
        partial_spans = ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
        spans = ExportTraceServiceResponse(partial_success=partial_spans).SerializeToString()
        partial_points = ExportMetricsPartialSuccess(rejected_data_points=1, error_message="unknown")
        points = ExportMetricsServiceResponse(partial_success=partial_points).SerializeToString()
        stage = Stage(virtual_clock())
        stage.register()

        def answer(request: HttpRequest) -> HttpReply:
            return HttpReply(200, (spans if request.url == TRACES else points,), {"Content-Type": PROTOBUF})

        stage.http.answer = answer
        await stage.configure(interval="10s")
        with structlog.testing.capture_logs() as logs:
            async with running(stage):
                for _ in range(3):
                    stage.probe(5)
                    await anyio.sleep(9)
        assert stage.numbers()["dropped"] == {("traces", "partial"): 6, ("metrics", "partial"): 3}
        assert stage.numbers()["exported"]["traces"] == 9
        told = [(line["signal"], line["error"]) for line in logs if line["event"] == "otlp.partial_success"]
        assert sorted(told) == [
            ("metrics", "it did not take all: unknown"),
            ("traces", "it did not take all: too old"),
        ]

    on_virtual_time(main)


def test_a_batch_is_tried_for_minutes_and_then_makes_room_for_the_next() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock(), otherwise=HttpReply(503))
        await stage.configure(metrics=False)
        with structlog.testing.capture_logs() as logs:
            async with running(stage):
                stage.probe(2)
                await anyio.sleep(400)
                assert stage.numbers()["dropped"] == {("traces", "expired"): 2}
                assert stage.numbers()["pending"] == 0
                stage.otherwise = OK
                stage.probe()
                await anyio.sleep(10)
        assert stage.numbers()["exported"]["traces"] == 1
        assert [line["event"] for line in logs] == ["otlp.failing", "otlp.dropped", "otlp.recovered"]

    on_virtual_time(main)


def test_up_to_its_bound_the_queue_loses_nothing_and_beyond_it_the_oldest_go_and_are_counted() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock(), otherwise=HttpReply(503))
        await stage.configure(metrics=False, compression="none")
        async with running(stage):
            stage.probe(1)
            await anyio.sleep(6)  # that one is being tried
            for _ in range(queue.MOST_SPANS // 1024):
                stage.probe(1024)
            assert stage.numbers()["dropped"] == {}
            assert stage.numbers()["pending"] == queue.MOST_SPANS + 1
            stage.probe(queue.ENCODED_AT_ONCE)
            assert stage.numbers()["dropped"] == {("traces", "queue_full"): queue.ENCODED_AT_ONCE}
            stage.otherwise = OK
            await anyio.sleep(60)
            assert stage.numbers()["exported"]["traces"] == queue.MOST_SPANS + 1
            assert stage.numbers()["pending"] == 0

    on_virtual_time(main)


def test_a_trouble_that_lasts_is_told_once_however_many_exports_it_costs() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock(), otherwise=HttpError(Reason.REFUSED, "nobody listens"))
        stage.register()
        await stage.configure(interval="10s", traces=False)
        with structlog.testing.capture_logs() as logs:
            async with running(stage):
                await anyio.sleep(300)
                stage.otherwise = OK
                await anyio.sleep(30)
        assert [line["event"] for line in logs] == ["otlp.failing", "otlp.dropped", "otlp.recovered"]

    on_virtual_time(main)


def test_a_deleted_check_is_not_remembered_for_a_span_that_waited() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock())
        await stage.configure(metrics=False)
        async with running(stage):
            gone = stage.probe()
            stage.export.deleted(CheckDeleted(gone, stage.clock.now(), ""))
            remembered = weakref.ref(gone)
            del gone
            await anyio.sleep(10)
            gc.collect()
            assert remembered() is None
        assert stage.numbers()["exported"]["traces"] == 1

    on_virtual_time(main)


# --- reloads and the end ------------------------------------------------------------------------------


def test_a_reload_that_names_another_receiver_sends_there_what_waits() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock(), otherwise=HttpReply(503, (), {"Retry-After": "250"}))
        await stage.configure(metrics=False)
        async with running(stage):
            stage.probe(2)
            await anyio.sleep(10)
            stage.otherwise = OK
            await stage.configure(metrics=False, endpoint="https://other.test/base/", resource={"zone": "b"})
            await anyio.sleep(1)
            last = stage.http.requests[-1]
            assert (last.url, trace_ids(last)) == ("https://other.test/base/v1/traces", [0, 1])
            message = ExportTraceServiceRequest.FromString(gzip.decompress(last.body))
            assert attributes(message.resource_spans[0].resource.attributes)["zone"] == "b"

    on_virtual_time(main)


def test_switched_off_it_sends_what_is_left_once_and_nothing_more() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock())
        stage.register()
        await stage.configure(interval="10s")
        async with running(stage):
            stage.probe(2)
            await stage.configure()
            await anyio.sleep(100)
            assert stage.sent == [TRACES]
            await stage.configure(interval="10s", endpoint="http://collector.test:4318/")
            await anyio.sleep(11)
            assert stage.sent == [TRACES, METRICS]

    on_virtual_time(main)


def test_metrics_that_a_reload_switches_off_are_not_sent_any_more() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock(), otherwise=HttpReply(503))
        stage.register()
        await stage.configure(interval="60s", traces=False)
        async with running(stage):
            await anyio.sleep(61)
            tried = len(stage.sent)
            await stage.configure(metrics=False, endpoint="https://traces-only.test")
            await anyio.sleep(200)
            assert len(stage.sent) == tried
        assert stage.numbers()["dropped"] == {("metrics", "expired"): 9}

    on_virtual_time(main)


def test_another_interval_holds_at_once() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock())
        stage.register()
        await stage.configure(interval="1h", traces=False)
        async with running(stage):
            await anyio.sleep(5)
            await stage.configure(interval="10s", traces=False)
            await anyio.sleep(21)
            assert stage.came_at == [15, 25]

    on_virtual_time(main)


def test_the_end_flushes_and_does_not_wait_for_a_receiver_that_hangs() -> None:
    async def main(hangs: bool) -> None:
        stage = Stage(virtual_clock(), otherwise=HttpReply(503) if hangs else OK)
        stage.register()
        await stage.configure(compression="gzip")
        async with running(stage, drained=False):
            stage.probe(3)
            before = anyio.current_time()
            await stage.export.drain(5)
            took = anyio.current_time() - before
        assert stage.numbers()["pending"] == 0
        assert took == pytest.approx(5 if hangs else 0)
        stopped = {("traces", "stopped"): 3, ("metrics", "stopped"): 9}
        assert stage.numbers()["dropped"] == (stopped if hangs else {})
        assert stage.numbers()["exported"]["traces"] == (0 if hangs else 3)

    on_virtual_time(partial(main, False))
    on_virtual_time(partial(main, True))


def test_a_defect_of_ours_costs_the_export_and_not_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    async def main() -> None:
        stage = Stage(virtual_clock())
        stage.register()
        await stage.configure(interval="10s")
        monkeypatch.setattr("watchbill.otlp.encoding.spans_request", broken)
        monkeypatch.setattr("watchbill.otlp.encoding.PointEncoder.add", broken)
        with structlog.testing.capture_logs() as logs:
            async with running(stage):
                stage.probe(2)
                await anyio.sleep(11)
        assert stage.numbers()["dropped"] == {("traces", "internal"): 2, ("metrics", "internal"): 2}
        assert {line["event"] for line in logs} == {"otlp.crashed"}

    on_virtual_time(main)


def test_nobody_imports_protobuf_who_exports_nothing() -> None:
    text = (
        "import sys, watchbill.serve, watchbill.library; "
        "print([name for name in sys.modules if name.startswith(('google.protobuf', 'opentelemetry.proto'))])"
    )
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"


def test_nothing_of_it_is_there_until_it_is_declared() -> None:
    async def main() -> None:
        stage = Stage(virtual_clock())
        async with running(stage):
            await stage.configure()
            stage.probe()
            await anyio.sleep(1000)
        assert stage.export.statistics() is None
        assert stage.sent == []

    on_virtual_time(main)


@pytest.mark.parametrize(
    ("drawn", "own", "asked"),
    [(b"\0\0", 1 - courier.JITTER, 100), (b"\xff\xff", 1 + courier.JITTER, 100 * (1 + courier.JITTER))],
)
def test_what_is_drawn_spreads_the_pauses_of_many_exporters(drawn: bytes, own: float, asked: float) -> None:
    """And nobody comes sooner than the receiver asked."""

    async def main() -> None:
        replies: list[Answer] = [HttpReply(429), HttpReply(429, (), {"Retry-After": "100"})]
        stage = Stage(virtual_clock(), replies, drawn=drawn)
        await stage.configure(metrics=False)
        async with running(stage):
            stage.probe()
            await anyio.sleep(200)
            assert stage.came_at == [5, 5 + own, 5 + own + asked]

    on_virtual_time(main)
