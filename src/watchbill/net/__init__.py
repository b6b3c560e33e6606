"""The production network, for asyncio and uvloop. :func:`open_network` is its front door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from watchbill.domain.credentials import TlsOptions
from watchbill.domain.reach import IpChoice
from watchbill.net.datagrams import DatagramPair, open_datagrams
from watchbill.net.icmp import Echo
from watchbill.net.resolver import Resolver
from watchbill.net.routes import Route, way_lost
from watchbill.net.sources import open_stream_from, open_unix_stream
from watchbill.net.streams import Stream, open_stream
from watchbill.net.tls import Contexts
from watchbill.ports import EchoReply

__all__ = ["MachineNetwork", "open_network", "way_lost"]

RESOLVERS_KEPT = 256


@asynccontextmanager
async def open_network() -> AsyncIterator[MachineNetwork]:
    """The network of this machine; leaving closes what the probes share (the ICMP sockets)."""
    network = MachineNetwork()
    network.warm_up()
    try:
        yield network
    finally:
        await network.aclose()


class MachineNetwork:
    """Sockets of this machine. Every call is bounded by its caller, who cancels."""

    def __init__(self) -> None:
        self._contexts = Contexts()
        self._resolver = Resolver(open_datagrams=self.open_datagrams, connect=self.connect)
        self._resolvers: dict[str, Resolver] = {}
        self._echo = Echo()

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        return await self._resolver.resolve(host, family)

    async def connect(self, address: str, port: int) -> Stream:
        return await open_stream(address, port, contexts=self._contexts)

    async def connect_from(self, source: str, address: str, port: int) -> Stream:
        return await open_stream_from(source, address, port, contexts=self._contexts)

    async def connect_unix(self, path: str) -> Stream:
        return await open_unix_stream(path, contexts=self._contexts)

    def via(self, *, resolver: str | None = None, source: str | None = None) -> Route:
        return Route(self, resolver=resolver, source=source)

    def resolver_at(self, server: str) -> Resolver:
        """The one for that DNS server: one for all that ask it, since it tells whether others get answers."""
        known = self._resolvers.get(server)
        if known is None:
            if len(self._resolvers) >= RESOLVERS_KEPT:
                self._resolvers.pop(next(iter(self._resolvers)))
            known = self._resolvers[server] = Resolver(
                open_datagrams=self.open_datagrams, connect=self.connect, server=server
            )
        return known

    async def look_up(self, name: str, record: str, *, resolver: str | None = None) -> tuple[str, ...]:
        asked = self._resolver if resolver is None else self.resolver_at(resolver)
        return await asked.records(name, record)

    async def open_datagrams(self, address: str, port: int, source: str | None = None) -> DatagramPair:
        return await open_datagrams(address, port, source)

    async def echo(
        self, address: str, *, timeout_seconds: float, source: str | None = None
    ) -> EchoReply | None:
        return await self._echo.echo(address, timeout_seconds=timeout_seconds, source=source)

    def nameserver(self) -> tuple[str, int]:
        return self._resolver.nameserver()

    def warm_up(self) -> None:
        """Read the system's root certificates now: it takes some 20 ms, which no probe should wait."""
        self._contexts.get(TlsOptions(), ("http/1.1",))

    async def aclose(self) -> None:
        await self._echo.aclose()
