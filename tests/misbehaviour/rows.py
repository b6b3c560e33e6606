"""One way to misbehave: a server, the check that meets it, and what must be said of it."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

from tests.servers import LOOPBACK, Authority, Caller, Conversation, TlsCaller, serving
from watchbill.domain.results import Reason

Open: TypeAlias = Callable[[], AbstractAsyncContextManager[dict[str, Any]]]
"""The server runs while it is open; what it yields is where the check goes."""
TIMEOUT_SECONDS = 0.3
MOST_TURNS = 2000
"""Of a flood over UDP, some seconds: nobody says when its client has gone."""


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """``reason`` and a part of its message; ``None`` where it is to be put up with."""

    name: str
    reason: Reason | None
    said: str
    open: Open
    check_type: str = "http"


def says(data: bytes) -> Conversation:
    """The same to everybody, whatever they ask."""

    async def conversation(caller: Caller) -> None:
        await caller.request()
        await caller.say(data)

    return conversation


def over_http(conversation: Conversation, **declared: Any) -> Open:
    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        async with serving(conversation) as server:
            yield {"url": server.url(), **declared}

    return opened


def at_a_port(conversation: Conversation, **declared: Any) -> Open:
    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        async with serving(conversation) as server:
            yield {"host": LOOPBACK, "port": server.port, **declared}

    return opened


def over_https(conversation: Conversation, **declared: Any) -> Open:
    """The conversation shakes hands itself, if it likes to."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        async with serving(conversation) as server:
            yield {"url": server.url(scheme="https"), "tls": {"skip_verification": True}, **declared}

    return opened


@cache
def certified() -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        return Authority(Path(folder)).issue(LOOPBACK).context()


async def asked_securely(caller: Caller) -> TlsCaller:
    """After the handshake, and after the request has been read."""
    secure = TlsCaller(caller, certified())
    await secure.run(secure.tls.do_handshake)
    await secure.run(lambda: secure.tls.read(65_536))
    return secure


class _Udp(asyncio.DatagramProtocol):
    """Answers with these packets, made from the question, so many times a turn, until it is asked again or closed."""

    def __init__(self, strangers: Sequence[Callable[[bytes], bytes]], times: int) -> None:
        self._strangers, self._times = strangers, times
        self._transport: asyncio.DatagramTransport
        self._asked = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._asked += 1
        self._say(data, addr, turns=MOST_TURNS, asked=self._asked)

    def _say(self, data: bytes, addr: tuple[str, int], *, turns: int, asked: int) -> None:
        if self._transport.is_closing() or not turns or asked != self._asked:
            return
        for _ in range(self._times):
            for stranger in self._strangers:
                self._transport.sendto(stranger(data), addr)
        if self._strangers:
            again = partial(self._say, data, addr, turns=turns - 1, asked=asked)
            asyncio.get_running_loop().call_later(0.001, again)

    def error_received(self, exc: Exception) -> None:
        """The client has gone."""


def over_udp(*strangers: Callable[[bytes], bytes], times: int = 1, **declared: Any) -> Open:
    """A DNS server that says, without end, what ``strangers`` make of the question."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Udp(strangers, times), (LOOPBACK, 0)
        )
        try:
            port = transport.get_extra_info("sockname")[1]
            yield {"name": "shop.test", "record": "A", "server": f"{LOOPBACK}:{port}", **declared}
        finally:
            transport.close()

    return opened


def over_dns_streams(conversation: Conversation, **declared: Any) -> Open:
    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        async with serving(conversation) as server:
            place = f"{LOOPBACK}:{server.port}"
            yield {"name": "shop.test", "record": "A", "server": place, "transport": "tcp", **declared}

    return opened
