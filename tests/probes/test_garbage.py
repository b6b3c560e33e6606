"""What an HTTP or TCP probe leaves behind is freed at once, however it ended: a cycle would stay in memory until Python's collector
finds it, and for good where it was frozen while the probe waited."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.probes.support import open_prober
from tests.servers import LOOPBACK, Authority, Conversation, closed_port, hang, http_server, response, serving
from watchbill.domain.results import Outcome

pytestmark = pytest.mark.anyio

PROBES = 5
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
BODIES: dict[str, tuple[bytes | Conversation, dict[str, Any]]] = {
    "a length": (response(), {}),
    "chunks": (CHUNKED, {}),
    "the end of the connection": (b"HTTP/1.1 200 OK\r\n\r\nok", {}),
    "a body that is judged": (response(b"v42"), {"expect": {"body": {"contains": "v42"}}}),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", {}),
    "no answer": (hang, {"timeout": "20ms"}),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", {}),
    "a body longer than its limit": (
        response(b"v42" * 1000),
        {"max_body_bytes": 1024, "expect": {"body": {"contains": "v"}}},
    ),
    "no HTTP": (b"220 mail.example ESMTP\r\n", {}),
    "bad chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {}),
    "too much before the answer": (b"HTTP/1.1 100 Continue\r\n\r\n" * 30, {}),
    "a kept connection": (CHUNKED, {"connection": "reuse"}),
    "no answer on a connection to keep": (hang, {"timeout": "20ms", "connection": "reuse"}),
}


@pytest.fixture(params=[("asyncio", {"use_uvloop": True})], ids=["uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@contextmanager
def cycles() -> Iterator[list[str]]:
    """The types of our own objects that only the collector would have freed."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        kinds = (type(thing) for thing in gc.garbage)
        found += [kind.__qualname__ for kind in kinds if kind.__module__.startswith("watchbill.")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("name", BODIES)
async def test_an_http_probe_leaves_no_cycle(name: str) -> None:
    body, declared = BODIES[name]
    listening = http_server(body) if isinstance(body, bytes) else serving(body)
    async with listening as server, open_prober() as probe:
        url = server.url("/")
        await probe("http", url=url, **declared)
        with cycles() as found:
            for _ in range(PROBES):
                await probe("http", url=url, **declared)
    assert found == []


async def test_an_https_probe_leaves_no_cycle(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue(LOOPBACK)
    async with http_server(response(), tls=issued.context()) as server, open_prober() as probe:
        declared = {"url": server.url("/", scheme="https"), "tls": {"ca_file": authority.ca_file}}
        assert (await probe("http", **declared)).outcome is Outcome.SUCCESS
        with cycles() as found:
            for _ in range(PROBES):
                await probe("http", **declared)
    assert found == []


async def test_a_tcp_probe_leaves_no_cycle() -> None:
    async with http_server(response()) as server, open_prober() as probe:
        with cycles() as found:
            for _ in range(PROBES):
                await probe("tcp", host=LOOPBACK, port=server.port)
    assert found == []


async def test_a_name_server_that_is_gone_leaves_no_cycle() -> None:
    async with open_prober() as probe:
        declared = {"url": "http://shop.example/", "resolver": f"{LOOPBACK}:{closed_port()}"}
        assert (await probe("http", **declared)).outcome is Outcome.ERROR
        with cycles() as found:
            for _ in range(PROBES):
                await probe("http", **declared)
    assert found == []
