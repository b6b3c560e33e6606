"""uvicorn on our own sockets, without its signal handlers, and with deadlines and limits of our own."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from itertools import count
from typing import Any

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from watchbill.domain.errors import ListenError
from watchbill.web.backup import MORE_TIME

MOST_CONNECTIONS = 100
LARGEST_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 10.0
RESPONSE_SECONDS = 60.0
KEEP_ALIVE_SECONDS = 15
GRACE_SECONDS = 2
BACKLOG = 512
_HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class Protocol(HttpToolsProtocol):
    """One connection. A client that is slow to ask or to read loses it; it never holds a place for long.

    uvicorn bounds neither the head of a request nor the time it takes, and answers 503 to everybody, a
    liveness probe too, once others have used up the limit; here the oldest connection gives way instead, one
    that waits for no answer first.
    """

    _order = count()
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _heads_begun = False
    age = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.age = next(self._order)
        self._arm(HEAD_SECONDS)
        if len(self.connections) > MOST_CONNECTIONS:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deadline is None:
            self._arm(HEAD_SECONDS)
        self._heads_begun = False
        super().data_received(data)
        # Of data in which a request ended, the part that belongs to the next head is not known; it is not counted.
        self._head_bytes = self._head_bytes + len(data) if self._in_head and not self._heads_begun else 0
        if self._head_bytes > LARGEST_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_HEAD_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._arm(RESPONSE_SECONDS)
        super().on_headers_complete()
        self.scope["extensions"] = {MORE_TIME: {"from_now": self._arm}}

    def on_message_complete(self) -> None:
        self._in_head, self._heads_begun = True, True
        super().on_message_complete()

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

    def give_way(self) -> None:
        self.connections.discard(self)
        self.transport.abort()

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, Protocol) and each is not self]
        if others:
            min(others, key=lambda each: (not each.idle, each.age)).give_way()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def serve_web(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    *,
    shutdown: anyio.Event,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on these sockets until ``shutdown``, or until cancelled; they are closed then.

    Requests in flight have two seconds to end. Started means listening.
    """
    server = uvicorn.Server(_config(app))
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


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
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


# --- addresses ----------------------------------------------------------------------------------------


def bind(addresses: Sequence[str]) -> list[socket.socket]:
    """Listening sockets for ``127.0.0.1:9876``, ``[::1]:9876``, ``localhost:9876`` or ``:9876`` (all interfaces).

    All or none.

    :raises ListenError: an address is not one, or cannot be taken; says what to do.
    """
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            bound.append(_bind(address))  # noqa: PERF401 - what was bound before a failure must be closed
    except ListenError:
        for taken in bound:
            taken.close()
        raise
    return bound


def _bind(address: str) -> socket.socket:
    host, port = split_address(address)
    family, where = _resolved(host, port, address)
    try:
        return _listening(family, where, dual=not host)
    except OSError as error:
        if (
            not host
            and family is socket.AF_INET6
            and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
        ):
            return _bind(f"0.0.0.0:{port}")
        raise ListenError(_remedy(address, error)) from error


def _listening(family: int, where: Any, *, dual: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        listener.setblocking(False)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _resolved(host: str, port: int, address: str) -> tuple[int, Any]:
    if not host:
        return (socket.AF_INET6, ("::", port)) if socket.has_ipv6 else (socket.AF_INET, ("0.0.0.0", port))  # noqa: S104
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ListenError(
            f"cannot listen on {address}: {host} is no address of this machine; "
            "use an IP address, or :PORT for all interfaces"
        ) from None
    return family, where


def split_address(address: str) -> tuple[str, int]:
    """Host (empty: all interfaces) and port.

    :raises ListenError: where it is no ``host:port``.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ListenError(
            f"cannot listen on {address!r}: write host:port, such as 127.0.0.1:9876, [::1]:9876 or :9876"
        )
    return host, int(port)


def _remedy(address: str, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            what = "another program listens there; stop it, or choose another port with --web.listen-address"
        case errno.EACCES | errno.EPERM:
            what = "that port needs privileges; choose one from 1024 on with --web.listen-address"
        case errno.EADDRNOTAVAIL:
            what = "no interface of this machine has that address; use one it has, or :PORT for all"
        case _:
            what = os.strerror(error.errno) if error.errno else str(error)
    return f"cannot listen on {address}: {what}"
