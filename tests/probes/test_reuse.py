"""HTTP checks that keep their connection between probes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest

from tests.probes.fakes import a_certificate
from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, Prober, open_prober, told
from tests.proxies import http_proxy, url_of
from tests.servers import (
    Authority,
    Caller,
    Server,
    hang,
    no_socket_left,
    open_sockets,
    path_of,
    response,
    serving,
)
from watchbill.domain.checks import Http, parse_check
from watchbill.domain.messages import CheckDeleted, CheckRegistered
from watchbill.domain.results import Reason, Result
from watchbill.domain.units import SECOND
from watchbill.ports import TlsSession
from watchbill.probes.kept import Link
from watchbill.testing import START, FakeConnection

pytestmark = pytest.mark.anyio

REUSE = {"connection": "reuse"}
OK = response()


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def keeping(
    respond: bytes | Callable[[bytes], bytes] = OK, *, times: int = 1000, **options: Any
) -> AsyncIterator[Server]:
    """Answers that many requests on a connection, then closes it."""
    server: Server

    async def converse(caller: Caller) -> None:
        for _ in range(times):
            request = await caller.request()
            server.requests.append(request)
            await caller.say(respond if isinstance(respond, bytes) else respond(request))

    async with serving(converse, **options) as server:
        yield server


def a_check(url: str, **declared: Any) -> Http:
    check = parse_check({"id": "home", "type": "http", "url": url, **REUSE, **declared})
    assert isinstance(check, Http)
    return check


async def probed(probe: Prober, check: Http, times: int) -> list[Result]:
    return [await probe.executor.execute(check) for _ in range(times)]


def reused(results: list[Result]) -> list[bool]:
    return [result.facts["connection_reused"] for result in results]


async def test_a_connection_is_kept_between_probes_and_said_to_be() -> None:
    async with keeping() as server, no_socket_left(), open_prober() as probe:
        results = await probed(probe, a_check(server.url()), 4)
        assert len(probe.kept) == 1
    assert [told(result) for result in results] == [[]] * 4
    assert reused(results) == [False, True, True, True]
    assert server.accepted == 1
    assert [sorted(result.phases) for result in results[1:]] == [["processing", "transfer"]] * 3
    assert {result.facts["address"] for result in results} == {server.host}
    for result in results:
        assert abs(sum(result.phases.values()) - result.duration_seconds) < 2e-5


async def test_what_a_handshake_showed_stays_known(authority: Authority) -> None:
    shop = authority.issue("localhost")
    async with keeping(tls=shop.context()) as server, no_socket_left(), open_prober() as probe:
        check = a_check(
            server.url(scheme="https", host="localhost"),
            tls={"ca_file": authority.ca_file},
            expect={"certificate_valid_for": "1d"},
        )
        first, second = await probed(probe, check, 2)
    assert (told(first), told(second)) == ([], [])
    assert reused([first, second]) == [False, True]
    names = [name for name in first.facts if name.startswith(("certificate_", "tls_", "ssl"))]
    assert len(names) > 8
    assert [second.facts[name] for name in names] == [first.facts[name] for name in names]
    assert "tls" in first.phases
    assert "tls" not in second.phases


async def test_without_the_declaration_every_probe_connects() -> None:
    async with keeping() as server, open_prober() as probe:
        results = [await probe("http", url=server.url()) for _ in range(3)]
    assert server.accepted == 3
    assert all("connection_reused" not in result.facts for result in results)


async def test_a_connection_closed_while_it_was_idle_is_opened_anew() -> None:
    async with keeping(times=1) as server, no_socket_left(), open_prober() as probe:
        check = a_check(server.url())
        first = await probed(probe, check, 1)
        await until(lambda: len(probe.kept) == 1)
        await anyio.wait_all_tasks_blocked()
        second = await probed(probe, check, 1)
    assert [told(result) for result in first + second] == [[], []]
    assert server.accepted == 2


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not holds():
            await anyio.sleep(0.001)


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
async def test_a_connection_closed_by_the_request_itself_is_opened_anew_once(how: str, method: str) -> None:
    """The race of RFC 9112 §9.3.1: the server closes while the request is on its way."""
    server: Server

    async def converse(caller: Caller) -> None:
        server.requests.append(await caller.request())
        await caller.say(response() if method != "HEAD" else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        server.requests.append(await caller.request())
        if how == "reset":
            caller.reset()

    async with serving(converse) as server, no_socket_left(), open_prober() as probe:
        results = await probed(probe, a_check(server.url(), method=method), 2)
    assert [told(result) for result in results] == [[], []]
    assert results[1].facts["connection_reopened"] is True
    assert reused(results) == [False, False]
    assert (server.accepted, len(server.requests)) == (2, 3)


async def test_an_answer_that_breaks_off_on_a_kept_connection_is_the_targets_fault() -> None:
    async def converse(caller: Caller) -> None:
        await caller.request()
        await caller.say(response())
        await caller.request()
        await caller.say(b"HTTP/1.1 200 OK\r\nContent-")

    async with serving(converse) as server, no_socket_left(), open_prober() as probe:
        results = await probed(probe, a_check(server.url()), 2)
    assert told(results[1]) == [(Reason.RESET, "the server hung up in the middle of the response's head")]
    assert server.accepted == 1


async def test_a_target_that_closes_the_fresh_connection_too_is_down() -> None:
    accepted = 0

    async def converse(caller: Caller) -> None:
        nonlocal accepted
        accepted += 1
        await caller.request()
        if accepted == 1:
            await caller.say(response())
            await caller.request()

    async with serving(converse) as server, no_socket_left(), open_prober() as probe:
        results = await probed(probe, a_check(server.url()), 2)
    assert [result.reason for result in results] == [None, Reason.RESET]
    assert accepted == 2


async def test_silence_on_a_kept_connection_is_a_timeout_and_not_tried_again() -> None:
    async def converse(caller: Caller) -> None:
        await caller.request()
        await caller.say(response())
        await hang(caller)

    async with serving(converse) as server, no_socket_left(), open_prober() as probe:
        results = await probed(probe, a_check(server.url(), timeout="80ms"), 2)
        assert len(probe.kept) == 0
    assert [result.reason for result in results] == [None, Reason.TIMEOUT]
    assert server.accepted == 1


NOT_KEPT: list[tuple[str, bytes, dict[str, Any]]] = [
    ("a server that says close", response(headers=["Connection: keep-alive, Close"]), {}),
    ("HTTP/1.0", response().replace(b"HTTP/1.1", b"HTTP/1.0"), {}),
    ("a second response unasked", response() + response(), {}),
    ("bytes behind the response", response() + b"garbage", {}),
    ("a body that is longer than what is read", response(b"x" * 500_000), {"max_body_bytes": 1024}),
    ("bytes behind the head of a HEAD", response(), {"method": "HEAD"}),
]


@pytest.mark.parametrize(
    ("answer", "declared"), [case[1:] for case in NOT_KEPT], ids=[case[0] for case in NOT_KEPT]
)
async def test_a_connection_that_cannot_be_used_again_is_not_kept(
    answer: bytes, declared: dict[str, Any]
) -> None:
    async with keeping(answer) as server, no_socket_left(), open_prober() as probe:
        results = await probed(probe, a_check(server.url(), **declared), 2)
        assert len(probe.kept) == 0
    assert reused(results) == [False, False]


async def test_a_failing_expectation_keeps_the_connection() -> None:
    async with keeping(response(status="500 Oh")) as server, open_prober() as probe:
        results = await probed(probe, a_check(server.url()), 2)
    assert [result.reason for result in results] == [Reason.STATUS] * 2
    assert reused(results) == [False, True]


async def test_redirects_within_the_origin_go_over_the_one_connection() -> None:
    def answer(request: bytes) -> bytes:
        if path_of(request) == "/":
            return response(b"gone", status="302 Found", headers=["Location: /in"])
        return response(b"in")

    async with keeping(answer) as server, no_socket_left(), open_prober() as probe:
        check = a_check(server.url(), expect={"body": {"equals": "in"}})
        results = await probed(probe, check, 3)
    assert [told(result) for result in results] == [[]] * 3
    assert reused(results) == [False, True, True]
    assert server.accepted == 1


async def test_a_redirect_whose_body_stops_is_followed_over_a_new_connection() -> None:
    away = response(b"abc", status="302 Found", headers=["Location: /in"], length=10)

    def respond(request: bytes) -> bytes:
        return OK if path_of(request) == "/in" else away

    async with keeping(respond) as server, no_socket_left(), open_prober() as probe:
        [result] = await probed(probe, a_check(server.url()), 1)
        assert len(probe.kept) == 1
    assert told(result) == []
    assert server.accepted == 2


async def test_a_redirect_to_a_stranger_keeps_only_the_connection_to_home() -> None:
    async with keeping(response(b"there")) as stranger:
        away = response(status="302 Found", headers=[f"Location: {stranger.url('/', host='localhost')}"])
        async with keeping(away) as server, no_socket_left(), open_prober() as probe:
            results = await probed(probe, a_check(server.url()), 3)
    assert [told(result) for result in results] == [[]] * 3
    assert (server.accepted, stranger.accepted) == (1, 3)


async def test_a_connection_through_a_proxy_is_kept_too(authority: Authority) -> None:
    shop = authority.issue("localhost")
    async with (
        keeping(tls=shop.context()) as server,
        http_proxy() as proxy,
        no_socket_left(),
        open_prober() as probe,
    ):
        check = a_check(
            server.url(scheme="https", host="localhost"),
            tls={"ca_file": authority.ca_file},
            proxy=url_of(proxy, "http"),
        )
        results = await probed(probe, check, 3)
    assert [told(result) for result in results] == [[]] * 3
    assert (server.accepted, proxy.accepted) == (1, 1)
    assert results[2].facts["proxy"] == url_of(proxy, "http")


async def test_a_deleted_check_lets_go_of_its_connection() -> None:
    async with keeping() as server, no_socket_left(), open_prober() as probe:
        check = a_check(server.url())
        await probed(probe, check, 1)
        await probe.kept.on_deleted(CheckDeleted(check, at=0, location=""))
        assert len(probe.kept) == 0


async def test_a_changed_check_lets_go_of_its_connection() -> None:
    async with keeping() as server, no_socket_left(), open_prober() as probe:
        check, changed = a_check(server.url()), a_check(server.url(), labels={"a": "b"})
        await probed(probe, check, 1)
        await probe.kept.on_registered(CheckRegistered(changed, at=0, location="", previous=check))
        assert len(probe.kept) == 0
        # A probe of the old revision that was still running keeps its connection for nobody.
        await probed(probe, check, 1)
        results = await probed(probe, changed, 2)
        assert len(probe.kept) == 1
    assert reused(results) == [False, True]


@pytest.mark.parametrize("how", ["deleted", "changed"])
async def test_a_probe_that_ends_after_its_check_keeps_nothing(how: str) -> None:
    async def converse(caller: Caller) -> None:
        await caller.request()
        await (
            probe.kept.on_deleted(CheckDeleted(check, at=0, location=""))
            if how == "deleted"
            else probe.kept.on_registered(CheckRegistered(changed, at=0, location="", previous=check))
        )
        await caller.say(OK)
        await hang(caller)

    async with serving(converse) as server, no_socket_left(), open_prober() as probe:
        check = a_check(server.url())
        changed = a_check(server.url(), connection="new")
        assert told((await probed(probe, check, 1))[0]) == []
        assert len(probe.kept) == 0


async def test_descriptors_are_one_for_each_check_however_often_it_is_probed() -> None:
    async with keeping() as server, open_prober() as probe:
        checks = [
            parse_check({"id": f"home-{number}", "type": "http", "url": server.url(), **REUSE})
            for number in range(5)
        ]
        for check in checks:
            await probe.executor.execute(check)
        kept = open_sockets()
        for check in checks * 3:
            await probe.executor.execute(check)
        assert (open_sockets(), len(probe.kept)) == (kept, 5)


async def test_leaving_closes_what_is_kept_and_what_comes_late() -> None:
    async with keeping() as server, no_socket_left(), contextlib.AsyncExitStack() as stack:
        probe = await stack.enter_async_context(open_prober())
        check = a_check(server.url())
        await probed(probe, check, 1)
        async with probe.kept:
            pass
        results = await probed(probe, check, 1)
        assert (len(probe.kept), reused(results)) == (0, [False])


@pytest.mark.parametrize(
    ("age_seconds", "certificate_ends_in_seconds", "fresh"),
    [(10, 100, True), (3601, 10_000, False), (10, -1, False), (3599, None, True)],
)
def test_a_connection_is_kept_for_an_hour_and_as_long_as_its_certificate(
    age_seconds: int, certificate_ends_in_seconds: int | None, fresh: bool
) -> None:
    session = None
    if certificate_ends_in_seconds is not None:
        ends = START + certificate_ends_in_seconds * SECOND
        session = TlsSession("TLSv1.3", "x", (replace(a_certificate(), not_after=ends),), None)
    opened_at = START - age_seconds * SECOND
    link = Link((True, "shop.test", 443), FakeConnection(lambda _: b""), opened_at, session=session)
    assert link.is_fresh(START) is fresh
