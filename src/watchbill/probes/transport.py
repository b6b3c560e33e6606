"""HTTP/1.1 over the network port, as a transport of httpx2: one connection for one request.

It drives the phases (resolve, connect, tls, processing, transfer), writes down what it saw of the connection, and
gives every violation of the protocol a reason. A certificate that does not verify ends the exchange before a
byte of the request is sent.
"""

from __future__ import annotations

import httpx2

from watchbill.domain.checks import IpFamily, TlsOptions
from watchbill.domain.results import Reason
from watchbill.ports import Connection, Network, NetworkError, TlsSession
from watchbill.probes.answer import Answer
from watchbill.probes.attempt import Attempt
from watchbill.probes.connections import connect, is_metadata, record_session, resolve, shut

ALPN = ("http/1.1",)
_PORTS = {"http": 80, "https": 443}


class ProbeTransport(httpx2.AsyncBaseTransport):
    """For one probe, whose connections it owns: a new request closes the one before, :meth:`aclose` the last."""

    def __init__(
        self, network: Network, attempt: Attempt, *, tls: TlsOptions, ip_family: IpFamily | None
    ) -> None:
        self.session: TlsSession | None = None
        self._network = network
        self._attempt = attempt
        self._tls = tls
        self._ip_family = ip_family
        self._foreign = False
        self._connection: Connection | None = None

    def leave_home(self) -> None:
        """From here on the targets are chosen by strangers: no client certificate, no way to metadata services."""
        self._foreign = True
        self._tls = TlsOptions(ca_file=self._tls.ca_file, skip_verification=self._tls.skip_verification)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """:raises NetworkError: at whichever step it ended, with its reason."""
        await self.aclose()
        self._connection = connection = await self._connect(request.url)
        if request.url.scheme == "https":
            await self._start_tls(connection, request.url)
        return await self._exchange(connection, request)

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await shut(connection)

    async def _connect(self, url: httpx2.URL) -> Connection:
        _forget_the_last_hop(self._attempt)
        self.session = None
        self._attempt.facts["ssl"] = False
        address = await resolve(self._network, self._attempt, _host(url), self._ip_family)
        if self._foreign and is_metadata(address):
            raise NetworkError(
                Reason.REDIRECT, f"redirect to {address} refused: it is a link-local or metadata address"
            )
        return await connect(self._network, self._attempt, address, url.port or _PORTS[url.scheme])

    async def _start_tls(self, connection: Connection, url: httpx2.URL) -> None:
        self._attempt.phases.start("tls")
        session = await connection.start_tls(self._tls, server_name=_host(url), alpn=ALPN)
        self.session = session
        self._attempt.facts["ssl"] = True
        record_session(session, self._attempt)
        if session.problem is not None and not self._tls.skip_verification:
            raise NetworkError(Reason.CERTIFICATE, session.problem)

    async def _exchange(self, connection: Connection, request: httpx2.Request) -> httpx2.Response:
        self._attempt.phases.start("processing")
        await connection.send(_request_head(request) + await _request_body(request))
        answer = Answer(
            connection, bodiless=request.method == "HEAD", upgradable="upgrade" in request.headers
        )
        await answer.read_head()
        self._attempt.phases.start("transfer")
        self._attempt.facts["http_version"] = answer.version
        return httpx2.Response(answer.status, headers=answer.headers, stream=answer)


def _forget_the_last_hop(attempt: Attempt) -> None:
    for name in [name for name in attempt.facts if name.startswith(("certificate_", "tls_"))]:
        del attempt.facts[name]


def _host(url: httpx2.URL) -> str:
    return url.raw_host.decode("ascii").strip("[]")


def _request_head(request: httpx2.Request) -> bytes:
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    for name, value in request.headers.raw:
        if b"\n" in value or b"\r" in value or b"\0" in value:
            raise NetworkError(Reason.INTERNAL, f"header {name.decode('ascii')} holds a line break")
        lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


async def _request_body(request: httpx2.Request) -> bytes:
    if "content-length" not in request.headers:
        return b""
    return await request.aread()
