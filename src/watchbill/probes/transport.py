"""HTTP/1.1 over the network port, as a transport of httpx2: one connection for one request.

It drives the phases (resolve, connect, tls, processing, transfer), writes down what it saw of the connection, and
gives every violation of the protocol a reason. A certificate that does not verify ends the exchange before a
byte of the request is sent.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httptools
import httpx2

from watchbill.domain.checks import IpFamily, TlsOptions
from watchbill.domain.results import Reason
from watchbill.domain.units import SECOND
from watchbill.ports import Connection, Network, NetworkError, TlsSession
from watchbill.probes.attempt import Attempt

MOST_HEAD_BYTES = 64 * 1024
MOST_FIELDS = 200
MOST_INTERIM = 20
ALPN = ("http/1.1",)
SHOWN_START = 40
_START = b"HTTP/"
_VERSIONS = frozenset({"1.0", "1.1"})
_PORTS = {"http": 80, "https": 443}


class ProbeTransport(httpx2.AsyncBaseTransport):
    """For one probe. ``tls`` may be exchanged between hops of a redirect."""

    def __init__(
        self, network: Network, attempt: Attempt, *, tls: TlsOptions, ip_family: IpFamily | None
    ) -> None:
        self.tls = tls
        self.session: TlsSession | None = None
        self._network = network
        self._attempt = attempt
        self._ip_family = ip_family

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """:raises NetworkError: at whichever step it ended, with its reason."""
        connection = await self._connect(request.url)
        try:
            if request.url.scheme == "https":
                await self._start_tls(connection, request.url)
            return await self._exchange(connection, request)
        except BaseException:
            await shut(connection)
            raise

    async def _connect(self, url: httpx2.URL) -> Connection:
        _forget_the_last_hop(self._attempt)
        self.session = None
        self._attempt.facts["ssl"] = False
        port = url.port or _PORTS[url.scheme]
        return await connect(self._network, self._attempt, _host(url), port, self._ip_family)

    async def _start_tls(self, connection: Connection, url: httpx2.URL) -> None:
        self._attempt.phases.start("tls")
        session = await connection.start_tls(self.tls, server_name=_host(url), alpn=ALPN)
        self.session = session
        self._attempt.facts["ssl"] = True
        record_session(session, self._attempt)
        if session.problem is not None and not self.tls.skip_verification:
            raise NetworkError(Reason.CERTIFICATE, session.problem)

    async def _exchange(self, connection: Connection, request: httpx2.Request) -> httpx2.Response:
        self._attempt.phases.start("processing")
        await connection.send(_request_head(request) + await _request_body(request))
        answer = _Answer(connection, bodiless=request.method == "HEAD")
        await answer.read_head()
        self._attempt.phases.start("transfer")
        self._attempt.facts["http_version"] = answer.version
        return httpx2.Response(answer.status, headers=answer.headers, stream=answer)


async def connect(
    network: Network, attempt: Attempt, host: str, port: int, ip_family: IpFamily | None
) -> Connection:
    """Resolve and connect, once each, in their phases; the address becomes a fact."""
    attempt.phases.start("resolve")
    address = await network.resolve(host, ip_family)
    attempt.phases.start("connect")
    attempt.facts["address"] = address
    attempt.facts["ip_protocol"] = 6 if ":" in address else 4
    attempt.facts["dns_lookup_seconds"] = attempt.phases.seconds["resolve"]
    return await network.connect(address, port)


def record_session(session: TlsSession, attempt: Attempt) -> None:
    """The handshake and its certificate as facts; instants in whole seconds."""
    facts = attempt.facts
    facts["tls_version"] = session.version
    facts["tls_cipher"] = session.cipher
    facts["certificate_problem"] = session.problem
    if session.earliest_expiry is None:
        return
    leaf = session.chain[0]
    facts["certificate_expires_at"] = session.earliest_expiry // SECOND
    facts["certificate_not_before"] = leaf.not_before // SECOND
    facts["certificate_subject"] = leaf.subject
    facts["certificate_issuer"] = leaf.issuer
    facts["certificate_names"] = list(leaf.names)
    facts["certificate_sha256"] = leaf.sha256
    facts["certificate_serial"] = leaf.serial


async def shut(connection: Connection) -> None:
    """Close also while being cancelled; closing is quick by contract."""
    with anyio.CancelScope(shield=True):
        await connection.close()


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


class _Answer(httpx2.AsyncByteStream):
    """One response as it arrives: first its head, then, iterated over, its body. Parsed by llhttp's strict rules."""

    def __init__(self, connection: Connection, *, bodiless: bool) -> None:
        self.status = 0
        self.version = ""
        self.headers: list[tuple[bytes, bytes]] = []
        self._connection = connection
        self._bodiless = bodiless
        self._parser: Any = httptools.HttpResponseParser(self)
        self._start = b""
        self._head_bytes = 0
        self._interim = 0
        self._head_done = False
        self._done = False
        self._bounded = False
        self._chunks: list[bytes] = []
        self._problem: NetworkError | None = None

    async def read_head(self) -> None:
        """:raises NetworkError: ``protocol``, ``too_large``, ``reset``, or what the connection raised."""
        while not self._head_done:
            data = await self._connection.receive()
            if not data:
                seen = "in the middle of" if self._head_bytes else "before"
                raise NetworkError(Reason.RESET, f"the server hung up {seen} the response's head")
            if self._head_bytes < len(_START):
                self._check_start(data)
            self._head_bytes += len(data)
            self._feed(data)
            if not self._head_done and self._head_bytes > MOST_HEAD_BYTES:
                raise _flood(f"{MOST_HEAD_BYTES // 1024} KiB")

    def _check_start(self, data: bytes) -> None:
        # llhttp takes RTSP and ICE for HTTP, and its words do not say what was there instead.
        self._start = (self._start + data)[:SHOWN_START]
        if not self._start.startswith(_START[: len(self._start)]):
            seen = json.dumps(self._start.decode("utf-8", errors="replace"), ensure_ascii=False)
            raise NetworkError(Reason.PROTOCOL, f"the response is not HTTP/1.1: it begins with {seen}")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._done:
                raise StopAsyncIteration
            data = await self._connection.receive()
            if data:
                self._feed(data)
            elif self._bounded:
                raise NetworkError(Reason.RESET, "the server hung up in the middle of the response's body")
            else:
                self._done = True
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body

    async def aclose(self) -> None:
        await shut(self._connection)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise NetworkError(
                Reason.PROTOCOL, "the server switched protocols without being asked"
            ) from error
        except httptools.HttpParserError as error:
            if self._problem is not None:
                raise self._problem from error
            if not self._done:  # what follows a complete response is none of our business
                raise NetworkError(Reason.PROTOCOL, f"the response is not HTTP/1.1: {error}") from error

    # What the parser calls, in this order. An exception from within ends parsing.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer
        self.headers.append((name, value))
        if len(self.headers) > MOST_FIELDS:
            self._problem = _flood(f"{MOST_FIELDS} fields")
            raise self._problem

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200 and self.status != 101:
            self._skip_interim()
            return
        self.version = self._parser.get_http_version()
        if self.version not in _VERSIONS:
            self._problem = NetworkError(Reason.PROTOCOL, f"the response is not HTTP/1.1 but {self.version}")
            raise self._problem
        self._head_done = True
        self._bounded = any(
            name.lower() in {b"content-length", b"transfer-encoding"} for name, _ in self.headers
        )
        if self._bodiless:
            self._done = True

    def _skip_interim(self) -> None:
        self.headers.clear()
        self._interim += 1
        if self._interim > MOST_INTERIM:
            self._problem = NetworkError(
                Reason.PROTOCOL, f"the server sent more than {MOST_INTERIM} interim (1xx) responses"
            )
            raise self._problem

    def on_body(self, data: bytes) -> None:
        if not self._done:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        if self._head_done:
            self._done = True


def _flood(limit: str) -> NetworkError:
    return NetworkError(Reason.TOO_LARGE, f"the response's headers must be at most {limit}, are more")
