"""HTTP checks over a socket in the file system."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.servers import Caller, header_of, no_socket_left, path_of, response
from watchbill.domain.results import Outcome, Reason

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@asynccontextmanager
async def app_at(path: Path, *answers: bytes) -> AsyncIterator[list[bytes]]:
    """Gives these answers, one for each connection, and remembers the requests."""
    requests: list[bytes] = []
    left = list(answers)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError, ConnectionError):
            requests.append(await Caller(reader, writer).request())
            writer.write(left.pop(0))
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(converse, path)
    try:
        yield requests
    finally:
        server.close()
        await server.wait_closed()


async def test_a_request_over_a_socket_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    async with app_at(path, response(b"Welcome")) as requests, no_socket_left(), open_prober() as probe:
        result = await probe(
            "http",
            url="http://app.invalid/health",
            unix_socket=str(path),
            expect={"body": {"equals": "Welcome"}},
        )
    assert told(result) == []
    assert (path_of(requests[0]), header_of(requests[0], "host")) == ("/health", "app.invalid")
    assert sorted(result.phases) == ["connect", "processing", "transfer"]
    assert abs(sum(result.phases.values()) - result.duration_seconds) < 2e-5
    assert result.facts["address"] == str(path)
    assert "ip_protocol" not in result.facts


@pytest.mark.parametrize("there", ["nothing", "a file", "a socket nobody listens on"])
async def test_where_nobody_listens_the_connection_is_refused(tmp_path: Path, there: str) -> None:
    path = tmp_path / "app.sock"
    if there == "a file":
        path.write_text("")
    elif there != "nothing":
        async with app_at(path):
            os.link(path, tmp_path / "left.sock")
        path = tmp_path / "left.sock"
    async with no_socket_left(), open_prober() as probe:
        result = await probe("http", url="http://app.invalid/", unix_socket=str(path))
    assert (result.outcome, result.reason) == (Outcome.FAILURE, Reason.REFUSED)
    assert str(path) in result.message


async def test_a_redirect_stays_on_the_socket_and_leads_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    within = response(status="302 Found", headers=["Location: /in"])
    away = response(status="302 Found", headers=["Location: http://127.0.0.1:1/"])
    async with app_at(path, within, response(), away) as requests, no_socket_left(), open_prober() as probe:
        first = await probe("http", url="http://app.invalid/", unix_socket=str(path))
        second = await probe("http", url="http://app.invalid/", unix_socket=str(path))
    assert told(first) == []
    assert [path_of(request) for request in requests] == ["/", "/in", "/"]
    message = "redirect to 127.0.0.1:1 refused: a unix socket leads only to the url's own origin"
    assert told(second) == [(Reason.REDIRECT, message)]


async def test_a_tcp_check_may_lead_to_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    async with app_at(path, b"+PONG\r\n"), no_socket_left(), open_prober() as probe:
        there = await probe(
            "tcp",
            unix_socket=str(path),
            send="PING\r\n\r\n",
            expect={"response": {"equals": "+PONG\r\n"}},
        )
        gone = await probe("tcp", unix_socket=str(tmp_path / "gone.sock"))
    assert told(there) == []
    assert sorted(there.phases) == ["connect", "processing"]
    assert there.facts["address"] == str(path)
    assert told(gone) == [(Reason.REFUSED, f"there is no socket at {tmp_path / 'gone.sock'}")]


async def test_a_full_queue_is_told_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(path)
        listener.listen(0)
        with suppress(BlockingIOError):
            for _ in range(10):
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                one.connect(path)
        async with no_socket_left(), open_prober() as probe:
            result = await probe("http", url="http://app.invalid/", unix_socket=path)
    message = f"nobody takes connections at {path}: as many as it queues are waiting"
    assert told(result) == [(Reason.REFUSED, message)]


async def test_a_silent_application_times_out(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    async with app_at(path, b""), no_socket_left(), open_prober() as probe:
        result = await probe("http", url="http://app.invalid/", unix_socket=str(path), timeout="5s")
    assert result.reason is Reason.RESET
