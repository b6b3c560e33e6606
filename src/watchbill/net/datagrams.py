"""UDP to and from one address, as :class:`watchbill.ports.Datagrams`.

A plain socket that the event loop watches only while something is awaited: measured at 25 us for opening, asking,
hearing and closing, where the loop's own datagram endpoints take 35.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque

from watchbill.domain.results import Reason
from watchbill.net.errors import network_error, peer_text
from watchbill.net.sources import bind_to
from watchbill.net.turns import Turns
from watchbill.ports import NetworkError

MOST_WAITING = 64
# No datagram is larger. It is filled and copied from in one step, so one does for all sockets.
_ROOM = bytearray(1 << 16)
_SEEN = memoryview(_ROOM)


async def open_datagrams(address: str, port: int, source: str | None = None) -> DatagramPair:
    """:raises NetworkError: no socket could be had, or no route leads there."""
    peer = peer_text(address, port)
    try:
        endpoint = _connected_socket(address, port, source)
    except OSError as error:
        raise network_error(error, f"opening UDP to {peer}") from error
    return DatagramPair(endpoint, peer)


def _connected_socket(address: str, port: int, source: str | None) -> socket.socket:
    # Connected, so that the kernel drops the datagrams of strangers and reports "port unreachable".
    if ":" in address:
        family, _, _, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]  # an address of a link names its interface, which becomes a number
    else:
        family, place = socket.AF_INET, (address, port)
    endpoint = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if source is not None:
            bind_to(endpoint, source)
        endpoint.connect(place)
    except BaseException:
        endpoint.close()
        raise
    return endpoint


class DatagramPair:
    """At most 64 datagrams wait to be read; what comes on top is dropped, as UDP may."""

    def __init__(self, endpoint: socket.socket, peer: str) -> None:
        self._socket: socket.socket | None = endpoint
        self._descriptor = endpoint.fileno()
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._watched = False
        self._received: deque[bytes] = deque()
        self._turns = Turns()
        self._error: NetworkError | None = None
        self._reader: asyncio.Future[None] | None = None

    async def send(self, data: bytes) -> None:
        self._raise_reported()
        try:
            self._open_socket().send(data)
        except BlockingIOError as error:
            # The question never left this machine, so silence would say nothing of the target.
            raise NetworkError(
                Reason.INTERNAL, f"this machine's queue for sending to {self._peer} over UDP is full"
            ) from error
        except OSError as error:
            raise network_error(error, f"sending to {self._peer} over UDP", otherwise=Reason.RESET) from error

    async def receive(self) -> bytes:
        while not self._received:
            self._raise_reported()
            self._open_socket()
            self._watch()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
            await self._turns.taken()
        return self._received.popleft()

    async def close(self) -> None:
        endpoint, self._socket = self._socket, None
        if endpoint is None:
            return
        if self._watched:
            self._loop.remove_reader(self._descriptor)
        endpoint.close()
        self._wake()

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise NetworkError(Reason.RESET, f"the socket to {self._peer} is closed")
        return self._socket

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._loop.add_reader(self._descriptor, self._readable)

    def _readable(self) -> None:
        assert self._socket is not None  # noqa: S101 - closing ends the watch
        try:
            size = self._socket.recv_into(_ROOM)
        except BlockingIOError:
            return
        except OSError as error:
            self._report(error)
        else:
            if len(self._received) < MOST_WAITING:
                self._received.append(bytes(_SEEN[:size]))
        self._wake()

    def _report(self, error: OSError) -> None:
        self._error = network_error(error, f"talking to {self._peer} over UDP", otherwise=Reason.RESET)
        # uvloop has stopped watching a descriptor that is in error; who asks again is watched for anew.
        self._loop.remove_reader(self._descriptor)
        self._watched = False

    def _raise_reported(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise NetworkError(error.reason, error.message)  # itself it would be in a cycle with this frame

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
