"""ICMP echo: one socket per address family (and declared source) for all checks, opened with the first request."""

from __future__ import annotations

import asyncio
import errno
import secrets
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias

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
    wanted_types,
    what_was_said,
)
from watchbill.net.sources import bind_to
from watchbill.ports import EchoReply, NetworkError

OpenSocket: TypeAlias = Callable[[int, int, int], socket.socket]
"""(family, kind, protocol) -> a socket, as ``socket.socket``."""

RECEIVE_BUFFER_BYTES = 4 << 20
DRAINED_AT_ONCE = 128
FULL_BUFFER_PAUSE_SECONDS = 0.002
FULL_BUFFER_TRIES = 100
_PERMISSION_HELP = (
    "the kernel allows this process no ICMP socket: let sysctl net.ipv4.ping_group_range include its group "
    '(for all: "0 2147483647") or give it the capability CAP_NET_RAW'
)
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
# Linux' numbers that the socket module does not name.
_SOL_RAW, _ICMP_FILTER, _SO_RCVBUFFORCE = 255, 1, 33
_IP_TTL, _IP_RECVERR, _IP_RECVTTL = 2, 11, 12
_IPV6_RECVERR = 25
_EXTENDED_ERROR = struct.Struct("=IBBBB")
_FROM_ICMP = frozenset({2, 3})
_ANCILLARY_BYTES = 256
_PACKET_BYTES = 2048


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
            leads there, ``permission`` where the kernel allows no ICMP socket, ``descriptors``.
        """
        family: IpFamily = 6 if ":" in address else 4
        channel = self._channels.get((family, source))
        if channel is None:
            opened = _open(family, self._open_socket, source)
            channel = self._channels[family, source] = _Channel(*opened, family=family)
        return await channel.echo(address, timeout_seconds)

    async def aclose(self) -> None:
        while self._channels:
            self._channels.popitem()[1].close()


def _open(family: IpFamily, open_socket: OpenSocket, source: str | None = None) -> tuple[socket.socket, bool]:
    """A socket, and whether it is a raw one. Not being allowed is not remembered: it can be mended."""
    address_family = socket.AF_INET if family == 4 else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            channel = open_socket(address_family, kind, protocol)
        except OSError as error:
            if error.errno not in _DENIED:
                raise network_error(error, f"opening an ICMP socket for IPv{family}") from error
        else:
            try:
                raw = kind == socket.SOCK_RAW
                return _prepared(channel, family, raw=raw, source=source), raw
            except BaseException:
                channel.close()
                raise
    raise NetworkError(Reason.PERMISSION, _PERMISSION_HELP)


def _prepared(
    channel: socket.socket, family: IpFamily, *, raw: bool, source: str | None = None
) -> socket.socket:
    channel.setblocking(False)
    try:
        channel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except OSError:  # takes CAP_NET_ADMIN
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    level = socket.IPPROTO_IP if family == 4 else socket.IPPROTO_IPV6
    channel.setsockopt(level, _IP_RECVTTL if family == 4 else socket.IPV6_RECVHOPLIMIT, 1)
    if raw:
        channel.setsockopt(
            _SOL_RAW if family == 4 else socket.IPPROTO_ICMPV6, _ICMP_FILTER, wanted_types(family)
        )
    else:
        channel.setsockopt(level, _IP_RECVERR if family == 4 else _IPV6_RECVERR, 1)
        if source is None:
            channel.bind(("0.0.0.0" if family == 4 else "::", 0))  # noqa: S104 - this chooses the identifier
    if source is not None:
        bind_to(channel, source)
    return channel


class _Channel:
    """One socket and the requests on their way through it, by packed destination and sequence number."""

    def __init__(self, channel: socket.socket, raw: bool, *, family: IpFamily) -> None:
        self._socket = channel
        self._raw = raw
        self._family = family
        # The kernel puts its own identifier into what a datagram socket sends.
        self._identifier = secrets.randbits(16) if raw else channel.getsockname()[1]
        self._sequence = secrets.randbits(16)
        self._awaited: dict[tuple[bytes, int], _Awaited] = {}
        self._seen_error = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel.fileno(), self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for awaited in self._awaited.values():
            _settle(awaited, NetworkError(Reason.INTERNAL, "the ICMP socket was closed"))

    async def echo(self, address: str, timeout_seconds: float) -> EchoReply | None:
        destination = ip_address(address.partition("%")[0]).packed
        key = self._next_key(destination)
        awaited = _Awaited(secrets.token_bytes(TOKEN_BYTES), 0, self._loop.create_future())
        self._awaited[key] = awaited
        timer = self._loop.call_later(timeout_seconds, _settle, awaited, None)
        try:
            await self._send(address, key[1], awaited)
            answer = await awaited.answer
        finally:
            timer.cancel()
            del self._awaited[key]
        if isinstance(answer, NetworkError):
            raise answer
        return answer

    def _next_key(self, destination: bytes) -> tuple[bytes, int]:
        for _ in range(1 << 16):
            self._sequence = (self._sequence + 1) & 0xFFFF
            if (destination, self._sequence) not in self._awaited:
                return destination, self._sequence
        raise NetworkError(Reason.INTERNAL, "65,536 echo requests to one address are on their way already")

    # --- out ----------------------------------------------------------------------------------------

    async def _send(self, address: str, sequence: int, awaited: _Awaited) -> None:
        packet = echo_request(self._family, self._identifier, sequence, awaited.token)
        for _ in range(FULL_BUFFER_TRIES):
            error = self._send_once(packet, address, awaited)
            if error is None:
                return
            if error.errno not in _FULL:
                raise network_error(error, f"sending an echo request to {address}") from error
            await asyncio.sleep(FULL_BUFFER_PAUSE_SECONDS)  # our own queue is full: no loss of the target's
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
        drained = 0
        for _ in range(DRAINED_AT_ONCE):
            try:
                packet, ancillary, _, source = self._socket.recvmsg(_PACKET_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                self._seen_error = True  # the error of some packet; the error queue says of which
                continue
            drained += 1
            self._take(packet, ancillary, source[0], time.perf_counter_ns())
        if not self._raw:
            self._drain_errors()
            if self._seen_error or not drained:
                self._listen_again()

    def _take(self, packet: bytes, ancillary: list[tuple[int, int, bytes]], source: str, now_ns: int) -> None:
        if self._raw and self._family == 4:
            message = read_ipv4(packet)
        else:
            message = read_message(self._family, packet, hop_limit=_hop_limit(ancillary))
        if message is None or message.identifier != self._identifier:
            return
        if isinstance(message, Undelivered):
            self._undelivered(message, source)
            return
        self._echoed(message, source, now_ns)

    def _echoed(self, message: Echoed, source: str, now_ns: int) -> None:
        # A reply comes from the address that was asked (RFC 1122 §3.2.2.6); with any other it is not one.
        replier = ip_address(source.partition("%")[0]).packed
        awaited = self._awaited.get((replier, message.sequence))
        if awaited is not None and secrets.compare_digest(awaited.token, message.token):
            _settle(awaited, EchoReply((now_ns - awaited.sent_ns) / 1e9, message.hop_limit))

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
                    _PACKET_BYTES, _ANCILLARY_BYTES, socket.MSG_ERRQUEUE
                )
            except OSError:
                return
            self._seen_error = True
            for level, kind, body in ancillary:
                if (level, kind) in {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}:
                    self._take_error(request, body, place[0])

    def _take_error(self, request: bytes, extended: bytes, destination: str) -> None:
        _, origin, kind, code, _ = _EXTENDED_ERROR.unpack_from(extended)
        if origin not in _FROM_ICMP:
            return
        said = what_was_said(self._family, kind, code)
        packed = ip_address(destination.partition("%")[0]).packed
        message = read_undelivered(self._family, request, packed, said)
        if message is not None:
            self._undelivered(message, _offender(extended, self._family))

    def _listen_again(self) -> None:
        # uvloop stops watching a descriptor once it has reported an error on it.
        self._seen_error = False
        with suppress(OSError, ValueError):
            self._loop.remove_reader(self._socket.fileno())
            self._loop.add_reader(self._socket.fileno(), self._readable)


def _settle(awaited: _Awaited, answer: EchoReply | NetworkError | None) -> None:
    if not awaited.answer.done():
        awaited.answer.set_result(answer)


def _hop_limit(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, body in ancillary:
        if (level, kind) in {(socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)}:
            return int(struct.unpack_from("=i", body)[0])
    return None


def _offender(extended: bytes, family: IpFamily) -> str:
    """Who reported the error: a socket address behind the extended error (ip(7), ``SO_EE_OFFENDER``)."""
    start, size = (20, 4) if family == 4 else (24, 16)
    packed = extended[start : start + size]
    return str(ip_address(packed)) if len(packed) == size else "the way there"
