"""Servers that answer as asked and cost little: ``python -m bench.servers KIND PORT``."""

from __future__ import annotations

import asyncio
import json
import selectors
import signal
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import cast

import uvloop

ANSWER = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"
"""The question's name, A, IN, a minute, 192.0.2.1."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DELAY_SECONDS = 0.02
HOST = "127.0.0.1"


class Names(asyncio.DatagramProtocol):
    """Answers every question for an address with the same one, from bytes that were built before."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)  # uvloop's is not one by class

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
        self.transport.sendto(head + data[12:end] + ANSWER, addr)


class Delayed(asyncio.Protocol):
    """Answers 20 ms after a request; ``took`` is how long it was in truth, of all connections."""

    took: list[float] = []  # noqa: RUF012 - one process, one list

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        asked = time.perf_counter()
        asyncio.get_running_loop().call_later(DELAY_SECONDS, self.answer, asked)

    def answer(self, asked: float) -> None:
        self.transport.write(OK)
        self.took.append(time.perf_counter() - asked)


async def names(port: int) -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(Names, local_addr=(HOST, port))


async def delayed(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Delayed, HOST, port, backlog=4096)

    def tell() -> None:
        print(json.dumps(Delayed.took[-100_000:]), flush=True)

    loop.add_signal_handler(signal.SIGINT, tell)


async def silent(port: int) -> None:
    """Accepts, reads, and never answers; over UDP as well."""
    loop = asyncio.get_running_loop()
    await loop.create_server(asyncio.Protocol, HOST, port, backlog=4096)
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(HOST, port))


KINDS: dict[str, Callable[[int], Awaitable[None]]] = {"dns": names, "delayed": delayed, "silent": silent}


def precise() -> asyncio.AbstractEventLoop:
    """A loop that waits to the microsecond: uvloop and epoll count milliseconds. It is for few connections."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def serve(kind: str, port: int) -> None:
    await KINDS[kind](port)
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    wanted, where = sys.argv[1], int(sys.argv[2])
    with asyncio.Runner(loop_factory=precise if wanted == "delayed" else uvloop.new_event_loop) as runner:
        runner.run(serve(wanted, where))
