"""HTTP/1.1 over the network port: one connection for one request. Also a transport of httpx2, for redirects.

It drives the phases (resolve, connect, tls, processing, transfer), writes down what it saw of the connection, and
gives every violation of the protocol a reason. A certificate that does not verify ends the exchange before a
byte of the request is sent. The first request of a check is prebuilt and passes httpx2 by, whose layers cost as
much as the network (0.14 ms of CPU).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2

from watchbill.domain.credentials import TlsOptions
from watchbill.domain.reach import IpChoice
from watchbill.domain.results import Reason
from watchbill.fence import GuardedAddressError, fenced
from watchbill.ports import Connection, Network, NetworkError, TlsSession
from watchbill.probes.answer import Answer, Reply
from watchbill.probes.attempt import Attempt
from watchbill.probes.connections import connect, record_session, resolve, shut

ALPN = ("http/1.1",)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it is sent: ``wire`` is its head and its body, ``host`` a name or a literal address.

    ``bodiless``: its response has no body (HEAD); ``upgradable``: it asks for another protocol.
    """

    secure: bool
    host: str
    port: int
    wire: bytes
    bodiless: bool
    upgradable: bool


class ProbeTransport(httpx2.AsyncBaseTransport):
    """For one probe, whose connections it owns: a new request closes the one before, :meth:`aclose` the last."""

    def __init__(
        self, network: Network, attempt: Attempt, *, tls: TlsOptions, ip_family: IpChoice | None
    ) -> None:
        self.session: TlsSession | None = None
        self.answer: Reply | None = None
        self._network = network
        self._attempt = attempt
        self._tls = tls
        self._ip_family = ip_family
        self._foreign = False
        self._connection: Connection | None = None

    def leave_home(self) -> None:
        """From here on the targets are chosen by strangers: no client certificate, no way to metadata services."""
        self._foreign = True
        self._network = fenced(self._network)
        self._tls = TlsOptions(ca_file=self._tls.ca_file, skip_verification=self._tls.skip_verification)

    async def exchange(self, outgoing: Outgoing) -> Reply:
        """Send a request; the answer's head is there, its body comes by iterating.

        :raises NetworkError: at whichever step it ended, with its reason.
        """
        if self._connection is not None:
            await self.aclose()
        self._connection = connection = await self._connect(outgoing)
        if outgoing.secure:
            await self._start_tls(connection, outgoing.host)
        phases = self._attempt.phases
        phases.start("processing")
        await connection.send(outgoing.wire)
        answer = Answer(connection, bodiless=outgoing.bodiless, upgradable=outgoing.upgradable)
        self.answer = answer
        await answer.read_head()
        phases.start("transfer")
        self._attempt.facts["http_version"] = answer.version
        return answer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """:raises NetworkError: as :meth:`exchange`."""
        return as_response(await self.exchange(outgoing_of(request)))

    async def aclose(self) -> None:
        if self.answer is not None:
            self.answer.release()
        connection, self._connection = self._connection, None
        if connection is not None:
            await shut(connection)

    async def _connect(self, outgoing: Outgoing) -> Connection:
        facts = self._attempt.facts
        if "ssl" in facts:
            forget_the_last_hop(facts)
            self.session = None
        facts["ssl"] = False
        address = await resolve(self._network, self._attempt, outgoing.host, self._ip_family)
        return await self._connect_to(address, outgoing.port)

    async def _connect_to(self, address: str, port: int) -> Connection:
        try:
            return await connect(self._network, self._attempt, address, port)
        except GuardedAddressError as error:
            raise self._refused(error) from None

    def _refused(self, error: GuardedAddressError) -> NetworkError:
        """Where a stranger leads to what is fenced off, the redirect is at fault."""
        if not self._foreign:
            return error
        return NetworkError(
            Reason.REDIRECT, f"redirect to {error.address} refused: it is a link-local or metadata address"
        )

    async def _start_tls(self, connection: Connection, host: str, alpn: tuple[str, ...] = ALPN) -> TlsSession:
        self._attempt.phases.start("tls")
        session = await connection.start_tls(self._tls, server_name=host, alpn=alpn)
        self.session = session
        self._attempt.facts["ssl"] = True
        record_session(session, self._attempt)
        if session.problem is not None and not self._tls.skip_verification:
            raise NetworkError(Reason.CERTIFICATE, session.problem)
        return session


def outgoing_of(request: httpx2.Request) -> Outgoing:
    """:raises NetworkError: a header cannot be sent as it is."""
    body = request.read() if "content-length" in request.headers else b""
    url = request.url
    return Outgoing(
        secure=url.scheme == "https",
        host=url.raw_host.decode("ascii").strip("[]"),
        port=url.port or _PORTS[url.scheme],
        wire=_head(request) + body,
        bodiless=request.method == "HEAD",
        upgradable="upgrade" in request.headers,
    )


def as_response(answer: Reply) -> httpx2.Response:
    return httpx2.Response(answer.status, headers=answer.headers, stream=answer)


def forget_the_last_hop(facts: dict[str, Any]) -> None:
    for name in [name for name in facts if name.startswith(("certificate_", "tls_"))]:
        del facts[name]


def _head(request: httpx2.Request) -> bytes:
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    for name, value in request.headers.raw:
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise NetworkError(Reason.INTERNAL, f"header {name.decode('ascii')} holds a line break")
        lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])
