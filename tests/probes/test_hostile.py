"""Targets that misbehave: each costs its own check a verdict, or its timeout, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import anyio
import httpx2
import pytest

from tests.misbehaviour import TABLE, time_past_the_timeout
from tests.misbehaviour.conversations import stop_in_the_body
from tests.misbehaviour.rows import Misbehaviour
from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.servers import (
    Authority,
    Caller,
    hang,
    http_server,
    no_more_descriptors,
    no_socket_left,
    open_sockets,
    response,
    serving,
)
from watchbill.domain.results import Outcome, Reason

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- the table ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
async def test_whatever_a_target_does_has_its_reason_and_leaves_nothing(
    row: Misbehaviour, caplog: pytest.LogCaptureFixture
) -> None:
    async with no_socket_left(), row.open() as declared, open_prober() as probe:
        with anyio.fail_after(20):
            result = await probe(row.check_type, **declared)
    assert result.reason is row.reason, result.message
    assert row.said in result.message
    assert result.outcome is (Outcome.FAILURE if row.reason else Outcome.SUCCESS)
    assert probe.executor.statistics().crashes == {}
    assert caplog.records == []


def test_no_two_rows_have_the_same_name() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)


FLOODS = [row for row in TABLE if any(word in row.name for word in ("flood", "endless", "bomb", "beyond"))]


@pytest.mark.parametrize("row", FLOODS, ids=[row.name for row in FLOODS])
async def test_no_flood_is_kept_in_memory(row: Misbehaviour) -> None:
    async with row.open() as declared, open_prober() as probe:
        with anyio.fail_after(20):
            await probe(row.check_type, **declared)  # what is made once is not part of it
            tracemalloc.start()
            await probe(row.check_type, **declared)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak < 16 << 20


async def test_the_table_tells_how_long_each_took_beside_its_timeout() -> None:
    rows = [row for row in TABLE if row.name in {"silence", "no status"}]
    told_of = [line async for line in time_past_the_timeout(rows)]
    assert [(name, reason) for name, reason, _ in told_of] == [
        ("silence", "timeout"),
        ("no status", "protocol"),
    ]
    assert told_of[0][2] >= 0 > told_of[1][2]


STOPS = (Reason.TIMEOUT, "timed out after 300ms while receiving the response")


async def test_a_body_that_stops_is_reported_beside_what_was_wrong_already() -> None:
    async with no_socket_left(), serving(stop_in_the_body) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), timeout="300ms", expect={"status": 404})
    assert told(result) == [STOPS, (Reason.STATUS, "status must be 404, got 200")]


async def reset_in_the_body(caller: Caller) -> None:
    await caller.request()
    await caller.say(response(b"half", status="500 Oops", length=1000))
    await asyncio.sleep(0.05)
    caller.reset()


async def test_a_reset_in_the_body_is_reported_beside_what_was_wrong_already() -> None:
    async with no_socket_left(), serving(reset_in_the_body) as server, open_prober() as probe:
        result = await probe("http", url=server.url())
    assert told(result) == [
        (Reason.RESET, f"connection reset by peer while talking to 127.0.0.1:{server.port}"),
        (Reason.STATUS, "status must be 2xx, got 500"),
    ]
    assert result.status_code == 500


async def test_hung_targets_hold_up_nobody_else() -> None:
    async with (
        no_socket_left(),
        serving(hang) as hung,
        http_server(response()) as good,
        open_prober() as probe,
    ):
        stuck: list[Any] = []

        async def wait_for_the_hung() -> None:
            stuck.append(await probe("http", url=hung.url(), timeout="30s"))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(wait_for_the_hung)
                while hung.accepted < 50:
                    await anyio.sleep(0.001)
                fine = [await probe("http", url=good.url()) for _ in range(20)]
                assert stuck == []
                group.cancel_scope.cancel()
    assert [told(result) for result in fine] == [[]] * 20


# --- what unfolds -------------------------------------------------------------------------------------


async def test_a_body_that_nobody_judges_is_not_unpacked() -> None:
    answer = response(b"\xff\xfenot packed at all", headers=["Content-Encoding: gzip"])
    async with no_socket_left(), http_server(answer) as server, open_prober() as probe:
        result = await probe("http", url=server.url())
    assert told(result) == []


@pytest.mark.parametrize(
    ("body", "expect", "reason"),
    [
        (b"[" * 1_000_000, {"json": {"$.a": 1}}, Reason.JSON),
        (b"9" * 100_000, {"json": {"$.a": 1}}, Reason.JSON),
        (b"a" * 1_000_000 + b"!", {"body": {"matches": "^(a+)+$"}}, Reason.BODY),
    ],
    ids=["deep JSON", "a huge number", "a regular expression that explodes"],
)
async def test_bodies_made_to_break_the_judge(body: bytes, expect: dict[str, Any], reason: Reason) -> None:
    async with http_server(response(body)) as server, open_prober() as probe:
        with anyio.fail_after(20):
            result = await probe("http", url=server.url(), expect=expect)
    assert result.reason is reason


async def test_a_charset_in_a_slow_codec_of_the_targets_choice_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # RFC 2231; 60 kB of punycode hold the loop for half a second.
    unread = property(lambda _: pytest.fail("it was read"))
    monkeypatch.setattr(httpx2.Response, "charset_encoding", unread)
    slow = "Content-Type: text/html; charset*=punycode''" + "9" * 60_000
    async with http_server(response(b"Welcome", headers=[slow])) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), expect={"body": {"contains": "Welcome"}})
    assert told(result) == []


async def test_text_of_a_target_cannot_break_a_line_of_ours() -> None:
    answer = response(b"a\x1b[31mred\r\n\x00\xe2\x80\xae" + b"z" * 5000)
    async with http_server(answer) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), expect={"body": {"equals": "x" * 5000}})
    [(_, message)] = told(result)
    assert message.isprintable()
    assert len(message) <= 500


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_second_response_behind_the_first_is_not_ours(method: str) -> None:
    other = response(b"other", status="500 Oops", headers=["X-A: other"])
    async with (
        http_server(response(b"ok" if method == "GET" else b"") + other) as server,
        open_prober() as probe,
    ):
        result = await probe(
            "http",
            url=server.url(),
            method=method,
            expect={
                "body": {"equals": "ok" if method == "GET" else ""},
                "headers": {"content-length": {"matches": "^[02]$"}},
            },
        )
    assert told(result) == []
    assert result.status_code == 200


async def test_a_coding_that_bounds_nothing_ends_with_the_connection() -> None:
    answer = OK + b"Transfer-Encoding: identity\r\n\r\nhello"
    async with http_server(answer) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), expect={"body": {"equals": "hello"}})
    assert told(result) == []


async def test_a_switch_of_protocols_that_was_asked_for_is_a_response() -> None:
    answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi"
    )
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    async with no_socket_left(), http_server(answer) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), headers=headers, expect={"status": 101})
    assert told(result) == []
    assert result.status_code == 101


# --- our own limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("check_type", ["http", "tcp", "tls"])
async def test_running_out_of_descriptors_is_never_the_targets_fault(check_type: str) -> None:
    async with http_server(response()) as server, open_prober() as probe:
        target = {"url": server.url()} if check_type == "http" else {"host": server.host, "port": server.port}
        with no_more_descriptors():
            result = await probe(check_type, **target)
    assert told(result) == [
        (Reason.DESCRIPTORS, f"too many open files while connecting to 127.0.0.1:{server.port}")
    ]
    assert result.outcome is Outcome.ERROR


async def test_a_probe_cancelled_at_any_moment_leaves_no_socket(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    issued = authority.issue("127.0.0.1")
    finished = 0
    async with (
        no_socket_left(),
        http_server(response(b"x" * 100_000), tls=issued.context()) as server,
        open_prober() as probe,
    ):
        baseline = open_sockets()
        for turns in range(60):
            async with anyio.create_task_group() as group:

                async def one() -> None:
                    nonlocal finished
                    await probe("http", url=server.url(scheme="https"), tls={"ca_file": authority.ca_file})
                    finished += 1

                group.start_soon(one)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        with anyio.fail_after(10):
            while open_sockets() > baseline:
                await anyio.sleep(0.005)
    assert finished < 60
