"""What this machine says of names: ``/etc/hosts``, ``/etc/resolv.conf`` and the addresses of its interfaces.

The files are read again when they change; they are looked at no more than once a second. They are small and
local, so reading them in the event loop costs less than handing them to a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from watchbill.net.errors import network_error

Address: TypeAlias = IPv4Address | IPv6Address
T = TypeVar("T")

LOOKED_AT_SECONDS = 1.0
MAX_NAMESERVERS = 3
MAX_NDOTS = 15
UNIQUE_LOCAL = IPv6Network("fc00::/7")


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What resolv.conf(5) says, as far as it is followed here; ``timeout_seconds`` is for one try of one server."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout_seconds: float = 2.0
    attempts: int = 2


def parse_resolv_conf(text: str) -> ResolvConf:
    """Lines that are not understood are passed over, as the C library does."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith(("#", ";")) or not (words := line.split()):
            continue
        match words:
            case ["nameserver", server, *_] if as_address(server.partition("%")[0]) is not None:
                nameservers.append(server)
            case ["search" | "domain", *domains]:
                search = tuple(domain.rstrip(".") for domain in domains if domain.rstrip("."))
            case ["options", *words]:
                options.update(_numbers(words))
    return ResolvConf(
        nameservers=tuple(nameservers[:MAX_NAMESERVERS]),
        search=search,
        ndots=min(options.get("ndots", 1), MAX_NDOTS),
        timeout_seconds=float(min(max(options.get("timeout", 2), 1), 30)),
        attempts=min(max(options.get("attempts", 2), 1), 5),
    )


def _numbers(options: list[str]) -> dict[str, int]:
    pairs = (option.partition(":") for option in options)
    return {name: int(value) for name, _, value in pairs if value.isascii() and value.isdigit()}


def parse_hosts(text: str) -> dict[str, tuple[Address, ...]]:
    """Lower-case name -> addresses in the order of the file."""
    hosts: dict[str, tuple[Address, ...]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        address = as_address(words[0]) if words else None
        if address is None:
            continue
        for name in (word.lower().rstrip(".") for word in words[1:]):
            hosts[name] = (*hosts.get(name, ()), address)
    return hosts


def parse_interfaces(text: str) -> frozenset[str]:
    """The kinds of IPv6 addresses this machine has beyond its links: ``global`` and ``local`` (RFC 4193)."""
    words = (line.split() for line in text.splitlines())
    addresses = (IPv6Address(int(fields[0], 16)) for fields in words if len(fields) > 3 and fields[3] == "00")
    return frozenset(map(kind_of, addresses))


def kind_of(address: IPv6Address) -> str:
    return "local" if address in UNIQUE_LOCAL else "global"


@lru_cache(maxsize=1 << 14)  # a pure function, which costs 8 us where the address is the same each time
def as_address(text: str) -> Address | None:
    """An address in its full spelling; ``127.1`` and ``0x7f.1``, which the C library takes, are none."""
    try:
        return ip_address(text)
    except ValueError:
        return None


class WatchedFile(Generic[T]):
    """A parsed file, as of at most one second ago. A missing one reads as empty; one that cannot be read just now
    (no descriptor is free) stays as it was, so that its names do not become unknown."""

    def __init__(
        self, path: Path, parse: Callable[[str], T], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._parse = parse
        self._monotonic = monotonic
        self._looked_at = float("-inf")
        self._signature: tuple[int, ...] | None = None
        self._parsed = parse("")
        self._known = False

    def value(self) -> T:
        """:raises NetworkError: it exists and could not be read even once."""
        now = self._monotonic()
        if now - self._looked_at >= LOOKED_AT_SECONDS:
            self._looked_at = now
            self._look()
        return self._parsed

    def _look(self) -> None:
        try:
            stat = self._path.stat()
            # What lies in /proc has no size and no honest mtime, so it is read every time.
            signature = (stat.st_mtime_ns, stat.st_ino, stat.st_size) if stat.st_size else None
            if signature is None or signature != self._signature:
                self._parsed = self._parse(self._path.read_text(encoding="utf-8", errors="replace"))
            self._signature = signature
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            self._signature, self._parsed = None, self._parse("")
        except OSError as error:
            self._signature = None
            if not self._known:
                self._looked_at = float("-inf")
                raise network_error(error, f"reading {self._path}") from error
        self._known = True
