"""Ids and sampling of traces."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchbill.domain.checks import parse_check
from watchbill.domain.config import Config, LoadedConfig
from watchbill.domain.messages import ConfigReloaded
from watchbill.domain.otlp import OtlpOptions
from watchbill.domain.plan import Plan
from watchbill.domain.tracing import TraceContext, is_sampled, least_sampled
from watchbill.tracing import Tracing

HTTP = parse_check({"id": "plain", "type": "http", "url": "http://x.test/"})
TELLING = parse_check({"id": "telling", "type": "http", "url": "http://x.test/", "traceparent": True})
LOW, HIGH = b"\xff" * 9 + b"\0" * 7, b"\0" * 9 + b"\xff" * 7


def tracing(traces: object = None, *, drawn: bytes = HIGH) -> Tracing:
    found = Tracing(lambda count: (drawn + b"\x11" * 8)[:count])
    otlp = (
        OtlpOptions.model_validate({"endpoint": "http://x.test", "traces": traces})
        if traces is not None
        else None
    )
    found.configured(ConfigReloaded(LoadedConfig(Config(otlp=otlp), "digest"), Plan(), 0, "start"))
    return found


def test_the_header_is_that_of_w3c_trace_context() -> None:
    for sampled, flags in ((True, "01"), (False, "00")):
        context = TraceContext(bytes(range(16)), bytes(range(8)), sampled)
        assert context.traceparent == f"00-000102030405060708090a0b0c0d0e0f-0001020304050607-{flags}"
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", context.traceparent)


def test_nothing_is_drawn_where_nobody_hears_of_it() -> None:
    def refuse(_: int) -> bytes:
        raise AssertionError("drawn for nothing")

    assert Tracing(refuse).begin(HTTP) is None


@pytest.mark.parametrize(
    ("traces", "drawn", "plain", "telling"),
    [
        (None, HIGH, None, False),
        (False, HIGH, None, False),
        (True, LOW, True, True),
        ("10%", HIGH, True, True),
        ("10%", LOW, None, False),
    ],
)
def test_who_gets_ids_and_whether_they_are_sampled(
    traces: object, drawn: bytes, plain: bool | None, telling: bool | None
) -> None:
    asked = {"sample": traces} if isinstance(traces, str) else traces
    found = tracing(asked, drawn=drawn)
    for check, expected in ((HTTP, plain), (TELLING, telling)):
        context = found.begin(check)
        assert (None if context is None else context.sampled) is expected


def test_ids_are_what_was_drawn() -> None:
    context = tracing(True).begin(HTTP)
    assert context == TraceContext(HIGH, b"\x11" * 8, sampled=True)


@given(st.floats(0, 100), st.integers(0, (1 << 56) - 1))
def test_the_share_of_random_ids_is_the_one_that_was_asked_for(percent: float, number: int) -> None:
    drawn = b"\xaa" * 9 + number.to_bytes(7, "big")
    share = 1 - number / (1 << 56)
    if share <= percent / 100 - 1e-9:
        assert is_sampled(drawn, least_sampled(percent))
    if share >= percent / 100 + 1e-9:
        assert not is_sampled(drawn, least_sampled(percent))
