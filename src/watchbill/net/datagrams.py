"""UDP to and from one address, as :class:`watchbill.ports.Datagrams`."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import cast

from watchbill.domain.results import Reason
from watchbill.net.errors import network_error, peer_text
from watchbill.net.sources import bind_to
from watchbill.ports import NetworkError

MOST_WAITING = 64


async def open_datagrams(address: str, port: int, source: str | None = None) -> DatagramPair:
    """:raises NetworkError: no socket could be had, or no route leads there."""
    loop = asyncio.get_running_loop()
    peer = peer_text(address, port)
    pair = DatagramPair(peer)
    try:
        endpoint = _connected_socket(address, port, source)
        try:
            await loop.create_datagram_endpoint(lambda: pair, sock=endpoint)
        except BaseException:
            pair.abandon()  # uvloop leaves the socket open where it is cancelled
            endpoint.close()
            raise
    except OSError as error:
        raise network_error(error, f"opening UDP to {peer}") from error
    return pair


def _connected_socket(address: str, port: int, source: str | None) -> socket.socket:
    # Connected, so that the kernel drops the datagrams of strangers and reports "port unreachable".
    family, kind, protocol, _, place = socket.getaddrinfo(
        address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
    )[0]
    endpoint = socket.socket(family, kind, protocol)
    try:
        endpoint.setblocking(False)
        if source is not None:
            bind_to(endpoint, source)
        endpoint.connect(place)
    except BaseException:
        endpoint.close()
        raise
    return endpoint


class DatagramPair(asyncio.DatagramProtocol):
    """At most 64 datagrams wait to be read; what comes on top is dropped, as UDP may."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._transport: asyncio.DatagramTransport | None = None
        self._abandoned = False
        self._received: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._error: NetworkError | None = None
        self._closed = False
        self._reader: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        if self._abandoned:
            self._transport.abort()

    def abandon(self) -> None:
        """Nobody will use it: close, also where it is still about to be opened."""
        self._abandoned = True
        if self._transport is not None:
            self._transport.abort()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if len(self._received) < MOST_WAITING:
            self._received.append(data)
        self._wake()

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, OSError):
            self._error = network_error(exc, f"talking to {self._peer} over UDP", otherwise=Reason.RESET)
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._wake()

    async def send(self, data: bytes) -> None:
        self._raise_reported()
        assert self._transport is not None  # noqa: S101 - whoever sends has awaited open_datagrams
        try:
            self._transport.sendto(data)
        except OSError as error:
            raise network_error(error, f"sending to {self._peer} over UDP", otherwise=Reason.RESET) from error

    async def receive(self) -> bytes:
        while not self._received:
            self._raise_reported()
            if self._closed:
                raise NetworkError(Reason.RESET, f"the socket to {self._peer} is closed")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._received.popleft()

    async def close(self) -> None:
        self.abandon()

    def _raise_reported(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
