"""One way to misbehave: a server, the check that meets it, and what must be said of it."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from tests.servers import LOOPBACK, Authority, Caller, Conversation, TlsCaller, serving
from watchbill.domain.results import Reason

Open: TypeAlias = Callable[[], AbstractAsyncContextManager[dict[str, Any]]]
"""The server runs while it is open; what it yields is where the check goes."""
TIMEOUT_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """``reason`` and a part of its message; ``None`` where it is to be put up with."""

    name: str
    reason: Reason | None
    said: str
    open: Open
    check_type: str = "http"


def says(data: bytes) -> Conversation:
    """The same to everybody, whatever they ask."""

    async def conversation(caller: Caller) -> None:
        await caller.request()
        await caller.say(data)

    return conversation


def over_http(conversation: Conversation, **declared: Any) -> Open:
    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        async with serving(conversation) as server:
            yield {"url": server.url(), **declared}

    return opened


def at_a_port(conversation: Conversation, **declared: Any) -> Open:
    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        async with serving(conversation) as server:
            yield {"host": LOOPBACK, "port": server.port, **declared}

    return opened


def over_https(conversation: Conversation, **declared: Any) -> Open:
    """The conversation shakes hands itself, if it likes to."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        async with serving(conversation) as server:
            yield {"url": server.url(scheme="https"), "tls": {"skip_verification": True}, **declared}

    return opened


@cache
def certified() -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        return Authority(Path(folder)).issue(LOOPBACK).context()


async def asked_securely(caller: Caller) -> TlsCaller:
    """After the handshake, and after the request has been read."""
    secure = TlsCaller(caller, certified())
    await secure.run(secure.tls.do_handshake)
    await secure.run(lambda: secure.tls.read(65_536))
    return secure
