"""Servers that answer as asked and cost little: ``python -m bench.servers KIND PORT``."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import cast

import uvloop

ANSWER = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"
"""The question's name, A, IN, a minute, 192.0.2.1."""


class Names(asyncio.DatagramProtocol):
    """Answers every question for an address with the same one, from bytes that were built before."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)  # uvloop's is not one by class

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
        self.transport.sendto(head + data[12:end] + ANSWER, addr)


async def names(port: int) -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(Names, local_addr=("127.0.0.1", port))


KINDS: dict[str, Callable[[int], Awaitable[None]]] = {"dns": names}


async def serve(kind: str, port: int) -> None:
    await KINDS[kind](port)
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
