"""Servers that agree on HTTP/2 and then break it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
)

from tests.http2_server import OK_HEAD, Conversation, Http2Caller, http2_server
from tests.misbehaviour.rows import Misbehaviour, Open
from tests.servers import Authority, hang
from watchbill.domain.results import Reason

FRAMES_A_WRITE = 200


def after_the_request(*steps: Callable[[Http2Caller], Awaitable[None]]) -> Conversation:
    async def converse(caller: Http2Caller) -> None:
        await caller.request()
        for step in steps:
            await step(caller)
        await hang(caller.caller)

    return converse


def frames(*make: Callable[[int], Frame], times: int = 1) -> Callable[[Http2Caller], Awaitable[None]]:
    """Many of them in few writes, so that a flood costs its server little and leaves others their turn."""

    async def say(caller: Http2Caller) -> None:
        block = b"".join(one(caller.stream).serialize() for one in make)
        for said in range(0, times, FRAMES_A_WRITE):
            await caller.caller.say(block * min(FRAMES_A_WRITE, times - said))
            await asyncio.sleep(0)

    return say


def head(fields: list[tuple[str, str]], *, end: bool = False) -> Callable[[Http2Caller], Awaitable[None]]:
    async def say(caller: Http2Caller) -> None:
        caller.h2.send_headers(caller.stream, fields, end_stream=end)
        await caller.flush()

    return say


async def closing(caller: Http2Caller) -> None:
    caller.caller.writer.close()


def raw(data: bytes) -> Callable[[Http2Caller], Awaitable[None]]:
    async def say(caller: Http2Caller) -> None:
        await caller.caller.say(data)

    return say


def encoded(fields: list[tuple[str, str]]) -> bytes:
    return hpack.Encoder().encode(fields)


LONG_HEAD = encoded([(":status", "200"), *((f"x-{number}", "y" * 60) for number in range(2000))])
_FRAMES: list[tuple[str, Conversation, Reason, str]] = [
    ("hangs up", after_the_request(closing), Reason.RESET, "hung up before the response's head"),
    (
        "hangs up within the body",
        after_the_request(head(OK_HEAD), frames(lambda s: DataFrame(s, b"half")), closing),
        Reason.RESET,
        "hung up in the middle of the response's body",
    ),
    (
        "resets the stream",
        after_the_request(frames(lambda s: RstStreamFrame(s, error_code=2))),
        Reason.RESET,
        "the server reset the stream (INTERNAL_ERROR)",
    ),
    (
        "says goodbye before it answers",
        after_the_request(frames(lambda s: GoAwayFrame(0, last_stream_id=0, error_code=11))),
        Reason.RESET,
        "GOAWAY: ENHANCE_YOUR_CALM",
    ),
    (
        "speaks no HTTP/2",
        after_the_request(raw(b"HTTP/1.1 200 OK\r\n\r\n" * 4)),
        Reason.PROTOCOL,
        "not HTTP/2",
    ),
    (
        "sends a body without a head",
        after_the_request(frames(lambda s: DataFrame(s, b"x"))),
        Reason.PROTOCOL,
        "not HTTP/2",
    ),
    (
        "pushes though it was told not to",
        after_the_request(
            frames(
                lambda s: PushPromiseFrame(
                    s, promised_stream_id=2, data=encoded(OK_HEAD), flags=["END_HEADERS"]
                )
            )
        ),
        Reason.PROTOCOL,
        "not HTTP/2",
    ),
    (
        "sends more than it announced",
        after_the_request(
            head([*OK_HEAD, ("content-length", "2")]),
            frames(lambda s: DataFrame(s, b"too long", flags=["END_STREAM"])),
        ),
        Reason.PROTOCOL,
        "not HTTP/2",
    ),
    (
        "has no status",
        after_the_request(frames(lambda s: HeadersFrame(s, encoded([("a", "b")]), flags=["END_HEADERS"]))),
        Reason.PROTOCOL,
        "not HTTP/2",
    ),
    (
        "has a status that is no number",
        after_the_request(
            frames(lambda s: HeadersFrame(s, encoded([(":status", "two")]), flags=["END_HEADERS"]))
        ),
        Reason.PROTOCOL,
        "not HTTP/2",
    ),
    (
        "sends fields without end",
        after_the_request(head([*OK_HEAD, *((f"x-{number}", "y") for number in range(300))])),
        Reason.TOO_LARGE,
        "at most 200 fields",
    ),
    (
        "sends a head over 64 KiB",
        after_the_request(
            frames(lambda s: HeadersFrame(s, LONG_HEAD[:16_000])),
            *(
                frames(partial(lambda at, s: ContinuationFrame(s, LONG_HEAD[at : at + 16_000]), at))
                for at in range(16_000, len(LONG_HEAD), 16_000)
            ),
        ),
        Reason.TOO_LARGE,
        "headers must be at most 64 KiB",
    ),
    (
        "packs a large head into a small one",
        after_the_request(
            frames(
                lambda s: HeadersFrame(
                    s,
                    encoded([(":status", "200"), *[("x-bomb", "y" * 4000)] * 100]),
                    flags=["END_HEADERS"],
                )
            )
        ),
        Reason.TOO_LARGE,
        "headers must be at most 64 KiB",
    ),
    (
        "tells of a body and sends none",
        after_the_request(head([(":status", "200"), ("content-length", "5")], end=True)),
        Reason.PROTOCOL,
        "tells of a body and has none",
    ),
    (
        "goes on with its head for ever",
        after_the_request(
            frames(lambda s: HeadersFrame(s, b"")), frames(lambda s: ContinuationFrame(s, b""), times=20_000)
        ),
        Reason.PROTOCOL,
        "not HTTP/2",
    ),
    (
        "sends interim responses for ever",
        after_the_request(
            frames(
                lambda s: HeadersFrame(s, encoded([(":status", "103")]), flags=["END_HEADERS"]), times=1000
            )
        ),
        Reason.PROTOCOL,
        "more than 20 interim (1xx) responses",
    ),
    (
        "floods with pings before it answers",
        after_the_request(frames(lambda _: PingFrame(0, b"12345678"), times=50_000)),
        Reason.TOO_LARGE,
        "headers must be at most 64 KiB",
    ),
    (
        "floods with settings before it answers",
        after_the_request(frames(lambda _: SettingsFrame(0, {4: 70_000}), times=50_000)),
        Reason.TOO_LARGE,
        "headers must be at most 64 KiB",
    ),
    (
        "floods with pings within the body",
        after_the_request(head(OK_HEAD), frames(lambda _: PingFrame(0, b"12345678"), times=50_000)),
        Reason.PROTOCOL,
        "floods the connection",
    ),
    (
        "floods with empty pieces of the body",
        after_the_request(head(OK_HEAD), frames(lambda s: DataFrame(s, b""), times=100_000)),
        Reason.PROTOCOL,
        "floods the connection",
    ),
    (
        "sends the body byte by byte",
        after_the_request(head(OK_HEAD), frames(lambda s: DataFrame(s, b"x"), times=100_000)),
        Reason.PROTOCOL,
        "floods the connection",
    ),
]


def over_http2(conversation: Conversation) -> Open:
    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority(Path(folder))
            async with http2_server(conversation, authority.issue("localhost")) as server:
                trust = {"ca_file": authority.ca_file}
                yield {"url": server.url, "tls": trust, "http2": True, "timeout": "20s"}

    return opened


FRAMES: tuple[Misbehaviour, ...] = tuple(
    Misbehaviour(f"http2: {name}", reason, said, over_http2(conversation))
    for name, conversation, reason, said in _FRAMES
)
