"""ICMP echo: one socket per address family (and declared source) for all checks, opened with the first request.

A reply counts only where address, sequence number and an unpredictable token are those of a request that is still
awaited, so neither a stranger's nor a late one is taken for another's. Its round trip ends when the kernel took it in, not when this
process came to read it.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from watchbill.domain.reach import IpFamily
from watchbill.domain.results import Reason
from watchbill.net.errors import network_error
from watchbill.net.icmppackets import (
    TOKEN_BYTES,
    Echoed,
    Undelivered,
    echo_request,
    read_ipv4,
    read_message,
    read_undelivered,
    what_was_said,
)
from watchbill.net.icmpsockets import (
    ANCILLARY_BYTES,
    PACKET_BYTES,
    Ancillary,
    OpenSocket,
    beside,
    open_icmp,
    packets_dropped,
    reported,
)
from watchbill.ports import EchoReply, NetworkError

DRAINED_AT_ONCE = 128
SENT_AT_ONCE = 64
"""After so many requests in one turn of the loop their replies are read, lest they fill the buffer meanwhile."""
TOKENS_AT_ONCE = 128
FULL_BUFFER_PAUSE_SECONDS = 0.002
FULL_BUFFER_TRIES = 100
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS})
_DROPPED = "this machine dropped replies for want of room, this one's perhaps: raise sysctl net.core.rmem_max"


@dataclass(slots=True, eq=False)
class _Awaited:
    """An echo request on its way."""

    token: bytes
    sent_ns: int
    answer: asyncio.Future[EchoReply | NetworkError | None]


class Echo:
    """Echo requests to any address, from one event loop. :meth:`aclose` closes the sockets."""

    def __init__(self, *, open_socket: OpenSocket = socket.socket) -> None:
        self._open_socket = open_socket
        self._channels: dict[tuple[IpFamily, str | None], _Channel] = {}

    async def echo(
        self, address: str, *, timeout_seconds: float, source: str | None = None
    ) -> EchoReply | None:
        """One request to one literal address; ``None`` when no reply came in time.

        :raises NetworkError: ``unreachable`` where a router or the host says so, ``network`` where no route
            leads there, ``permission`` where the kernel allows no ICMP socket, ``descriptors``, ``internal``
            where this machine dropped replies.
        """
        family: IpFamily = 6 if ":" in address else 4
        channel = self._channels.get((family, source))
        if channel is None:
            opened = open_icmp(family, self._open_socket, source)
            channel = self._channels[family, source] = _Channel(*opened, family=family)
        return await channel.echo(address, timeout_seconds)

    async def aclose(self) -> None:
        while self._channels:
            self._channels.popitem()[1].close()


class _Channel:
    """One socket and the requests on their way through it, by packed destination and sequence number."""

    def __init__(self, channel: socket.socket, raw: bool, *, family: IpFamily) -> None:
        self._socket = channel
        self._raw = raw
        self._family = family
        # The kernel puts its own identifier into what a datagram socket sends.
        self._identifier = secrets.randbits(16) if raw else channel.getsockname()[1]
        self._sequence = secrets.randbits(16)
        self._tokens = _tokens()
        self._awaited: dict[tuple[bytes, int], _Awaited] = {}
        self._unread = 0
        self._dropped = 0
        self._dropped_by_ns = 0
        self._seen_error = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel.fileno(), self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for awaited in self._awaited.values():
            _settle(awaited, NetworkError(Reason.INTERNAL, "the ICMP socket was closed"))

    async def echo(self, address: str, timeout_seconds: float) -> EchoReply | None:
        key = self._next_key(_packed(address))
        awaited = _Awaited(next(self._tokens), 0, self._loop.create_future())
        self._awaited[key] = awaited
        timer = self._loop.call_later(timeout_seconds, _settle, awaited, None)
        try:
            packet = echo_request(self._family, self._identifier, key[1], awaited.token)
            error = self._send_once(packet, address, awaited)
            if error is not None:
                await self._send_again(packet, address, awaited, error)
            self._unread += 1
            if self._unread >= SENT_AT_ONCE:
                self._readable()
            answer = await awaited.answer
        finally:
            timer.cancel()
            del self._awaited[key]
        if answer is None:
            self._lost(awaited)
        elif isinstance(answer, NetworkError):
            raise answer
        return answer

    def _next_key(self, destination: bytes) -> tuple[bytes, int]:
        for _ in range(1 << 16):
            self._sequence = (self._sequence + 1) & 0xFFFF
            if (destination, self._sequence) not in self._awaited:
                return destination, self._sequence
        raise NetworkError(Reason.INTERNAL, "65,536 echo requests to one address are on their way already")

    def _lost(self, awaited: _Awaited) -> None:
        """A loss is the target's only where this machine threw nothing away since the request left."""
        dropped = packets_dropped(self._socket) if self._socket.fileno() >= 0 else self._dropped
        if dropped != self._dropped:
            self._dropped, self._dropped_by_ns = dropped, time.perf_counter_ns()
        if awaited.sent_ns <= self._dropped_by_ns:
            raise NetworkError(Reason.INTERNAL, _DROPPED)

    # --- out ----------------------------------------------------------------------------------------

    async def _send_again(self, packet: bytes, address: str, awaited: _Awaited, error: OSError) -> None:
        """Our own queue being full is no loss of the target's."""
        for _ in range(FULL_BUFFER_TRIES):
            if error.errno not in _FULL:
                raise network_error(error, f"sending an echo request to {address}") from error
            await asyncio.sleep(FULL_BUFFER_PAUSE_SECONDS)
            again = self._send_once(packet, address, awaited)
            if again is None:
                return
            error = again
        raise NetworkError(Reason.INTERNAL, "the send buffer of the ICMP socket stays full")

    def _send_once(self, packet: bytes, address: str, awaited: _Awaited) -> OSError | None:
        """An error of this packet. One left behind by another packet is taken off the socket first."""
        last: OSError | None = None
        for _ in range(1 if self._raw else 3):
            try:
                awaited.sent_ns = time.perf_counter_ns()
                self._socket.sendto(packet, (address, 0))
            except OSError as error:
                last = error
                if error.errno in _FULL:
                    return error
                if not self._raw:
                    self._drain_errors()
            else:
                return None
        return last

    # --- in -----------------------------------------------------------------------------------------

    def _readable(self) -> None:
        self._unread = 0
        drained = 0
        for _ in range(DRAINED_AT_ONCE):
            try:
                packet, ancillary, _, source = self._socket.recvmsg(PACKET_BYTES, ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                self._seen_error = True  # the error of some packet; the error queue says of which
                continue
            drained += 1
            self._take(packet, ancillary, source[0])
            if self._raw and drained >= len(self._awaited):
                break  # nobody waits for more, and to see that there is none takes a call, too
        if not self._raw:
            self._drain_errors()
            if self._seen_error or not drained:
                self._listen_again()

    def _take(self, packet: bytes, ancillary: Ancillary, source: str) -> None:
        hop_limit, arrived_ns = beside(ancillary)
        if self._raw and self._family == 4:
            message = read_ipv4(packet)
        else:
            message = read_message(self._family, packet, hop_limit=hop_limit)
        if message is None or message.identifier != self._identifier:
            return
        if isinstance(message, Undelivered):
            self._undelivered(message, source)
        else:
            self._echoed(message, source, arrived_ns)

    def _echoed(self, message: Echoed, source: str, arrived_ns: int | None) -> None:
        # A reply comes from the address that was asked (RFC 1122 §3.2.2.6); with any other it is not one.
        awaited = self._awaited.get((_packed(source), message.sequence))
        if awaited is None or not secrets.compare_digest(awaited.token, message.token):
            return
        waited_ns = time.time_ns() - arrived_ns if arrived_ns is not None else 0
        took_ns = time.perf_counter_ns() - awaited.sent_ns
        if 0 < waited_ns < took_ns:  # else the wall clock was set in between
            took_ns -= waited_ns
        _settle(awaited, EchoReply(took_ns / 1e9, message.hop_limit))

    def _undelivered(self, message: Undelivered, said_by: str) -> None:
        awaited = self._awaited.get((message.destination, message.sequence))
        if awaited is not None:
            address = ip_address(message.destination)
            text = f"{address} is unreachable: {message.said} (says {said_by})"
            _settle(awaited, NetworkError(Reason.UNREACHABLE, text))

    # --- errors of datagram sockets -----------------------------------------------------------------

    def _drain_errors(self) -> None:
        for _ in range(DRAINED_AT_ONCE):
            try:
                request, ancillary, _, place = self._socket.recvmsg(
                    PACKET_BYTES, ANCILLARY_BYTES, socket.MSG_ERRQUEUE
                )
            except OSError:
                return
            self._seen_error = True
            self._take_error(request, ancillary, place[0])

    def _take_error(self, request: bytes, ancillary: Ancillary, destination: str) -> None:
        report = reported(ancillary, self._family)
        if report is None:
            return
        kind, code, said_by = report
        said = what_was_said(self._family, kind, code)
        message = read_undelivered(self._family, request, _packed(destination), said)
        if message is not None:
            self._undelivered(message, said_by)

    def _listen_again(self) -> None:
        # uvloop stops watching a descriptor once it has reported an error on it.
        self._seen_error = False
        with suppress(OSError, ValueError):
            self._loop.remove_reader(self._socket.fileno())
            self._loop.add_reader(self._socket.fileno(), self._readable)


@lru_cache(maxsize=1 << 14)
def _packed(address: str) -> bytes:
    return ip_address(address.partition("%")[0]).packed


def _tokens() -> Iterator[bytes]:
    """Unpredictable ones. The kernel is asked for many at once."""
    while True:
        pool = secrets.token_bytes(TOKENS_AT_ONCE * TOKEN_BYTES)
        for start in range(0, len(pool), TOKEN_BYTES):
            yield pool[start : start + TOKEN_BYTES]


def _settle(awaited: _Awaited, answer: EchoReply | NetworkError | None) -> None:
    if not awaited.answer.done():
        awaited.answer.set_result(answer)
