"""Sockets for ICMP: which kind the kernel grants, how they are set up, and what comes beside their packets."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeAlias

from watchbill.domain.reach import IpFamily
from watchbill.domain.results import Reason
from watchbill.net.errors import network_error
from watchbill.net.icmppackets import wanted_types
from watchbill.net.sources import bind_to
from watchbill.ports import NetworkError

OpenSocket: TypeAlias = Callable[[int, int, int], socket.socket]
"""(family, kind, protocol) -> a socket, as ``socket.socket``."""
Ancillary: TypeAlias = list[tuple[int, int, bytes]]

RECEIVE_BUFFER_BYTES = 16 << 20
"""Room for 10,000 replies: the kernel counts up to 1,280 bytes for each."""
ANCILLARY_BYTES = 256
PACKET_BYTES = 2048
_PERMISSION_HELP = (
    "the kernel allows this process no ICMP socket: let sysctl net.ipv4.ping_group_range include its group "
    '(for all: "0 2147483647") or give it the capability CAP_NET_RAW'
)
_DENIED = frozenset({errno.EACCES, errno.EPERM})
# Linux' numbers that the socket module does not name.
_SOL_RAW, _ICMP_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS, _SO_MEMINFO = 255, 1, 33, 35, 55
_IP_TTL, _IP_RECVERR, _IP_RECVTTL = 2, 11, 12
_IPV6_RECVERR = 25
_MEMORY = struct.Struct("=9I")
_MEMORY_DROPS = 8
_STAMP = struct.Struct("=qq")
_NUMBER = struct.Struct("=i")
_EXTENDED_ERROR = struct.Struct("=IBBBB")
_FROM_ICMP = frozenset({2, 3})
_TOLD_TTL = {(socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)}
_TOLD_STAMP = (socket.SOL_SOCKET, _SO_TIMESTAMPNS)
_TOLD_ERROR = {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}


def open_icmp(
    family: IpFamily, open_socket: OpenSocket, source: str | None = None
) -> tuple[socket.socket, bool]:
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


def _prepared(channel: socket.socket, family: IpFamily, *, raw: bool, source: str | None) -> socket.socket:
    channel.setblocking(False)
    try:
        channel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except OSError:  # takes CAP_NET_ADMIN; without it net.core.rmem_max is the limit
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    channel.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
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


def packets_dropped(channel: socket.socket) -> int:
    """How many packets the kernel has thrown away so far because the receive buffer was full (sock_diag(7))."""
    try:
        told = channel.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMORY.size)
    except OSError:  # before Linux 4.12
        return 0
    return int(_MEMORY.unpack(told)[_MEMORY_DROPS]) if len(told) == _MEMORY.size else 0


def beside(ancillary: Ancillary) -> tuple[int | None, int | None]:
    """What came beside a packet: its hop limit, and when it arrived, in nanoseconds of the wall clock."""
    hop_limit = arrived_ns = None
    for level, kind, body in ancillary:
        if (level, kind) == _TOLD_STAMP:
            seconds, nanoseconds = _STAMP.unpack_from(body)
            arrived_ns = seconds * 1_000_000_000 + nanoseconds
        elif (level, kind) in _TOLD_TTL:
            hop_limit = int(_NUMBER.unpack_from(body)[0])
    return hop_limit, arrived_ns


def reported(ancillary: Ancillary, family: IpFamily) -> tuple[int, int, str] | None:
    """The ICMP type and code of an error that came instead of a packet, and who sent it (ip(7), ``IP_RECVERR``)."""
    for level, kind, body in ancillary:
        if (level, kind) in _TOLD_ERROR:
            _, origin, icmp_type, code, _ = _EXTENDED_ERROR.unpack_from(body)
            if origin in _FROM_ICMP:
                return icmp_type, code, _offender(body, family)
    return None


def _offender(extended: bytes, family: IpFamily) -> str:
    """A socket address stands behind the extended error (``SO_EE_OFFENDER``)."""
    start, size = (20, 4) if family == 4 else (24, 16)
    packed = extended[start : start + size]
    return str(ip_address(packed)) if len(packed) == size else "the way there"
