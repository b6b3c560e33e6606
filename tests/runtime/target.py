"""``python -m tests.runtime.target HTTP_PORT [DNS_PORT]``: a healthy target and a name server, as a process of its own.

So it can be stopped and made to go on, which no thread can, and no fault of the exporter's is also its own. It answers
every HTTP request with 200 and every question for an A record with 127.0.0.1. It says ``listening`` once it does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rrset

ROOT = Path(__file__).parents[2]
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class _Http(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)
        self._transport.close()


class _Dns(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        question = query.question[0]
        if question.rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "127.0.0.1"))
        self._transport.sendto(response.to_wire(), addr)


async def serve(http: int, dns_port: int | None) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Http, "127.0.0.1", http, backlog=4096)
    if dns_port is not None:
        await loop.create_datagram_endpoint(_Dns, ("127.0.0.1", dns_port))
    print("listening", flush=True)
    await server.serve_forever()


@contextmanager
def target(
    http: int, dns_port: int | None = None, *, prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """That process, listening, until the block ends."""
    ports = [str(port) for port in (http, dns_port) if port is not None]
    command = [*prefix, sys.executable, "-m", "tests.runtime.target", *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
