"""A scriptable DNS server on loopback, UDP and TCP on one port.

What it does is a :data:`Script` per question; a name without any script does not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Script: TypeAlias = Callable[[dns.message.Message, str], list[bytes]]
"""(query, ``udp`` or ``tcp``) -> the packets to send back, none for silence."""


def records(record: str, *texts: str, cnames: Sequence[tuple[str, str]] = (), ttl: int = 60) -> Script:
    """An answer section: the aliases, then the records at the end of them."""

    def script(query: dns.message.Message, transport: str) -> list[bytes]:
        response = _response(query)
        name = query.question[0].name
        for alias, target in cnames:
            response.answer.append(dns.rrset.from_text(f"{alias}.", ttl, "IN", "CNAME", f"{target}."))
            name = response.answer[-1][0].target
        if texts:
            response.answer.append(dns.rrset.from_text(name, ttl, "IN", record, *texts))
        return [response.to_wire(max_size=65_535, want_shuffle=False)]

    return script


def rcode(text: str, *, soa: bool = False) -> Script:
    def script(query: dns.message.Message, transport: str) -> list[bytes]:
        response = _response(query)
        response.set_rcode(dns.rcode.from_text(text))
        if soa:
            response.authority.append(
                dns.rrset.from_text("test.", 60, "IN", "SOA", "ns.test. root.test. 7 1 1 1 1")
            )
        return [response.to_wire()]

    return script


def silence(query: dns.message.Message, transport: str) -> list[bytes]:
    return []


def truncated_over_udp(then: Script) -> Script:
    """Cut in the middle of a record, as some servers do; whole over TCP."""

    def script(query: dns.message.Message, transport: str) -> list[bytes]:
        if transport == "tcp":
            return then(query, transport)
        response = _response(query)
        response.flags |= dns.flags.TC
        response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.99"))
        return [response.to_wire()[:-3]]

    return script


def preceded_by(*strangers: Callable[[bytes], bytes], then: Script) -> Script:
    """First what others might send: each makes its packet from the honest one."""

    def script(query: dns.message.Message, transport: str) -> list[bytes]:
        honest = then(query, transport)
        return [stranger(honest[0]) for stranger in strangers] + honest

    return script


def with_another_id(packet: bytes) -> bytes:
    return (int.from_bytes(packet[:2], "big") ^ 0x5555).to_bytes(2, "big") + packet[2:]


def for_another_name(packet: bytes) -> bytes:
    return packet[:13] + bytes([packet[13] ^ 0x02]) + packet[14:]


def sent_as_a_question(packet: bytes) -> bytes:
    return packet[:2] + bytes([packet[2] & 0x7F]) + packet[3:]


def only_a_stub(packet: bytes) -> bytes:
    return packet[:7]


def broken(change: Callable[[bytes], bytes], then: Script) -> Script:
    """The honest packet after ``change``."""

    def script(query: dns.message.Message, transport: str) -> list[bytes]:
        return [change(packet) for packet in then(query, transport)]

    return script


def _response(query: dns.message.Message) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= dns.flags.AA
    return response


@dataclass
class DnsServer:
    """``asked`` holds (transport, name, record type) of every question, in order."""

    address: str
    port: int = 0
    scripts: dict[tuple[str, str], Script] = field(default_factory=dict)
    default: Script = field(default_factory=lambda: rcode("NXDOMAIN"))
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    queries: list[dns.message.Message] = field(default_factory=list)

    def packets_for(self, wire: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, record = (
            question.name.to_text(omit_final_dot=True).lower(),
            dns.rdatatype.to_text(question.rdtype),
        )
        self.asked.append((transport, name, record))
        self.queries.append(query)
        script = self.scripts.get((name, record))
        if script is None and any(known == name for known, _ in self.scripts):
            script = records(record)
        return (script or self.default)(query, transport)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for packet in self._server.packets_for(data, "udp"):
            self._transport.sendto(packet, addr)


async def _listening(
    server: DnsServer,
    serve_stream: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    port: int,
) -> tuple[asyncio.Server, asyncio.DatagramTransport]:
    """TCP on a port that is free, and UDP on the same, which somebody else may have: then on another."""
    loop = asyncio.get_running_loop()
    while True:
        streams = await asyncio.start_server(serve_stream, server.address, port)
        server.port = streams.sockets[0].getsockname()[1]
        try:
            datagrams, _ = await loop.create_datagram_endpoint(
                lambda: _Udp(server), (server.address, server.port)
            )
        except OSError:
            streams.close()
            await streams.wait_closed()
            if port:
                raise
        else:
            return streams, datagrams


@asynccontextmanager
async def dns_server(address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[DnsServer]:
    """Listening on leaving the first line, gone when the block ends."""
    server = DnsServer(address)

    streaming: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def serve_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streaming[asyncio.current_task()] = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            size = int.from_bytes(await reader.readexactly(2), "big")
            packets = server.packets_for(await reader.readexactly(size), "tcp")
            for packet in packets:
                writer.write(len(packet).to_bytes(2, "big") + packet)
                await writer.drain()
            if not packets:
                await reader.read()
        writer.close()

    streams, datagrams = await _listening(server, serve_stream, port)
    try:
        yield server
    finally:
        datagrams.close()
        streams.close()
        for writer in streaming.values():
            writer.transport.abort()
        await asyncio.gather(*(task for task in streaming if task is not None))
        await streams.wait_closed()
        await asyncio.sleep(0)  # the datagram transport closes its socket in a turn of its own
