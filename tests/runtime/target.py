"""``python -m tests.runtime.target``: a healthy HTTP server and a name server, as a process of its own.

So it can be stopped and made to go on, which no thread can, and no fault of the exporter's is also its own. It answers
each HTTP request with 200 after a while and each question for an A record with one address. It says ``listening`` once
it does.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

ROOT = Path(__file__).parents[2]
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class _Http(asyncio.Protocol):
    def __init__(self, after_seconds: float) -> None:
        self._after_seconds = after_seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._after_seconds, self._answer)

    def _answer(self) -> None:
        self._transport.write(_ANSWER)
        self._transport.close()


class _Dns(asyncio.DatagramProtocol):
    """SIGUSR1 makes it lose what it is asked, SIGHUP fail as one without a way out does, SIGUSR2 answer again."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._does = "answer"
        for number, does in ((signal.SIGUSR1, "lose"), (signal.SIGHUP, "fail"), (signal.SIGUSR2, "answer")):
            asyncio.get_running_loop().add_signal_handler(number, setattr, self, "_does", does)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._does == "lose":
            return
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        question = query.question[0]
        if self._does == "fail":
            response.set_rcode(dns.rcode.SERVFAIL)
        elif question.rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", self._address))
        self._transport.sendto(response.to_wire(), addr)


async def serve(asked: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    if asked.http is not None:
        await loop.create_server(
            partial(_Http, asked.after), asked.host, asked.http, backlog=4096, start_serving=True
        )
    if asked.dns is not None:
        await loop.create_datagram_endpoint(partial(_Dns, asked.address), (asked.host, asked.dns))
    print("listening", flush=True)
    await asyncio.Event().wait()


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.runtime.target", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where it listens")
    parser.add_argument("--http", type=int, help="the port of the HTTP server")
    parser.add_argument("--after", type=float, default=0.0, help="seconds from a request to its answer")
    parser.add_argument("--dns", type=int, help="the port of the name server")
    parser.add_argument("--address", default="127.0.0.1", help="what it answers")
    return parser


@contextmanager
def target(*options: str, prefix: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """That process, listening, until the block ends."""
    command = [*prefix, sys.executable, "-m", "tests.runtime.target", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(serve(arguments().parse_args()))
