"""The network as checks get it: no way to link-local and metadata addresses, unless a check declares that it means them.

It judges the literal address that this machine connects to, so nothing of how that is spelled, resolved or redirected to
can pass it by. A proxy that looks names up itself connects where it will: only addresses can be judged before it is asked.
"""

from __future__ import annotations

from watchbill.domain.guarded import is_guarded
from watchbill.domain.reach import IpChoice, split_server
from watchbill.domain.results import Reason
from watchbill.ports import Connection, Datagrams, EchoReply, Network, NetworkError


class GuardedAddressError(NetworkError):
    """``permission``: nothing was sent there, so nothing is known of the target."""

    def __init__(self, address: str) -> None:
        super().__init__(
            Reason.PERMISSION,
            f"{address} is a link-local or metadata address, which takes allow_link_local: true",
        )
        self.address = address


class Fenced:
    """A :class:`watchbill.ports.Network`. The system's own name servers are asked wherever they are."""

    def __init__(self, network: Network) -> None:
        self.network = network

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        return await self.network.resolve(host, family)

    async def connect(self, address: str, port: int) -> Connection:
        _judge(address)
        return await self.network.connect(address, port)

    async def connect_unix(self, path: str) -> Connection:
        return await self.network.connect_unix(path)

    def via(self, *, resolver: str | None = None, source: str | None = None) -> Fenced:
        if resolver is not None:
            _judge(split_server(resolver)[0])
        return Fenced(self.network.via(resolver=resolver, source=source))

    async def open_datagrams(self, address: str, port: int) -> Datagrams:
        _judge(address)
        return await self.network.open_datagrams(address, port)

    async def echo(self, address: str, *, timeout_seconds: float) -> EchoReply | None:
        _judge(address)
        return await self.network.echo(address, timeout_seconds=timeout_seconds)

    def nameserver(self) -> tuple[str, int]:
        return self.network.nameserver()


def fenced(network: Network) -> Network:
    return network if isinstance(network, Fenced) else Fenced(network)


def unfenced(network: Network) -> Network:
    return network.network if isinstance(network, Fenced) else network


def judge(network: Network, address: str) -> None:
    """Before somebody else, a proxy, is asked to connect there.

    :raises GuardedAddressError: the network is fenced, and the address is one that a check does not reach by accident.
    """
    if isinstance(network, Fenced):
        _judge(address)


def _judge(address: str) -> None:
    if is_guarded(address):
        raise GuardedAddressError(address)
