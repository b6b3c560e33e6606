"""ICMP echo packets (RFC 792, RFC 4443): built, and read back without trusting a byte of them.

Built and read with ``struct``: icmplib does the same only inside sockets of its own, which look the destination
up with getaddrinfo and set two options for every packet, and its replies carry neither payload nor hop limit, so
that a stranger's reply could not be told from ours.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from watchbill.domain.reach import IpFamily

TOKEN_BYTES = 8
_PADDING = bytes(range(48))
_ECHO = struct.Struct("!BBHHH")
_WORDS = struct.Struct("!4H")
_PADDING_SUM = sum(struct.unpack("!24H", _PADDING))
_REQUEST: dict[IpFamily, int] = {4: 8, 6: 128}
_REPLY: dict[IpFamily, int] = {4: 0, 6: 129}
_IPV4_HEADER_BYTES, _IPV6_HEADER_BYTES = 20, 40
_ICMP, _ICMPV6 = 1, 58

# What routers and hosts say of a packet that did not arrive: (type, code) -> words; code None: any other.
_SAID: dict[IpFamily, dict[tuple[int, int | None], str]] = {
    4: {
        (3, 0): "network unreachable",
        (3, 1): "host unreachable",
        (3, 2): "protocol unreachable",
        (3, 9): "network administratively prohibited",
        (3, 10): "host administratively prohibited",
        (3, 13): "communication administratively prohibited",
        (3, None): "destination unreachable",
        (11, None): "hop limit exceeded on the way",
        (12, None): "parameter problem",
    },
    6: {
        (1, 0): "no route to the destination",
        (1, 1): "communication administratively prohibited",
        (1, 3): "address unreachable",
        (1, None): "destination unreachable",
        (2, None): "packet too big for the way",
        (3, None): "hop limit exceeded on the way",
        (4, None): "parameter problem",
    },
}


class Echoed(NamedTuple):
    """A reply to some echo request; ``hop_limit`` is what was left of it on arrival."""

    identifier: int
    sequence: int
    token: bytes
    hop_limit: int | None = None


class Undelivered(NamedTuple):
    """Word that some echo request did not reach ``destination`` (a packed address)."""

    identifier: int
    sequence: int
    destination: bytes
    said: str


def echo_request(family: IpFamily, identifier: int, sequence: int, token: bytes) -> bytes:
    """64 bytes, as ping sends them. Over IPv6 the kernel fills the checksum in, since it covers the IP header."""
    kind = _REQUEST[family]
    checksum = 0
    if family == 4:
        total = (kind << 8) + identifier + sequence + sum(_WORDS.unpack(token)) + _PADDING_SUM
        checksum = ~(total % 0xFFFF) & 0xFFFF
    return _ECHO.pack(kind, 0, checksum, identifier, sequence) + token + _PADDING


def read_ipv4(packet: bytes) -> Echoed | Undelivered | None:
    """A packet with its IP header, as raw IPv4 sockets hand it out."""
    if len(packet) < _IPV4_HEADER_BYTES:
        return None
    header_bytes = (packet[0] & 0x0F) * 4
    return read_message(4, packet[header_bytes:], hop_limit=packet[8])


def read_message(family: IpFamily, message: bytes, *, hop_limit: int | None) -> Echoed | Undelivered | None:
    """An ICMP message; ``None`` for what is neither a reply nor an error about an echo request."""
    if len(message) < _ECHO.size:
        return None
    kind, code, _, identifier, sequence = _ECHO.unpack_from(message)
    if kind == _REPLY[family] and code == 0:
        return Echoed(identifier, sequence, message[_ECHO.size : _ECHO.size + TOKEN_BYTES], hop_limit)
    if (kind, None) not in _SAID[family]:
        return None
    return _read_quoted(family, message[_ECHO.size :], what_was_said(family, kind, code))


def _read_quoted(family: IpFamily, quoted: bytes, said: str) -> Undelivered | None:
    """Errors quote the packet they are about: its IP header and at least eight bytes."""
    if len(quoted) < _IPV4_HEADER_BYTES:
        return None
    if family == 4:
        start, protocol, destination = (quoted[0] & 0x0F) * 4, quoted[9], quoted[16:20]
    else:
        start, protocol, destination = _IPV6_HEADER_BYTES, quoted[6], quoted[24:40]
    if protocol != (_ICMP if family == 4 else _ICMPV6):
        return None
    return read_undelivered(family, quoted[start:], destination, said)


def read_undelivered(family: IpFamily, request: bytes, destination: bytes, said: str) -> Undelivered | None:
    """What is left of the request that an error is about; ``None`` where it was no echo request."""
    if len(request) < _ECHO.size:
        return None
    kind, _, _, identifier, sequence = _ECHO.unpack_from(request)
    return Undelivered(identifier, sequence, destination, said) if kind == _REQUEST[family] else None


def what_was_said(family: IpFamily, kind: int, code: int) -> str:
    words = _SAID[family]
    return words.get((kind, code)) or words.get((kind, None)) or f"ICMP type {kind} code {code}"


@lru_cache
def wanted_types(family: IpFamily) -> bytes:
    """The kernel's filter for raw sockets (bits that are set are dropped): replies and errors pass."""
    passing = {_REPLY[family], *(kind for kind, _ in _SAID[family])}
    mask = (1 << 256) - 1
    for kind in passing:
        mask &= ~(1 << kind)
    words = 1 if family == 4 else 8
    return struct.pack(f"={words}I", *((mask >> 32 * word) & 0xFFFF_FFFF for word in range(words)))
