"""HTTP to servers that are no targets: discovery, an API, a collector. httpx2 over the network of this machine.

The connection is ours, so names are resolved, certificates judged and link-local addresses guarded as they are for
checks; httpx2 has the rules of URLs, redirects and credentials, httpcore2 those of HTTP/1.1. Each request has a
connection of its own: nothing is reused that may have died meanwhile, and nothing is sent twice.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import anyio
import httpcore2
import httpx2
from anyio.lowlevel import checkpoint

from watchbill.domain.credentials import TlsOptions
from watchbill.domain.results import Reason
from watchbill.fence import fenced
from watchbill.net.errors import peer_text
from watchbill.ports import Connection, HttpAnswer, HttpError, Network, NetworkError

MOST_REDIRECTS = 5
LAST_PORT = 65535
PIECE_BYTES = 8 * 1024
"""Handed to the parser at once, then others come to run: it takes up to 20 ms for so many in the smallest chunks."""
_ALPN = ("http/1.1",)


class HttpRequests:
    """A :class:`watchbill.ports.HttpClient`. Holds nothing open."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        timeout_seconds: float | None,
        idle_seconds: float | None = None,
        tls: TlsOptions | None = None,
        follow_redirects: bool = False,
        allow_link_local: bool = False,
    ) -> AsyncIterator[HttpAnswer]:
        patience = _Patience.of(timeout_seconds, idle_seconds)
        network = self._network if allow_link_local else fenced(self._network)
        transport = _Transport(network, tls or TlsOptions(), patience)
        async with AsyncExitStack() as stack:
            with _told_of(url):
                client = httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)
                stack.push_async_callback(client.aclose)
                sent = _encoded({**_defaults(), **headers})
                request = httpx2.Request(method, url, headers=sent, content=body or None)
                response = await client.send(request, stream=True)
                stack.push_async_callback(response.aclose)
                for _ in range(MOST_REDIRECTS if follow_redirects else 0):
                    if response.next_request is None:
                        break
                    await response.aclose()
                    response = await client.send(response.next_request, stream=True)
                    stack.push_async_callback(response.aclose)
                if follow_redirects and response.next_request is not None:
                    raise HttpError(Reason.REDIRECT, f"{_shown(url)}: more than {MOST_REDIRECTS} redirects")
                _require_plain(response)
            yield HttpAnswer(
                response.status_code,
                {name: response.headers[name] for name in response.headers},
                _Chunks(response, url),
            )


@cache
def _defaults() -> Mapping[str, str]:
    # No coding: what nobody has to undo cannot become a thousand times as much.
    return {
        "user-agent": f"Watchbill/{version('watchbill')}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
    }


def _encoded(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    """As an HTTP check sends them: what is not ASCII in a value goes as UTF-8."""
    return {name.lower().encode("ascii"): value.encode() for name, value in headers.items()}


def _require_plain(response: httpx2.Response) -> None:
    coding = response.headers.get("content-encoding", "identity").lower()
    if coding not in ("", "identity"):
        raise NetworkError(Reason.PROTOCOL, "the body came in a content coding, which was not asked for")


# --- what goes wrong ----------------------------------------------------------------------------------


@contextmanager
def _told_of(url: str) -> Iterator[None]:
    """:raises HttpError: for whatever the network, httpcore2 or httpx2 raise."""
    try:
        yield
    except NetworkError as error:
        raise HttpError(error.reason, f"{_shown(url)}: {error.message}") from error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpcore2.UnsupportedProtocol) as error:
        raise HttpError(Reason.PROTOCOL, f"{_shown(url)}: not a URL that can be requested") from error
    except (httpx2.HTTPError, httpcore2.ProtocolError, httpcore2.NetworkError) as error:
        said = str(error) or type(error).__name__
        raise HttpError(Reason.PROTOCOL, f"{_shown(url)}: {said[:200]}") from error


def _shown(url: str) -> str:
    """Scheme, host and port: what else is in a URL may be a secret."""
    try:
        parts = httpx2.URL(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except (httpx2.InvalidURL, ValueError):
        return "the url"
    host = f"[{parts.host}]" if ":" in parts.host else parts.host
    return f"{parts.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True)
class _Patience:
    """How long to wait: for everything until a moment, and for one answer of the other end."""

    until: float
    whole_seconds: float | None
    idle_seconds: float | None

    @staticmethod
    def of(whole_seconds: float | None, idle_seconds: float | None) -> _Patience:
        until = float("inf") if whole_seconds is None else anyio.current_time() + whole_seconds
        return _Patience(until, whole_seconds, idle_seconds)

    @contextmanager
    def waiting(self, doing: str, reason: Reason = Reason.TIMEOUT) -> Iterator[None]:
        """:raises NetworkError: with that reason, where it took too long."""
        now = anyio.current_time()
        silent = float("inf") if self.idle_seconds is None else now + self.idle_seconds
        late = now >= self.until  # what never waits is never cancelled
        if not late:
            with anyio.CancelScope(deadline=min(self.until, silent)) as scope:
                yield
            late = scope.cancelled_caught
        if late:
            told = (
                f"{self.idle_seconds:g} s of silence" if silent < self.until else f"{self.whole_seconds:g} s"
            )
            raise NetworkError(reason, f"timeout after {told} while {doing}")


# --- the connection below -----------------------------------------------------------------------------


class _Transport(httpx2.AsyncBaseTransport):
    """For one request and the redirects after it."""

    def __init__(self, network: Network, tls: TlsOptions, patience: _Patience) -> None:
        self._network = network
        self._tls = tls
        self._patience = patience
        self._home: httpcore2.Origin | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = httpcore2.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        if url.scheme not in (b"http", b"https") or not url.host or (url.port or 0) > LAST_PORT:
            raise httpx2.UnsupportedProtocol("only http and https, to a host and a port that there can be")
        self._home = self._home or url.origin
        if url.origin != self._home:
            self._leave_home()
        connection = httpcore2.AsyncHTTPConnection(
            url.origin,
            # Never shakes a hand; without it one is made that reads all root certificates (20 ms).
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            network_backend=_Backend(self._network, self._tls, self._patience),
        )
        try:
            answer = await connection.handle_async_request(
                httpcore2.Request(request.method, url, headers=request.headers.raw, content=request.stream)
            )
        except BaseException:
            await connection.aclose()  # which never suspends
            raise
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Body(answer, connection), extensions={}
        )

    def _leave_home(self) -> None:
        """Where a stranger leads: no client certificate, no way to metadata services."""
        self._network = fenced(self._network)
        self._tls = TlsOptions(ca_file=self._tls.ca_file, skip_verification=self._tls.skip_verification)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response, connection: httpcore2.AsyncHTTPConnection) -> None:
        self._answer = answer
        self._connection = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        try:
            await self._answer.aclose()
        finally:  # who is cancelled does not get further than a lock in there
            await self._connection.aclose()


class _Chunks:
    """The body, with the errors of this module."""

    def __init__(self, response: httpx2.Response, url: str) -> None:
        self._parts = response.aiter_raw()
        self._url = url

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        with _told_of(self._url):
            return await anext(self._parts)


class _Backend(httpcore2.AsyncNetworkBackend):
    """Connections of :class:`watchbill.ports.Network`, as httpcore2 wants them."""

    def __init__(self, network: Network, tls: TlsOptions, patience: _Patience) -> None:
        self._network = network
        self._tls = tls
        self._patience = patience

    async def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> _Stream:
        with self._patience.waiting(f"looking {host} up"):
            address = await self._network.resolve(host)
        with self._patience.waiting(f"connecting to {peer_text(address, port)}", Reason.CONNECT_TIMEOUT):
            connection = await self._network.connect(address, port)
        return _Stream(connection, peer_text(host, port), self._tls, self._patience)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, connection: Connection, peer: str, tls: TlsOptions, patience: _Patience) -> None:
        self._connection = connection
        self._peer = peer
        self._tls = tls
        self._patience = patience
        self._received = memoryview(b"")

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Stream:
        try:
            await self._shake_hands(server_hostname or "")
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def _shake_hands(self, host: str) -> None:
        with self._patience.waiting(f"shaking hands with {self._peer}"):
            session = await self._connection.start_tls(self._tls, server_name=host, alpn=_ALPN)
        if session.problem is not None and not self._tls.skip_verification:
            raise NetworkError(Reason.CERTIFICATE, session.problem)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await checkpoint()
        if not self._received:
            with self._patience.waiting(f"waiting for {self._peer}"):
                self._received = memoryview(await self._connection.receive())
        size = min(max_bytes, PIECE_BYTES)
        piece, self._received = bytes(self._received[:size]), self._received[size:]
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            with self._patience.waiting(f"sending to {self._peer}"):
                await self._connection.send(buffer)
        except NetworkError as error:
            if error.reason is not Reason.RESET:
                raise
            # A server may refuse a request before it has all of it: its answer is looked for.
            raise httpcore2.WriteError(error.message) from error

    async def aclose(self) -> None:
        await self._connection.close()

    def get_extra_info(self, info: str) -> Any:
        return None
