"""The machine's network with a declared way through it: a DNS server for names, an address to send from; and whether
there is a way at all."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from watchbill.domain.reach import IpChoice, family_of
from watchbill.ports import Connection, Datagrams, EchoReply

if TYPE_CHECKING:
    from watchbill.net import MachineNetwork

_NO_WAY = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL})
_ANY_PORT = 9


def way_lost(address: str, source: str | None = None) -> str | None:
    """Why the kernel would send nothing to that address now; ``None`` where it would, or where none can tell.

    Connecting a datagram socket looks the route up, chooses the address to send from, and sends nothing. An established
    connection whose route goes away says nothing of it; it only becomes silent.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as endpoint:
            if source is not None:
                endpoint.bind((source, 0))
            endpoint.connect((address, _ANY_PORT))
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno in _NO_WAY else None
    return None


class Route:
    """A :class:`watchbill.ports.Network` that leaves everything undeclared to the machine's."""

    def __init__(self, machine: MachineNetwork, *, resolver: str | None, source: str | None) -> None:
        self._machine = machine
        self._resolver = resolver
        self._source = source

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        if family is None and self._source is not None:
            family = family_of(self._source)  # no other address could be reached
        if self._resolver is None:
            return await self._machine.resolve(host, family)
        return await self._machine.resolver_at(self._resolver).resolve(host, family)

    async def connect(self, address: str, port: int) -> Connection:
        if self._source is None:
            return await self._machine.connect(address, port)
        return await self._machine.connect_from(self._source, address, port)

    async def connect_unix(self, path: str) -> Connection:
        return await self._machine.connect_unix(path)

    def via(self, *, resolver: str | None = None, source: str | None = None) -> Route:
        return Route(self._machine, resolver=resolver or self._resolver, source=source or self._source)

    async def open_datagrams(self, address: str, port: int) -> Datagrams:
        return await self._machine.open_datagrams(address, port, self._source)

    async def echo(self, address: str, *, timeout_seconds: float) -> EchoReply | None:
        return await self._machine.echo(address, timeout_seconds=timeout_seconds, source=self._source)

    def nameserver(self) -> tuple[str, int]:
        return self._machine.nameserver()
