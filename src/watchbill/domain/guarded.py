"""The addresses that a check reaches only where it says so: of this link, and where clouds keep credentials."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_CLOUDS_4 = frozenset(map(ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192")))
"""Alibaba, Azure, Oracle; all others answer at link-local ones."""
_CLOUDS_6 = tuple(map(ip_network, ("fd00:ec2::/32", "fd20:ce::/64", "fd00:42::42/128")))
"""Amazon (also what hands credentials to pods), Google, Scaleway."""
_TRAILING = tuple(map(ip_network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""Whose last 32 bits are an IPv4 address: compatible, mapped (RFC 4291 §2.5.5), translated (RFC 2765), NAT64 (RFC 6052)."""
_LOCAL_NAT64 = ip_network("64:ff9b:1::/48")
"""RFC 8215: translators of one's own, which may put the IPv4 address in any place that RFC 6052 §2.2 knows."""
_LOCAL_NAT64_PREFIXES = (48, 56, 64, 96)
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})
_LOW_32 = 0xFFFF_FFFF


@lru_cache(maxsize=1 << 14)
def is_guarded(address: str) -> bool:
    """Of a literal address, with or without a zone; whatever it is wrapped in (mapped, 6to4, NAT64, Teredo, ISATAP)."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        return found.is_link_local or found in _CLOUDS_4
    if found.is_link_local or any(found in network for network in _CLOUDS_6):
        return True
    return any(inner.is_link_local or inner in _CLOUDS_4 for inner in _inner(found))


def _inner(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that it may lead to."""
    number = int(address)
    if any(address in network for network in _TRAILING) or (number >> 32) & _LOW_32 in _ISATAP:
        yield IPv4Address(number & _LOW_32)
    if address in _LOCAL_NAT64:
        yield from (_embedded(number, bits) for bits in _LOCAL_NAT64_PREFIXES)
    if address.sixtofour is not None:
        yield address.sixtofour
    yield from address.teredo or ()


def _embedded(number: int, after: int) -> IPv4Address:
    """Behind that many bits, leaving out bits 64 to 71 (RFC 6052 §2.2)."""
    bits = f"{number:0128b}"
    return IPv4Address(int((bits[:64] + bits[72:] if after < 96 else bits)[after : after + 32], 2))
