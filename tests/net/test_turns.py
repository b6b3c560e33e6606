"""Something new in every turn of the event loop keeps no reader from its deadline."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from watchbill.net.datagrams import DatagramPair
from watchbill.net.streams import Stream
from watchbill.net.tls import Contexts

pytestmark = pytest.mark.anyio

MOST_READS = 20_000
"""A hang guard: some hundreds come in ten milliseconds."""


@pytest.fixture(
    params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Endless(asyncio.Transport):
    """Hands its protocol another byte in every turn."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._goes_on = True
        self._say()

    def _say(self) -> None:
        if self._goes_on:
            self._stream.data_received(b"x")
            self._loop.call_soon(self._say)

    def abort(self) -> None:
        self._goes_on = False

    def get_write_buffer_size(self) -> int:
        return 0


async def reads_until_cancelled(receive: Callable[[], Awaitable[bytes]]) -> int:
    reads = 0
    with anyio.move_on_after(0.01) as scope:
        while reads < MOST_READS:
            await receive()
            reads += 1
    assert scope.cancelled_caught
    return reads


async def test_a_stream_that_never_ends_is_left_at_the_deadline() -> None:
    stream = Stream("a flood", Contexts())
    transport = Endless(stream)
    stream.connection_made(transport)
    try:
        assert 0 < await reads_until_cancelled(stream.receive) < MOST_READS
    finally:
        transport.abort()


async def test_datagrams_that_never_end_are_left_at_the_deadline() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    pair, loop = DatagramPair(ours, "a flood"), asyncio.get_running_loop()
    goes_on = True

    def say() -> None:
        if goes_on:
            theirs.send(b"x")
            loop.call_soon(say)

    say()
    try:
        assert 0 < await reads_until_cancelled(pair.receive) < MOST_READS
    finally:
        goes_on = False
        await pair.close()
        theirs.close()
