"""TCP: one attempt to one literal address, as a connection that can be upgraded to TLS.

An ``asyncio.Protocol`` puts what arrives into a bounded buffer: reading pauses at 64 KiB and goes on once the
buffer is empty. Closing aborts, so no socket outlives its probe, whatever the peer does; cancelling any call
leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

from anyio.lowlevel import checkpoint

from watchbill.domain.credentials import TlsOptions
from watchbill.domain.results import Reason
from watchbill.net.errors import network_error, peer_text
from watchbill.net.nested import NestedTls
from watchbill.net.tls import Contexts, TlsClient
from watchbill.net.turns import Turns
from watchbill.ports import NetworkError, TlsSession

MOST_AT_ONCE = 64 * 1024
RECORDS_AT_ONCE = 32
"""Then others come to run: a peer may put every byte into a TLS record of its own, and 64 KiB of such took a tenth of a second."""


async def open_stream(address: str, port: int, *, contexts: Contexts) -> Stream:
    """:raises NetworkError: the connection could not be made; says why."""
    loop = asyncio.get_running_loop()
    peer = peer_text(address, port)
    try:
        # A literal address, so no lookup happens here, and one address means one attempt.
        _, stream = await loop.create_connection(lambda: Stream(peer, contexts), address, port)
    except OSError as error:
        raise network_error(error, f"connecting to {peer}") from error
    return stream


class Stream(asyncio.Protocol):
    """A connection (:class:`watchbill.ports.Connection`). One task reads and one writes."""

    __slots__ = (
        "_buffered",
        "_contexts",
        "_ended",
        "_lost",
        "_peer",
        "_reader",
        "_reading_paused",
        "_received",
        "_records",
        "_tls",
        "_transport",
        "_turns",
        "_writer",
        "_writing_paused",
    )

    def __init__(self, peer: str, contexts: Contexts) -> None:
        self._peer = peer
        self._contexts = contexts
        self._transport: asyncio.Transport
        self._tls: TlsClient | NestedTls | None = None
        self._received: deque[bytes] = deque()
        self._turns = Turns()
        self._records = 0
        self._buffered = 0
        self._reading_paused = False
        self._ended = False
        self._lost: NetworkError | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._writing_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # TCP_NODELAY is set by asyncio and by uvloop for every TCP transport.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._buffered += len(data)
        if self._buffered >= MOST_AT_ONCE and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        return True  # we close, and only by aborting

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, OSError):
            lost = network_error(exc, f"talking to {self._peer}", otherwise=Reason.RESET)
            # The kernel gave up on an established connection, which is not a connection that was never made.
            given_up = lost.reason is Reason.CONNECT_TIMEOUT
            self._lost = NetworkError(Reason.RESET, lost.message) if given_up else lost
        else:
            self._ended = True
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        _wake(self._writer)

    async def send(self, data: bytes) -> None:
        if not self._open:
            raise self._gone()
        if self._tls is not None:
            data = self._tls.encrypt(data)
        await self._write(data)

    async def receive(self) -> bytes:
        if self._tls is None:
            return await self._read()
        self._records += 1
        if self._records % RECORDS_AT_ONCE == 0:
            await checkpoint()
        while (data := self._tls.decrypt(MOST_AT_ONCE)) is None:
            await self._answer(self._tls)
            incoming = await self._read()
            if not incoming:
                return b""  # no close_notify: HTTP knows by itself whether something is missing
            self._tls.feed(incoming)
        return data

    async def start_tls(
        self, options: TlsOptions, *, server_name: str, alpn: tuple[str, ...] = ()
    ) -> TlsSession:
        client = TlsClient(self._contexts.get(options, alpn), options.server_name or server_name)
        tls = client if self._tls is None else NestedTls(self._tls, client)
        try:
            await self._shake_hands(tls)
        except NetworkError as error:
            if error.reason is not Reason.RESET:
                raise
            raise NetworkError(Reason.TLS, f"{error.message} during the TLS handshake") from error
        self._tls = tls
        return tls.session()

    def is_idle(self) -> bool:
        if self._ended or not self._open:
            return False
        if self._tls is None:
            return not self._received
        try:
            while self._received:  # session tickets and the like are no answer
                self._tls.feed(self._take())
        except NetworkError:
            return False
        return self._tls.is_idle()

    async def close(self) -> None:
        if self._tls is not None and self._open and self._transport.get_write_buffer_size() == 0:
            self._transport.write(self._tls.close_notify())
            # uvloop writes at the end of the turn; the peer's answer is not waited for.
            asyncio.get_running_loop().call_soon(self._transport.abort)
            self._lost = self._gone()
        else:
            self._transport.abort()

    @property
    def _open(self) -> bool:
        return self._lost is None and not self._transport.is_closing()

    async def _shake_hands(self, tls: TlsClient | NestedTls) -> None:
        while not self._step(tls):
            await self._answer(tls)
            incoming = await self._read()
            if not incoming:
                raise NetworkError(Reason.TLS, f"{self._peer} hung up during the TLS handshake")
            tls.feed(incoming)
        await self._answer(tls)

    def _step(self, tls: TlsClient | NestedTls) -> bool:
        try:
            return tls.handshake()
        except NetworkError:
            if self._open and (alert := tls.outgoing()):
                self._transport.write(alert)
            raise

    async def _answer(self, tls: TlsClient | NestedTls) -> None:
        if outgoing := tls.outgoing():
            await self._write(outgoing)

    async def _write(self, data: bytes) -> None:
        if not self._open:
            raise self._gone()
        self._transport.write(data)
        while self._writing_paused:
            if not self._open:
                raise self._gone()
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None

    async def _read(self) -> bytes:
        while not self._received:
            if self._ended:
                return b""
            if self._lost is not None:
                raise self._gone()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
            await self._turns.taken()
        return self._take()

    def _take(self) -> bytes:
        data = self._received.popleft()
        if len(data) > MOST_AT_ONCE:
            self._received.appendleft(data[MOST_AT_ONCE:])
            data = data[:MOST_AT_ONCE]
        self._buffered -= len(data)
        if self._reading_paused and not self._received and self._open:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    def _gone(self) -> NetworkError:
        lost = self._lost
        if lost is None:
            return NetworkError(Reason.RESET, f"the connection to {self._peer} is closed")
        return NetworkError(lost.reason, lost.message)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
