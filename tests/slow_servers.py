"""Servers on loopback that take a known time in one phase of a probe, and say how long they took."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from tests.dns_server import DnsServer, records
from tests.servers import LOOPBACK, Authority, Caller, TlsCaller, path_of, response, serving

RESENT_SYN_SECONDS = 1.0
"""After which Linux sends a SYN again that was not answered."""
NAME = "slow.test"


@dataclass(slots=True)
class Slow:
    """``declared`` is the check to probe; ``seconds`` what the server slept, as it measured itself."""

    declared: dict[str, Any]
    seconds: list[float] = field(default_factory=list)

    async def pause(self, seconds: float) -> None:
        begun = time.perf_counter()
        await asyncio.sleep(seconds)
        self.seconds.append(time.perf_counter() - begun)


Open: TypeAlias = Callable[[float], AbstractAsyncContextManager[Slow]]
Serve: TypeAlias = Callable[[Slow, float, Caller], Awaitable[None]]
Way: TypeAlias = Callable[[int], dict[str, Any]]
"""From a port to the check that goes there."""


@dataclass(frozen=True, slots=True)
class Injection:
    """A probe of one type that is slow in one phase."""

    kind: str
    phase: str
    what: str
    open: Open

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


# --- where checks go ----------------------------------------------------------------------------------


def http(port: int, *, host: str = LOOPBACK) -> dict[str, Any]:
    return {"url": f"http://{host}:{port}/", "expect": {"body": {"equals": "ok"}}}


def https(port: int, *, host: str = LOOPBACK) -> dict[str, Any]:
    return {
        "url": f"https://{host}:{port}/",
        "tls": {"skip_verification": True},
        "expect": {"body": {"equals": "ok"}},
    }


def tcp(port: int, *, host: str = LOOPBACK) -> dict[str, Any]:
    return {"host": host, "port": port}


def tcp_talk(port: int, *, host: str = LOOPBACK) -> dict[str, Any]:
    return {**tcp(port, host=host), "send": "hello", "expect": {"response": {"contains": "ok"}}}


def tls(port: int, *, host: str = LOOPBACK) -> dict[str, Any]:
    return {**tcp(port, host=host), "tls": {"skip_verification": True}}


def icmp(port: int, *, host: str = LOOPBACK) -> dict[str, Any]:
    return {"host": host}


# --- a slow name --------------------------------------------------------------------------------------


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer, slow: Slow, seconds: float) -> None:
        self._server, self._slow, self._seconds = server, slow, seconds
        self._answering: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(data, addr))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        await self._slow.pause(self._seconds)
        for packet in self._server.packets_for(data, "udp"):
            self._transport.sendto(packet, addr)


@asynccontextmanager
async def slow_dns(slow: Slow, seconds: float) -> AsyncIterator[int]:
    """A DNS server over UDP that knows one name."""
    server = DnsServer(LOOPBACK, scripts={(NAME, "A"): records("A", LOOPBACK)})
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Udp(server, slow, seconds), (LOOPBACK, 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


def slow_name(way: Callable[..., dict[str, Any]], serve: Serve) -> Open:
    @asynccontextmanager
    async def opened(seconds: float) -> AsyncIterator[Slow]:
        slow = Slow({})
        async with slow_dns(slow, seconds) as resolver, serving(partial(serve, slow, 0.0)) as server:
            asked = {"resolver": f"{LOOPBACK}:{resolver}", "ip_family": 4}
            slow.declared = {**way(server.port, host=NAME), **asked}
            yield slow

    return opened


@asynccontextmanager
async def dns_over_udp(seconds: float) -> AsyncIterator[Slow]:
    slow = Slow({})
    async with slow_dns(slow, seconds) as port:
        slow.declared = {"name": NAME, "record": "A", "server": f"{LOOPBACK}:{port}"}
        yield slow


# --- a full accept queue ------------------------------------------------------------------------------


def full_queue(way: Way, serve: Serve) -> Open:
    """The first SYN is dropped; the place that it needed becomes free before it is sent again."""

    @asynccontextmanager
    async def opened(seconds: float) -> AsyncIterator[Slow]:
        slow = Slow({}, [seconds])

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(slow, 0.0, Caller(reader, writer))
            except (ConnectionError, EOFError, ssl.SSLError):
                pass
            finally:
                writer.close()

        with socket.socket() as listener, socket.socket() as filler:
            listener.bind((LOOPBACK, 0))
            listener.listen(0)
            filler.connect(listener.getsockname())
            slow.declared = way(listener.getsockname()[1])
            accepting = asyncio.get_running_loop().create_task(_accept_later(listener, converse, seconds / 2))
            try:
                yield slow
            finally:
                filler.close()
                server = await accepting
                server.close()
                await server.wait_closed()

    return opened


async def _accept_later(listener: socket.socket, converse: Any, seconds: float) -> asyncio.Server:
    await asyncio.sleep(seconds)
    return await asyncio.start_server(converse, sock=listener)


# --- slow conversations -------------------------------------------------------------------------------


def talking(way: Way, serve: Serve) -> Open:
    @asynccontextmanager
    async def opened(seconds: float) -> AsyncIterator[Slow]:
        slow = Slow({})
        async with serving(partial(serve, slow, seconds)) as server:
            slow.declared = way(server.port)
            yield slow

    return opened


async def first_byte(slow: Slow, seconds: float, caller: Caller) -> None:
    await caller.request()
    await slow.pause(seconds)
    await caller.say(response())


async def body(slow: Slow, seconds: float, caller: Caller) -> None:
    await caller.request()
    await caller.say(response(b"o", length=2))
    await slow.pause(seconds)
    await caller.say(b"k")


async def greeting(slow: Slow, seconds: float, caller: Caller) -> None:
    await caller.reader.read(100)
    await slow.pause(seconds)
    await caller.say(b"ok")


async def silence(slow: Slow, seconds: float, caller: Caller) -> None:
    await caller.reader.read()


async def redirects(slow: Slow, seconds: float, caller: Caller) -> None:
    """Three hops, each of which takes its share."""
    hop = path_of(await caller.request()).count("x")
    await slow.pause(seconds / 3)
    onwards = {"status": "302 Found", "headers": [f"Location: /{'x' * (hop + 1)}"]} if hop < 2 else {}
    await caller.say(response(**onwards))  # type: ignore[arg-type]


async def dns_over_tcp(slow: Slow, seconds: float, caller: Caller) -> None:
    server = DnsServer(LOOPBACK, scripts={(NAME, "A"): records("A", LOOPBACK)})
    size = int.from_bytes(await caller.reader.readexactly(2), "big")
    [packet] = server.packets_for(await caller.reader.readexactly(size), "tcp")
    await slow.pause(seconds)
    await caller.say(len(packet).to_bytes(2, "big") + packet)


def dns_stream(port: int) -> dict[str, Any]:
    return {"name": NAME, "record": "A", "server": f"{LOOPBACK}:{port}", "transport": "tcp"}


# --- over TLS -----------------------------------------------------------------------------------------


class _Hesitating:
    """A reader that thinks about the first thing it hears."""

    def __init__(self, reader: asyncio.StreamReader, slow: Slow, seconds: float) -> None:
        self._reader, self._slow, self._seconds = reader, slow, seconds
        self._heard = False

    async def read(self, most: int) -> bytes:
        data = await self._reader.read(most)
        if not self._heard:
            self._heard = True
            await self._slow.pause(self._seconds)
        return data


@asynccontextmanager
async def _context() -> AsyncIterator[ssl.SSLContext]:
    with tempfile.TemporaryDirectory() as folder:
        yield Authority(Path(folder)).issue(LOOPBACK).context()


def secured(way: Way, serve: Callable[[Slow, float, TlsCaller], Awaitable[None]], *, shaking: bool) -> Open:
    """``shaking``: it is the handshake that is slow."""

    @asynccontextmanager
    async def opened(seconds: float) -> AsyncIterator[Slow]:
        slow = Slow({})
        async with _context() as context:

            async def converse(caller: Caller) -> None:
                if shaking:
                    caller.reader = _Hesitating(caller.reader, slow, seconds)  # type: ignore[assignment]
                secure = TlsCaller(caller, context)
                await secure.run(secure.tls.do_handshake)
                await serve(slow, 0.0 if shaking else seconds, secure)

            async with serving(converse) as server:
                slow.declared = way(server.port)
                yield slow

    return opened


async def secure_first_byte(slow: Slow, seconds: float, caller: TlsCaller) -> None:
    await caller.run(lambda: caller.tls.read(65_536))
    if seconds:
        await slow.pause(seconds)
    await caller.run(lambda: caller.tls.write(response()))


async def secure_body(slow: Slow, seconds: float, caller: TlsCaller) -> None:
    await caller.run(lambda: caller.tls.read(65_536))
    await caller.run(lambda: caller.tls.write(response(b"o", length=2)))
    await slow.pause(seconds)
    await caller.run(lambda: caller.tls.write(b"k"))


async def secure_silence(slow: Slow, seconds: float, caller: TlsCaller) -> None:
    await caller.run(lambda: caller.tls.read(65_536))


async def handshake(slow: Slow, seconds: float, caller: Caller) -> None:
    async with _context() as context:
        secure = TlsCaller(caller, context)
        await secure.run(secure.tls.do_handshake)
        await silence(slow, seconds, caller)


INJECTIONS: tuple[Injection, ...] = (
    Injection("http", "resolve", "slow name", slow_name(http, first_byte)),
    Injection("http", "connect", "full accept queue", full_queue(http, first_byte)),
    Injection("http", "processing", "slow first byte", talking(http, first_byte)),
    Injection("http", "transfer", "slow body", talking(http, body)),
    Injection("http", "processing", "three slow hops", talking(http, redirects)),
    Injection("https", "tls", "slow handshake", secured(https, secure_first_byte, shaking=True)),
    Injection("https", "processing", "slow first byte", secured(https, secure_first_byte, shaking=False)),
    Injection("https", "transfer", "slow body", secured(https, secure_body, shaking=False)),
    Injection("tcp", "resolve", "slow name", slow_name(tcp, silence)),
    Injection("tcp", "connect", "full accept queue", full_queue(tcp, silence)),
    Injection("tcp", "processing", "slow answer", talking(tcp_talk, greeting)),
    Injection("tls", "connect", "full accept queue", full_queue(tls, handshake)),
    Injection("tls", "tls", "slow handshake", secured(tls, secure_silence, shaking=True)),
    Injection("dns/udp", "processing", "slow answer", dns_over_udp),
    Injection("dns/tcp", "processing", "slow answer", talking(dns_stream, dns_over_tcp)),
    Injection("dns/tcp", "connect", "full accept queue", full_queue(dns_stream, dns_over_tcp)),
    Injection("icmp", "resolve", "slow name", slow_name(icmp, silence)),
)


def check_type(injection: Injection) -> str:
    return {"https": "http"}.get(injection.kind, injection.kind.partition("/")[0])
