"""A network that says what it is told to, for probers on any event loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from watchbill.domain.credentials import TlsOptions
from watchbill.domain.reach import IpChoice
from watchbill.domain.results import Reason
from watchbill.ports import Certificate, Connection, Datagrams, EchoReply, NetworkError, TlsSession
from watchbill.testing import START


@dataclass(frozen=True, slots=True)
class Scripted:
    """What every connection says, piece by piece, before it ends; and what a handshake shows."""

    pieces: Sequence[bytes]
    session: TlsSession | None = None


@dataclass(slots=True)
class ScriptedConnection:
    network: ScriptedNetwork
    pieces: list[bytes]
    sent: list[bytes] = field(default_factory=list)
    closed: int = 0
    server_name: str = ""
    handshakes: int = 0
    alpn: tuple[str, ...] = ()

    async def send(self, data: bytes) -> None:
        await self.network.step("send")
        self.sent.append(data)

    async def receive(self) -> bytes:
        await self.network.step("receive")
        return self.pieces.pop(0) if self.pieces else b""

    async def start_tls(
        self, options: TlsOptions, *, server_name: str, alpn: tuple[str, ...] = ()
    ) -> TlsSession:
        await self.network.step("start_tls")
        self.server_name, self.alpn = server_name, alpn
        self.handshakes += 1
        if self.network.script.session is None:
            raise NetworkError(Reason.TLS, "the peer does not speak TLS")
        return self.network.script.session

    def is_idle(self) -> bool:
        return True

    async def close(self) -> None:
        self.closed += 1


@dataclass(slots=True)
class ScriptedNetwork:
    """One server behind every name. ``fails`` and ``hangs`` say at which step; ``connections`` is what was made."""

    script: Scripted
    fails: Mapping[str, NetworkError] = field(default_factory=dict)
    hangs: str = ""
    connections: list[ScriptedConnection] = field(default_factory=list)

    async def step(self, name: str) -> None:
        await anyio.lowlevel.checkpoint()
        if name == self.hangs:
            await anyio.sleep_forever()
        if name in self.fails:
            raise self.fails[name]

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        await self.step("resolve")
        return "192.0.2.1"

    async def connect(self, address: str, port: int) -> Connection:
        await self.step("connect")
        self.connections.append(ScriptedConnection(self, list(self.script.pieces)))
        return self.connections[-1]

    async def connect_unix(self, path: str) -> Connection:
        return await self.connect(path, 0)

    def via(self, *, resolver: str | None = None, source: str | None = None) -> ScriptedNetwork:
        return self

    async def open_datagrams(self, address: str, port: int) -> Datagrams:
        raise NetworkError(Reason.REFUSED, "nobody listens")

    async def echo(self, address: str, *, timeout_seconds: float) -> EchoReply | None:
        return None

    def nameserver(self) -> tuple[str, int]:
        return "192.0.2.53", 53


def a_certificate(name: str = "shop.test") -> Certificate:
    year = 365 * 86_400 * 1_000_000
    return Certificate(f"CN={name}", "CN=root", (name,), START - year, START + year, "0" * 64, "1f")
