"""Targets that give back what is secret, each in its manner and in every spelling."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import cast
from urllib.parse import quote, quote_plus

import dns.message
import dns.rrset
from anyio.from_thread import start_blocking_portal

from tests.policy.canaries import spellings
from tests.policy.declared import Case
from tests.servers import Authority, Caller, response

MOST_TEXT = 250
LARGE = b"[" + b"1," * 100_000 + b"1]"


class Ports:
    """Sockets of loopback that are bound before anybody knows what will listen there."""

    def __init__(self) -> None:
        self.bound: dict[int, socket.socket] = {}

    def __call__(self) -> int:
        bound = socket.create_server(("127.0.0.1", 0), backlog=50)
        port: int = bound.getsockname()[1]
        self.bound[port] = bound
        return port


@contextmanager
def echoing(ports: Ports, cases: Mapping[int, Case], folder: Path) -> Iterator[None]:
    """Every port answers in the manner of its case, those without one with a page."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(_listening(ports, cases, Authority(folder))),
    ):
        yield


@asynccontextmanager
async def _listening(ports: Ports, cases: Mapping[int, Case], authority: Authority) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # clients that hang up are what this is for
    servers: list[asyncio.Server | asyncio.DatagramTransport] = []
    for port, bound in ports.bound.items():
        case = cases.get(port)
        tls = None
        if case is not None and _is_secure(case):
            names = (f"{case.value}.test",) if case.smooth else ()
            tls = authority.issue(*names, common_name=case.value).context()
        servers.append(await asyncio.start_server(partial(_converse, case), sock=bound, ssl=tls))
        if case is not None and case.declared["type"] == "dns":
            names_of = partial(_Names, case)
            servers.append((await loop.create_datagram_endpoint(names_of, ("127.0.0.1", port)))[0])
    try:
        yield
    finally:
        for server in servers:
            server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if getattr(task.get_coro(), "__name__", "") == _converse.__name__:
                task.cancel()
        for server in servers:
            if isinstance(server, asyncio.Server):
                await server.wait_closed()


def _is_secure(case: Case) -> bool:
    declared = case.declared
    return (
        case.manner == "certificate"
        or declared["type"] == "tls"
        or declared.get("transport") == "tls"
        or str(declared.get("url")).startswith("https:")
    )


async def _converse(case: Case | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    caller = Caller(reader, writer)
    try:
        if case is None:
            await caller.say(response(LARGE))
        elif case.declared["type"] == "tcp":
            await caller.say("\n".join(spellings(case.value)).encode())
        else:
            request = await caller.request()
            await caller.say(answer(case, request))
    except (OSError, EOFError, asyncio.IncompleteReadError):
        pass
    finally:
        with suppress(OSError):
            writer.close()


def answer(case: Case, request: bytes) -> bytes:
    value = case.value
    forms = spellings(value)
    one_line = [form.encode() for form in forms]
    name = value if case.smooth else "elsewhere"
    match case.manner:
        case "redirect":
            where = f"/{quote(value)}?{quote_plus(value)}#{quote(value)}"
            return response(status=f"302 {value}", headers=[f"Location: {where}"])
        case "astray":
            where = f"http://a:{quote(value, safe='')}@{name}.test/{quote(value)}?{quote_plus(value)}"
            return response(status="302 Found", headers=[f"Location: {where}", f"Set-Cookie: a={value}"])
        case "garbage":
            return b" ".join(one_line) + request
        case "json":
            body = b'{"a": ' + forms[5].encode() + b", " + forms[6].encode() + b": 1}"
            return response(
                body, status=f"299 {value}", headers=["Content-Type: application/json", f"X-Echo: {value}"]
            )
        case "codings":
            said = [
                f"Content-Encoding: {value}",
                f"Content-Type: {value}; charset={value}",
                f"Last-Modified: {value}",
            ]
            return response(one_line[0], headers=said)
        case _:
            body = b"\n".join([*one_line, request])
            head = b"HTTP/1.1 500 %s\r\nContent-Length: %d\r\n" % (value.encode(), len(body))
            echoed = b"".join(b"X-Echo: %s\r\n" % form for form in one_line)
            return head + echoed + b"Location-Hint: %s\r\n\r\n" % one_line[0] + body


class _Names(asyncio.DatagramProtocol):
    """Answers every question with the secret as text, behind an alias that holds it too."""

    def __init__(self, case: Case) -> None:
        self._case = case

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        told = dns.message.make_response(query)
        name = query.question[0].name
        alias = f"{self._case.value}.test." if self._case.smooth else "alias.test."
        told.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", alias))
        texts = [form.encode()[:MOST_TEXT] for form in spellings(self._case.value)]
        quoted = ['"' + "".join(f"\\{byte:03}" for byte in text) + '"' for text in texts]
        told.answer.append(dns.rrset.from_text(alias, 60, "IN", "TXT", *quoted))
        self._transport.sendto(told.to_wire(max_size=65_535), addr)
