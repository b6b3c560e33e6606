"""The stub resolver on a machine with files and name servers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
import trio.testing

from tests.dns_server import (
    DnsServer,
    Script,
    dns_server,
    records,
)
from watchbill.domain.reach import IpChoice
from watchbill.domain.results import Reason
from watchbill.net import MachineNetwork
from watchbill.net.resolver import Resolver
from watchbill.ports import Connection, NetworkError

GLOBAL_V6 = "20010db8000000000000000000000007 02 40 00 80     eth0\n"
UNIQUE_LOCAL_V6 = "fd000000000000000000000000000002 02 40 00 80     eth0\n"
LINK_LOCAL_V6 = "fe800000000000000000000000000001 02 40 20 80     eth0\n"
ONE, TWO = "192.0.2.51", "192.0.2.52"
ONLY_V4: dict[tuple[str, str], Script] = {("shop.test", "A"): records("A", "192.0.2.3")}


class Machine:
    """A machine with files of its own, whose resolver asks real sockets."""

    def __init__(self, folder: Path, servers: Sequence[str], port: int) -> None:
        self.hosts = folder / "hosts"
        self.resolv_conf = folder / "resolv.conf"
        self.interfaces = folder / "if_inet6"
        self.hosts.write_text("")
        self.resolv_conf.write_text("".join(f"nameserver {server}\n" for server in servers))
        self.interfaces.write_text("")
        self.port = port

    def resolver(self) -> Resolver:
        network = MachineNetwork()
        return Resolver(
            open_datagrams=network.open_datagrams,
            connect=network.connect,
            hosts=self.hosts,
            resolv_conf=self.resolv_conf,
            interfaces=self.interfaces,
            port=self.port,
        )

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        with anyio.fail_after(20):
            return await self.resolver().resolve(host, family)

    async def refusal(self, host: str, family: IpChoice | None = None) -> tuple[Reason, str]:
        with anyio.fail_after(20):
            return await refusal(self.resolver(), host, family)


async def refusal(resolver: Resolver, host: str, family: IpChoice | None = None) -> tuple[Reason, str]:
    with pytest.raises(NetworkError) as caught:
        await resolver.resolve(host, family)
    return caught.value.reason, caught.value.message


async def resolved(
    folder: Path, scripts: dict[tuple[str, str], Script], host: str, family: IpChoice | None = None
) -> tuple[str, DnsServer]:
    async with dns_server() as server:
        server.scripts = scripts
        return await Machine(folder, ["127.0.0.1"], server.port).resolve(host, family), server


async def refused(
    folder: Path, scripts: dict[tuple[str, str], Script], host: str, family: IpChoice | None = None
) -> tuple[Reason, str]:
    async with dns_server() as server:
        server.scripts = scripts
        return await Machine(folder, ["127.0.0.1"], server.port).refusal(host, family)


@dataclass
class Wire:
    """Datagrams to a scripted server without sockets, so that time may be virtual."""

    server: DnsServer
    packets: list[bytes] = field(default_factory=list)

    async def send(self, data: bytes) -> None:
        self.packets += self.server.packets_for(data, "udp")

    async def receive(self) -> bytes:
        if not self.packets:
            await anyio.sleep_forever()
        return self.packets.pop(0)

    async def close(self) -> None: ...


def virtual_time() -> pytest.MarkDecorator:
    clock = trio.testing.MockClock(autojump_threshold=0)
    return pytest.mark.parametrize("anyio_backend", [("trio", {"clock": clock})], ids=["virtual"])


def over_wires(folder: Path, *servers: DnsServer) -> Resolver:
    machine = Machine(folder, [server.address for server in servers], 53)
    by_address = {server.address: server for server in servers}

    async def open_datagrams(address: str, port: int) -> Wire:
        return Wire(by_address[address])

    async def connect(address: str, port: int) -> Connection:
        raise NetworkError(Reason.REFUSED, "no streams here")

    return Resolver(
        open_datagrams=open_datagrams,
        connect=connect,
        hosts=machine.hosts,
        resolv_conf=machine.resolv_conf,
        interfaces=machine.interfaces,
    )
