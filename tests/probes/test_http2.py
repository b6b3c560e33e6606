"""HTTP checks over HTTP/2, against nginx; servers that misbehave frame by frame are in :mod:`tests.misbehaviour.frames`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hyperframe.frame import DataFrame, PingFrame, RstStreamFrame

from tests.http2_server import (
    OK_HEAD,
    Http2Caller,
    http2_server,
    installed,
    nginx,
    plain_alpn,
)
from tests.misbehaviour.frames import after_the_request, frames, head
from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, Prober, open_prober, told
from tests.proxies import http_proxy, socks_proxy, url_of
from tests.servers import Authority, hang, http_server, no_socket_left, path_of, response
from watchbill.domain.checks import parse_check
from watchbill.domain.results import Reason, Result

pytestmark = pytest.mark.anyio
needs_nginx = pytest.mark.skipif(not installed(), reason="nginx is not installed")


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@needs_nginx
async def test_nginx_speaks_http_2_where_it_is_offered(tmp_path: Path, authority: Authority) -> None:
    async with nginx(tmp_path, authority) as server, no_socket_left(), open_prober() as probe:
        tls = {"ca_file": server.ca_file}
        expect = {"body": {"equals": "Welcome"}, "headers": {"x-protocol": "HTTP/2.0"}}
        offered = await probe("http", url=server.url(), tls=tls, http2=True, expect=expect)
        not_offered = await probe("http", url=server.url(), tls=tls)
        head = await probe("http", url=server.url(), tls=tls, http2=True, method="HEAD")
    assert (told(offered), told(not_offered), told(head)) == ([], [], [])
    assert (offered.facts["http_version"], not_offered.facts["http_version"]) == ("2", "1.1")
    assert list(offered.phases) == ["resolve", "connect", "tls", "processing", "transfer"]
    assert abs(sum(offered.phases.values()) - offered.duration_seconds) < 2e-5
    assert offered.facts["certificate_names"] == ["localhost"]
    assert (offered.facts["body_bytes"], head.facts["body_bytes"]) == (7, 0)


@needs_nginx
async def test_bodies_redirects_and_limits_are_as_with_http_1(tmp_path: Path, authority: Authority) -> None:
    async with nginx(tmp_path, authority) as server, no_socket_left(), open_prober() as probe:
        common: dict[str, Any] = {"tls": {"ca_file": server.ca_file}, "http2": True}
        large = await probe("http", url=server.url("/large"), **common, max_body_bytes=4_000_000)
        cut = await probe("http", url=server.url("/large"), **common, expect={"body": {"contains": "y"}})
        away = await probe("http", url=server.url("/away"), **common)
        sent = await probe("http", url=server.url("/post"), **common, method="POST", body="z" * 500_000)
    assert (told(large), large.facts["body_bytes"]) == ([], 3_000_000)
    assert cut.reason is Reason.TOO_LARGE
    assert (told(away), away.facts["redirects"]) == ([], 1)
    assert (told(sent), sent.status_code) == ([], 200)


@needs_nginx
async def test_http_2_over_a_unix_socket_and_through_proxies(tmp_path: Path, authority: Authority) -> None:
    async with (
        nginx(tmp_path, authority) as server,
        http_proxy() as proxy,
        socks_proxy() as socks,
        no_socket_left(),
        open_prober() as probe,
    ):
        for declared in (
            {"unix_socket": server.socket},
            {"proxy": url_of(proxy, "http")},
            {"proxy": url_of(socks, "socks5h")},
        ):
            result = await probe(
                "http", url=server.url(), tls={"ca_file": server.ca_file}, http2=True, **declared
            )
            assert (told(result), result.facts["http_version"]) == ([], "2")


@needs_nginx
async def test_a_kept_connection_carries_one_request_after_the_other(
    tmp_path: Path, authority: Authority
) -> None:
    async with nginx(tmp_path, authority, requests=4) as server, no_socket_left(), open_prober() as probe:
        check = parse_check(
            {
                "id": "home",
                "type": "http",
                "url": server.url(),
                "tls": {"ca_file": server.ca_file},
                "http2": True,
                "connection": "reuse",
                "expect": {"body": {"equals": "Welcome"}},
            }
        )
        results = [await probe.executor.execute(check) for _ in range(10)]
    assert [told(result) for result in results] == [[]] * 10
    # nginx says goodbye after four requests.
    assert [result.facts["connection_reused"] for result in results].count(True) >= 5


@pytest.mark.parametrize("protocols", [("http/1.1",), ()], ids=["http/1.1 is chosen", "nothing is chosen"])
async def test_a_server_without_http_2_is_asked_in_http_1(
    authority: Authority, protocols: tuple[str, ...]
) -> None:
    shop = authority.issue("localhost")
    context = plain_alpn(shop, *protocols) if protocols else shop.context()
    async with http_server(response(), tls=context) as server, open_prober() as probe:
        result = await probe(
            "http",
            url=server.url(scheme="https", host="localhost"),
            tls={"ca_file": authority.ca_file},
            http2=True,
        )
    assert (told(result), result.facts["http_version"]) == ([], "1.1")


async def test_without_tls_it_is_http_1() -> None:
    async with http_server(response()) as server, open_prober() as probe:
        result = await probe("http", url=server.url("/a"), http2=True)
    assert (told(result), result.facts["http_version"]) == ([], "1.1")
    assert path_of(server.requests[0]) == "/a"


async def test_no_byte_is_sent_before_the_certificate_verifies(authority: Authority) -> None:
    async def never(caller: Http2Caller) -> None:
        await caller.request()

    async with http2_server(never, authority.issue("other.test")) as server, open_prober() as probe:
        result = await probe("http", url=server.url, tls={"ca_file": authority.ca_file}, http2=True)
    assert told(result) == [(Reason.CERTIFICATE, "certificate is not for localhost but for other.test")]
    assert all(caller.requests == [] for caller in server.callers)


async def test_what_is_sent_is_what_was_declared(authority: Authority) -> None:
    async def answer(caller: Http2Caller) -> None:
        await caller.request()
        await caller.answer(b"thanks")
        await hang(caller.caller)

    async with http2_server(answer, authority.issue("localhost")) as server, open_prober() as probe:
        result = await probe(
            "http",
            url=server.url + "a?b=c",
            method="PUT",
            body="content",
            headers={"X-Env": "prod", "Connection": "close", "TE": "gzip"},
            auth={"bearer": "t0ken-of-mine"},
            tls={"ca_file": authority.ca_file},
            http2=True,
            expect={"body": {"equals": "thanks"}},
        )
    assert told(result) == []
    [caller] = server.callers
    [request] = caller.requests
    assert caller.bodies == {1: b"content"}
    assert {name: request[name] for name in (":method", ":path", ":scheme", ":authority", "x-env")} == {
        ":method": "PUT",
        ":path": "/a?b=c",
        ":scheme": "https",
        ":authority": f"localhost:{server.port}",
        "x-env": "prod",
    }
    assert request["authorization"] == "Bearer t0ken-of-mine"
    assert not {"host", "connection", "te"} & request.keys()


@pytest.mark.parametrize("digits", [400, 5000])
async def test_a_length_of_any_length_is_no_crash(authority: Authority, digits: int) -> None:
    head_only = after_the_request(head([(":status", "200"), ("content-length", "9" * digits)], end=True))
    async with http2_server(head_only, authority.issue("localhost")) as server, open_prober() as probe:
        result = await asked(probe, server.url, authority, method="HEAD")
    assert (told(result), result.facts["content_length"]) == ([], -1)


async def test_a_head_or_an_unchanged_page_tells_of_a_body_it_does_not_have(authority: Authority) -> None:
    unchanged = after_the_request(head([(":status", "304"), ("content-length", "5")], end=True))
    async with http2_server(unchanged, authority.issue("localhost")) as server, open_prober() as probe:
        result = await asked(probe, server.url, authority, expect={"status": 304})
        of_head = await asked(probe, server.url, authority, expect={"status": 304}, method="HEAD")
    assert (told(result), told(of_head)) == ([], [])
    assert result.facts["content_length"] == 5


# --- floods -------------------------------------------------------------------------------------------


async def asked(probe: Prober, url: str, authority: Authority, **declared: Any) -> Result:
    return await probe(
        "http", url=url, tls={"ca_file": authority.ca_file}, http2=True, timeout="20s", **declared
    )


@pytest.mark.parametrize(
    "flood",
    [
        frames(lambda _: PingFrame(0, b"12345678"), times=20_000),
        frames(lambda s: DataFrame(s, b"x"), times=40_000),
    ],
    ids=["pings", "bytes"],
)
async def test_a_flood_lets_others_run_meanwhile(
    authority: Authority, flood: Callable[[Http2Caller], Awaitable[None]]
) -> None:
    """How often the others come to run while the flood is parsed, rather than how long that takes here."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(0)

    behaviour = after_the_request(head(OK_HEAD), flood)
    async with (
        http2_server(behaviour, authority.issue("localhost")) as server,
        open_prober() as probe,
        anyio.create_task_group() as group,
    ):
        group.start_soon(count)
        began = time.process_time()
        result = await asked(probe, server.url, authority)
        spent = time.process_time() - began
        group.cancel_scope.cancel()
    assert turns > 30, (spent, told(result), result.duration_seconds)


async def test_a_refused_stream_on_a_kept_connection_is_asked_anew(authority: Authority) -> None:
    async def converse(caller: Http2Caller) -> None:
        await caller.request()
        await caller.answer()
        await caller.request()
        await caller.say_frames(RstStreamFrame(caller.stream, error_code=7))
        await hang(caller.caller)

    async with (
        http2_server(converse, authority.issue("localhost")) as server,
        no_socket_left(),
        open_prober() as probe,
    ):
        check = parse_check(
            {
                "id": "home",
                "type": "http",
                "url": server.url,
                "tls": {"ca_file": authority.ca_file},
                "http2": True,
                "connection": "reuse",
            }
        )
        first = await probe.executor.execute(check)
        second = await probe.executor.execute(check)
    assert (told(first), told(second)) == ([], [])
    assert second.facts["connection_reopened"] is True
    assert len(server.callers) == 2
