"""Clients that send broken requests, that ask slowly, and that never read; and what the exporter answered them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.fuzz.requests import SENTINEL, read_responses
from tests.servers import LOOPBACK

AT_ONCE, PARKED = 12, 48
"""Together fewer than the exporter's limit, so that none of them has to give way."""
QUIET_SECONDS, PATIENCE_SECONDS = 0.05, 0.25
POLICY = b"content-security-policy"


@dataclass
class Answers:
    """``silent``: the server waited for more, or hung up without a word; ``busy``: it was told to come again later, since
    history had enough questions to answer. ``problems`` must stay empty. ``resident``: the exporter's memory in bytes, when
    a tenth was sent and when all was."""

    sent: int = 0
    answered: int = 0
    silent: int = 0
    busy: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)

    def take(self, name: str, received: bytes) -> None:
        self.sent += 1
        if not received:
            self.silent += 1
            return
        try:
            responses = read_responses(received)
        except ValueError as error:
            self.problems.append(f"{name}: {error}")
            return
        self.answered += 1
        for response in responses:
            self.statuses[response.status] += 1
            if response.status == 503 and b"retry-after" in response.headers:
                self.busy += 1  # bounded by the claim
            elif response.status >= 500:
                self.problems.append(f"{name}: {response.status} {response.body[:200]!r}")
            if (
                POLICY not in response.headers
                or response.headers.get(b"x-content-type-options") != b"nosniff"
            ):
                self.problems.append(f"{name}: no policy on a {response.status}")


class Sender:
    """Sends one connection's worth of bytes each, a few at a time; who waits for an answer that does not come is parked."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._active, self._parked = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(PARKED)

    async def send_all(self, requests: Iterable[tuple[str, bytes]], answers: Answers) -> None:
        async with asyncio.TaskGroup() as group:
            for name, wire in requests:
                await self._active.acquire()
                group.create_task(self._send(name, wire, answers))

    async def _send(self, name: str, wire: bytes, answers: Answers) -> None:
        received = bytearray()
        active = True
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
            try:
                writer.write(wire + SENTINEL)
                if not await _read(reader, received, QUIET_SECONDS):
                    async with self._parked:
                        self._active.release()
                        active = False
                        await _read(reader, received, PATIENCE_SECONDS)
            finally:
                writer.transport.abort()
        finally:
            if active:
                self._active.release()
            answers.take(name, bytes(received))


async def _read(reader: asyncio.StreamReader, received: bytearray, seconds: float) -> bool:
    """Whether the end came in time; a reset is one."""
    try:
        async with asyncio.timeout(seconds):
            while data := await reader.read(1 << 16):
                received += data
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


# --- clients that hold a place ------------------------------------------------------------------------


@dataclass
class Crowd:
    """Clients that come again whenever they are thrown out. ``thrown_out`` counts how often."""

    connected: int = 0
    thrown_out: int = 0


@asynccontextmanager
async def crowd(port: int, *, slow: int, stuck: int) -> AsyncIterator[Crowd]:
    """``slow`` clients that send a head byte by byte, ``stuck`` ones that ask for metrics and read nothing."""
    found = Crowd()

    async def one(*, reads: bool, number: int) -> None:
        while True:
            await asyncio.sleep((number % 50) / 50)
            with suppress(OSError), _small_socket() as held:
                await asyncio.get_running_loop().sock_connect(held, (LOOPBACK, port))
                found.connected += 1
                await (_dawdle(held) if reads else _never_read(held))
            found.thrown_out += 1

    tasks = [asyncio.create_task(one(reads=True, number=number)) for number in range(slow)]
    tasks += [asyncio.create_task(one(reads=False, number=number)) for number in range(stuck)]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _small_socket() -> socket.socket:
    """One whose buffer is soon full, and whose end is an RST, so that nothing lingers."""
    held = socket.socket()
    held.setblocking(False)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return held


async def _dawdle(held: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(held, b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    while True:
        await loop.sock_sendall(held, b"x")
        await asyncio.sleep(0.5)


async def _never_read(held: socket.socket) -> None:
    """Asks again and again, until the server takes no more of it; then holds its place."""
    loop = asyncio.get_running_loop()
    while True:
        await loop.sock_sendall(held, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.5)
