"""What is at the other end of a simulated connection: an answer to each request, in the way that its target has just then."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import dns.message
import dns.rcode
import dns.rrset

from tests.sim.targets import Behaviour, Target
from watchbill.domain.credentials import TlsOptions
from watchbill.domain.results import Reason
from watchbill.domain.units import SECOND
from watchbill.ports import Certificate, NetworkError, TlsSession
from watchbill.testing import START

if TYPE_CHECKING:
    from tests.sim.network import SimulatedNetwork

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"
GARBAGE = b"\x15\x03\x01 what?\r\n\r\n"
MUTE = frozenset({Behaviour.UNREACHABLE, Behaviour.RESETS, Behaviour.GARBAGE})
"""To a question in a datagram these say nothing."""
SHOWN = Certificate(
    subject="CN=*.test",
    issuer="CN=issuer.test",
    names=("*.test",),
    not_before=START - SECOND,
    not_after=START + 10**9 * SECOND,
    sha256="00",
    serial="01",
)
SESSION = TlsSession("TLSv1.3", "TLS_AES_128_GCM_SHA256", (SHOWN,), None)


@dataclass(eq=False)
class SimulatedConnection:
    """A :class:`~watchbill.ports.Connection` that answers each request once."""

    network: SimulatedNetwork
    target: Target
    _asked: anyio.Event = field(default_factory=anyio.Event)
    _pieces: list[bytes] = field(default_factory=list)
    _ended: bool = False
    _closed: bool = False

    def __post_init__(self) -> None:
        self.network.open_connections += 1

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self._refuse_closed()
        self._asked.set()

    async def receive(self) -> bytes:
        self._refuse_closed()
        if self._pieces:
            await anyio.sleep(0.02)
            return self._pieces.pop(0)
        if self._ended:
            await anyio.lowlevel.checkpoint()
            raise NetworkError(Reason.RESET, "connection reset by peer")
        await self._asked.wait()
        self._asked = anyio.Event()
        first, *self._pieces = await self._answer()
        return first

    async def _answer(self) -> list[bytes]:
        match await self.network.answer(self.target):
            case Behaviour.GARBAGE:
                return [GARBAGE]
            case Behaviour.ERRORS:
                return [ERROR]
            case Behaviour.RESETS | Behaviour.REFUSES | Behaviour.UNREACHABLE:
                self._ended = True
                return [self.network.cut(OK)]
            case Behaviour.TRICKLES:
                return self.network.pieces(OK)
            case _:
                return [OK]

    async def start_tls(
        self, options: TlsOptions, *, server_name: str, alpn: tuple[str, ...] = ()
    ) -> TlsSession:
        self._refuse_closed()
        match await self.network.answer(self.target):
            case Behaviour.GARBAGE | Behaviour.RESETS:
                raise NetworkError(Reason.TLS, "nobody speaks TLS here")
            case Behaviour.REFUSES | Behaviour.UNREACHABLE:
                raise NetworkError(Reason.RESET, "the target left when it was connected")
            case Behaviour.ERRORS:
                return replace(SESSION, problem="the certificate is over")
            case _:
                return SESSION

    def is_idle(self) -> bool:
        return not (self._closed or self._ended or self._pieces)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.network.open_connections -= 1

    def _refuse_closed(self) -> None:
        assert not self._closed, "a connection is used after it was closed"


@dataclass(eq=False)
class SimulatedDatagrams:
    """A :class:`~watchbill.ports.Datagrams` to a DNS server."""

    network: SimulatedNetwork
    target: Target
    _question: dns.message.Message | None = None
    _closed: bool = False

    def __post_init__(self) -> None:
        self.network.open_connections += 1

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self._question = dns.message.from_wire(data)

    async def receive(self) -> bytes:
        behaviour = await self.network.answer(self.target)
        question, self._question = self._question, None
        if question is None or behaviour in MUTE:
            await anyio.sleep_forever()
        assert question is not None
        if behaviour is Behaviour.REFUSES:
            raise NetworkError(Reason.REFUSED, "nobody listens there")
        response = dns.message.make_response(question)
        if behaviour is Behaviour.ERRORS:
            response.set_rcode(dns.rcode.SERVFAIL)
        else:
            response.answer.append(dns.rrset.from_text(question.question[0].name, 60, "IN", "A", "192.0.2.1"))
        return response.to_wire()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.network.open_connections -= 1
