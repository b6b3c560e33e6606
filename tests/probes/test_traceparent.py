"""What the target sees of a trace, and that it is the probe's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.probes.support import wall
from tests.servers import Caller, serving
from watchbill.clock import Timeline
from watchbill.domain.checks import parse_check
from watchbill.domain.results import Outcome, Result
from watchbill.domain.tracing import Trace, TraceContext
from watchbill.net import open_network
from watchbill.probes import probers
from watchbill.probes.execute import Executor
from watchbill.testing import judge_inline

CONTEXT = TraceContext(bytes(range(16)), bytes(range(8)), sampled=True)
SENT = b"00-000102030405060708090a0b0c0d0e0f-0001020304050607-01"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


pytestmark = pytest.mark.anyio


async def probe(context: TraceContext | None, kind: str = "http", **declared: Any) -> Result:
    async with open_network() as network:
        executor = Executor(
            probers(network, wall, judge_inline, lambda _: 0),
            clock=Timeline(monotonic=time.monotonic, wall=wall),
            monotonic=time.monotonic,
            begin_trace=lambda _: context,
        )
        return await executor.execute(parse_check({"id": "probed", "type": kind, **declared}))


def headers_named(request: bytes, name: bytes) -> Sequence[bytes]:
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [
        value.strip() for field, _, value in (line.partition(b":") for line in lines) if field.lower() == name
    ]


async def say_ok(caller: Caller, seen: list[bytes]) -> None:
    seen.append(await caller.request())
    await caller.say(OK)


@pytest.mark.parametrize("declared", [{}, {"method": "POST", "body": "a\r\n\r\nb"}, {"connection": "reuse"}])
async def test_the_target_sees_the_ids_of_the_span(declared: dict[str, Any]) -> None:
    seen: list[bytes] = []
    async with serving(lambda caller: say_ok(caller, seen)) as server:
        result = await probe(CONTEXT, url=server.url(), traceparent=True, **declared)
    assert result.outcome is Outcome.SUCCESS
    assert headers_named(seen[0], b"traceparent") == [SENT]
    assert seen[0].endswith(declared.get("body", "").encode())
    assert isinstance(result.trace, Trace)
    assert result.trace.context is CONTEXT
    assert result.facts["trace_id"] == CONTEXT.trace_id.hex()


async def test_who_was_not_asked_says_nothing() -> None:
    seen: list[bytes] = []
    async with serving(lambda caller: say_ok(caller, seen)) as server:
        traced = await probe(CONTEXT, url=server.url())
        silent = await probe(None, url=server.url(), traceparent=True)
    assert [headers_named(request, b"traceparent") for request in seen] == [[], []]
    assert traced.trace is not None
    assert (silent.trace, "trace_id" in silent.facts) == (None, False)


async def test_what_is_not_sampled_is_told_and_has_no_span() -> None:
    seen: list[bytes] = []
    context = TraceContext(CONTEXT.trace_id, CONTEXT.span_id, sampled=False)
    async with serving(lambda caller: say_ok(caller, seen)) as server:
        result = await probe(context, url=server.url(), traceparent=True)
    assert headers_named(seen[0], b"traceparent") == [SENT[:-2] + b"00"]
    assert result.trace is None


async def test_every_hop_of_a_redirect_is_of_the_same_span_a_stranger_s_too() -> None:
    seen: list[bytes] = []
    async with serving(lambda caller: say_ok(caller, seen)) as foreign:

        async def lead_on(caller: Caller) -> None:
            seen.append(await caller.request())
            place = "/next" if b"GET / " in seen[-1] else foreign.url("/there")
            await caller.say(
                b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % place.encode()
            )

        async with serving(lead_on) as home:
            result = await probe(
                CONTEXT, url=home.url(), traceparent=True, headers={"X-Api-Key": "sesame-open"}
            )
    assert [headers_named(request, b"traceparent") for request in seen] == [[SENT]] * 3
    assert [len(headers_named(request, b"x-api-key")) for request in seen] == [1, 1, 0]
    assert result.trace is not None
    phases = [name for name, _ in result.trace.phases]
    assert phases == ["resolve", "connect", "processing", "transfer"] * 3


async def test_the_span_lasts_as_long_as_the_probe_and_its_phases_begin_within() -> None:
    seen: list[bytes] = []
    async with serving(lambda caller: say_ok(caller, seen)) as server:
        result = await probe(CONTEXT, url=server.url())
    trace = result.trace
    assert trace is not None
    assert trace.seconds == result.duration_seconds
    assert result.started_at - 1 <= trace.started_at <= wall()  # a microsecond of rounding
    begins = [after for _, after in trace.phases]
    assert begins == sorted(begins)
    assert begins[0] == 0
    assert begins[-1] <= trace.seconds


async def test_the_span_of_several_echoes_lasts_as_long_as_all_of_them() -> None:
    result = await probe(CONTEXT, "icmp", host="127.0.0.1", count=2, packet_interval="20ms")
    assert result.outcome is Outcome.SUCCESS
    assert result.trace is not None
    assert result.trace.seconds > 0.015  # a timer of the loop may be a little early
    assert result.trace.seconds > result.duration_seconds


@pytest.mark.parametrize(
    ("kind", "declared"), [("tcp", {"host": "127.0.0.1", "port": 1}), ("icmp", {"host": "127.0.0.1"})]
)
async def test_every_type_has_a_span(kind: str, declared: dict[str, Any]) -> None:
    result = await probe(CONTEXT, kind, **declared)
    assert result.trace is not None
    assert result.trace.check.type == kind
    assert result.trace.phases[0][0] == "resolve"
