"""The machine's network with a declared way through it: a DNS server for names, an address to send from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchbill.domain.reach import IpChoice, family_of
from watchbill.ports import Connection, Datagrams, EchoReply

if TYPE_CHECKING:
    from watchbill.net import MachineNetwork


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
