"""Proxies on loopback: HTTP's CONNECT and forwarding, SOCKS 5, and what they refuse."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from tests.servers import LOOPBACK, Caller, Server, header_of, serving


@dataclass(slots=True)
class ProxyServer:
    """``asked`` holds what it was asked for, in its own words; ``names`` what it looks up by itself."""

    port: int = 0
    login: tuple[str, str] | None = None
    answer: bytes = b""
    """Said instead of opening a way."""
    names: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    accepted: int = 0
    callers: list[Caller] = field(default_factory=list)

    def address(self, host: str) -> str:
        return self.names.get(host, host)


@asynccontextmanager
async def http_proxy(
    *,
    login: tuple[str, str] | None = None,
    answer: bytes = b"",
    names: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ProxyServer]:
    proxy = ProxyServer(login=login, answer=answer, names=names or {})

    async def converse(caller: Caller) -> None:
        proxy.accepted += 1
        proxy.callers.append(caller)
        request = await caller.request()
        proxy.requests.append(request)
        method, target, _ = request.split(b"\r\n", 1)[0].decode().split(" ")
        proxy.asked.append(f"{method} {target}")
        if proxy.answer:
            await caller.say(proxy.answer)
        elif login is not None and header_of(request, "proxy-authorization") != _basic(login):
            await caller.say(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif method == "CONNECT":
            host, _, port = target.rpartition(":")
            upstream = await asyncio.open_connection(proxy.address(host.strip("[]")), int(port))
            await caller.say(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
            await _relay(caller, *upstream)
        else:
            await _forward(caller, proxy, request, target)

    async with serving(converse, tls=tls) as server:
        proxy.port = server.port
        yield proxy


@asynccontextmanager
async def socks_proxy(
    *,
    login: tuple[str, str] | None = None,
    answer: bytes = b"",
    reply: int = 0,
    names: dict[str, str] | None = None,
) -> AsyncIterator[ProxyServer]:
    proxy = ProxyServer(login=login, answer=answer, names=names or {})

    async def converse(caller: Caller) -> None:
        proxy.accepted += 1
        if answer:
            await caller.reader.read(1)
            await caller.say(answer)
            return
        version, count = await caller.reader.readexactly(2)
        assert version == 5
        ways = await caller.reader.readexactly(count)
        if login is not None and 2 not in ways:
            await caller.say(b"\x05\xff")
            return
        await caller.say(b"\x05\x02" if login is not None else b"\x05\x00")
        if login is not None and not await _logged_in(caller, login):
            return
        host, port = await _destination(caller)
        proxy.asked.append(f"{host}:{port}")
        if reply:
            await caller.say(bytes([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]))
            return
        upstream = await asyncio.open_connection(proxy.address(host), port)
        await caller.say(b"\x05\x00\x00\x03\x04test\x00\x50")
        await _relay(caller, *upstream)

    async with serving(converse) as server:
        proxy.port = server.port
        yield proxy


async def _logged_in(caller: Caller, login: tuple[str, str]) -> bool:
    _, length = await caller.reader.readexactly(2)
    user = await caller.reader.readexactly(length)
    password = await caller.reader.readexactly((await caller.reader.readexactly(1))[0])
    known = (user.decode(), password.decode()) == login
    await caller.say(b"\x01\x00" if known else b"\x01\x01")
    return known


async def _destination(caller: Caller) -> tuple[str, int]:
    _, command, _, kind = await caller.reader.readexactly(4)
    assert command == 1
    if kind == 3:
        host = (await caller.reader.readexactly((await caller.reader.readexactly(1))[0])).decode()
    elif kind == 4:
        host = str(IPv6Address(await caller.reader.readexactly(16)))
    else:
        assert kind == 1
        host = ".".join(map(str, await caller.reader.readexactly(4)))
    return host, int.from_bytes(await caller.reader.readexactly(2), "big")


async def _forward(caller: Caller, proxy: ProxyServer, request: bytes, target: str) -> None:
    assert target.startswith("http://")
    place, _, path = target.removeprefix("http://").partition("/")
    host, _, port = place.rpartition(":")
    reader, writer = await asyncio.open_connection(proxy.address(host), int(port))
    head, _, rest = request.partition(b"\r\n")
    writer.write(b"%s /%s HTTP/1.1\r\n%s" % (head.split(b" ")[0], path.encode(), rest))
    while data := await reader.read(65_536):
        await caller.say(data)
    writer.close()


async def _relay(caller: Caller, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        with suppress(OSError, NotImplementedError):
            if sink.can_write_eof():
                sink.write_eof()
            else:
                sink.close()

    try:
        await asyncio.gather(pump(caller.reader, writer), pump(reader, caller.writer))
    finally:
        writer.close()


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + b64encode(":".join(login).encode()).decode()


def url_of(proxy: ProxyServer | Server, scheme: str, credentials: str = "") -> str:
    return f"{scheme}://{credentials}{LOOPBACK}:{proxy.port}"
