"""uvicorn on our own sockets, without its signal handlers, and with deadlines and limits of our own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from watchbill.web.addresses import BACKLOG
from watchbill.web.backup import MORE_TIME
from watchbill.web.encrypted import BrokenError, Encrypted, HandshakeError
from watchbill.web.guard import PLAIN_HEADERS
from watchbill.web.live import Live

MOST_CONNECTIONS = 100
LARGEST_HEAD_BYTES = 64 << 10
"""All of a request but its body: also what surrounds chunks, and trailers."""
LARGEST_BODY_BYTES = 1 << 20
"""What is read of a body that nobody asked for, or that is more than the application takes."""
MOST_FIELDS = 100
MOST_PIECES = 4096
MOST_PIPELINED = 16
HEAD_SECONDS = 10.0
RESPONSE_SECONDS = 60.0
KEEP_ALIVE_SECONDS = 15
GRACE_SECONDS = 2


_BAD_REQUEST = "400 Bad Request"
_HEAD_TOO_LARGE = "431 Request Header Fields Too Large"
_BODY_TOO_LARGE = "413 Content Too Large"
NOT_ENCRYPTED = "This port speaks HTTPS, and this request came in the clear: ask again with https://.\n"


def _refusal(status: str, headers: Mapping[str, str], body: str = "") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += ["Content-Type: text/plain"] if body else []
    lines += [f"{name}: {value}" for name, value in {**PLAIN_HEADERS, **headers}.items()]
    return "\r\n".join([*lines, "", body]).encode("latin-1")


class _RefusedError(Exception):
    """Ends the parsing of a request from within."""


class Protocol(HttpToolsProtocol):
    """One connection. A client that is slow to ask or to read loses it; it never holds a place for long.

    uvicorn bounds neither the head of a request nor the time it takes nor how many requests lie behind each other, and
    answers 503 to everybody, a liveness probe too, once others have used up the limit; here the oldest connection gives
    way instead, one that waits for no answer first. What one read brings is parsed at a stretch, so it is bounded in
    what costs time: fields, pieces of a body, requests.

    Where the web configuration asks for TLS, the transport that uvicorn sees is that side of it. The deadlines are the same:
    that of a head begins with the connection, so a handshake counts towards it.
    """

    _order = count()
    _deadline: asyncio.TimerHandle | None = None
    _refusal = _BAD_REQUEST
    _head_bytes = 0
    _body_bytes = 0
    _pieces = 0
    _message_ended = False
    _answering: RequestResponseCycle | None = None
    """Of several requests that lie behind each other the one whose turn it is; ``cycle`` is the last of them."""
    age = 0
    _encrypted: Encrypted | None = None
    _overdue = False
    _refused = False
    _leaving = False

    def __init__(self, *args: Any, live: Live, **how: Any) -> None:
        super().__init__(*args, **how)
        self._live = live

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if self._live.context is not None:
            self._encrypted = Encrypted(self._live.context, transport, self._read_on)
            transport = self._encrypted
        super().connection_made(transport)
        self.age = next(self._order)
        self._arm(HEAD_SECONDS)
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)
        # A request holds its connection (MORE_TIME). That would be a ring, with up to 64 KB in it, which only a full
        # collection finds; and that is rare (watchbill.heap).
        self._answering = self.cycle = self.scope = None  # type: ignore[assignment]
        if self._encrypted is not None and not self._encrypted.established and not self._refused:
            self._live.handshake_failures["timeout" if self._overdue else "gone"] += 1
        if self._encrypted is not None:
            self._encrypted.let_go()
            self._encrypted = None

    def data_received(self, data: bytes) -> None:
        if self._encrypted is None:
            self._plain_received(data)
        elif not self._refused:
            try:
                self._encrypted.feed(data)
            except HandshakeError as error:
                self._refuse_handshake(self._encrypted, str(error))
            else:
                self._read()

    def _read(self) -> None:
        """Hand on what can be decrypted, until a request asks to wait."""
        encrypted = self._encrypted
        if encrypted is None:
            return
        try:
            for part in encrypted.decrypted():
                self._plain_received(part)
        except BrokenError:
            self.transport.abort()
            return
        if encrypted.ended:  # it may wait for the answer to what it asked
            self.make_anew()

    def _read_on(self) -> None:
        self.loop.call_soon(self._read)

    def _refuse_handshake(self, encrypted: Encrypted, reason: str) -> None:
        self._refused = True
        self._live.handshake_failures[reason] += 1
        if reason == "plaintext":
            answer = _refusal(_BAD_REQUEST, self._live.settings.headers, NOT_ENCRYPTED)
            encrypted.write_in_the_clear(answer)
        encrypted.close()

    def _plain_received(self, data: bytes) -> None:
        if self._deadline is None:
            self._arm(HEAD_SECONDS)
        self._message_ended = False
        self._head_bytes += len(data)
        super().data_received(data)
        # Of data in which a request ended, the part that belongs to the next head is not known; it is not counted.
        if self._message_ended:
            self._head_bytes = 0
        if self._head_bytes > LARGEST_HEAD_BYTES and not self.transport.is_closing():
            self._refusal = _HEAD_TOO_LARGE
            self.send_400_response("")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MOST_FIELDS:
            self._refuse(_HEAD_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
            self._refuse(_BAD_REQUEST)
        self._body_bytes = self._pieces = 0
        if self.idle:  # else the deadline is that of the request that is being answered
            self._arm(RESPONSE_SECONDS)
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False
        self.scope["extensions"] = {MORE_TIME: {"from_now": self._arm}}

    def on_body(self, body: bytes) -> None:
        self._head_bytes -= len(body)
        self._body_bytes += len(body)
        self._pieces += 1
        if self._body_bytes > LARGEST_BODY_BYTES or self._pieces > MOST_PIECES:
            self._refuse(_BODY_TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._message_ended = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what came and hang up. Into a response that has begun nothing is written."""
        if self._answering is None or self.idle or not self._answering.response_started:
            self.transport.write(_refusal(self._refusal, self._live.settings.headers))
        self.transport.close()

    def _refuse(self, refusal: str) -> None:
        self._refusal = refusal
        raise _RefusedError

    def on_response_complete(self) -> None:
        # What is written is not yet read: the deadline goes on for a client that leaves it lying.
        if not self.transport.get_write_buffer_size():
            self._disarm()
        if self.pipeline:
            self._arm(RESPONSE_SECONDS)
        super().on_response_complete()

    @property
    def idle(self) -> bool:
        """No request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def shutdown(self) -> None:
        """The process ends. Who has connected and not asked yet may ask once, for as long as others have to end."""
        if self._answering is None:
            self._leaving = True
        else:
            super().shutdown()

    def make_anew(self) -> None:
        """No more requests over this connection; what is being answered is answered first."""
        super().shutdown()

    def give_way(self) -> None:
        self.connections.discard(self)
        self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, Protocol) and each is not self]
        if others:
            min(others, key=lambda each: (not each.idle, each.age)).give_way()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._overdue = True
        self.transport.abort()

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def serve_web(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    *,
    shutdown: anyio.Event,
    live: Live | None = None,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on these sockets until ``shutdown``, or until cancelled; they are closed then.

    Requests in flight have two seconds to end. Started means listening. ``live`` says whether to encrypt, and how.
    """
    live = live or Live()
    server = uvicorn.Server(_config(app, live))
    live.on_new_context = partial(_have_made_anew, server)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup(sockets=list(sockets))
    task_status.started()
    try:
        while not shutdown.is_set():
            await server.on_tick(0)  # refreshes the Date header
            with anyio.move_on_after(1):
                await shutdown.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await server.shutdown(sockets=list(sockets))
            for connection in list(server.server_state.connections):
                connection.transport.abort()


def _have_made_anew(server: uvicorn.Server) -> None:
    """Idle connections are closed, the others once they have their answer."""
    for connection in list(server.server_state.connections):
        if isinstance(connection, Protocol):
            connection.make_anew()


def _config(app: ASGIApp, live: Live) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(Protocol, live=live),  # type: ignore[arg-type] # called, never derived from
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # what fails in the application is logged there, with its traceback
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
