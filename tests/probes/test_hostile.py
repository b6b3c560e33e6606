"""Targets that misbehave: each costs its own check a verdict, or its timeout, and leaves nothing behind."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import Any

import anyio
import pytest

from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.servers import (
    Authority,
    Caller,
    Conversation,
    full_listener,
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


# --- what breaks the protocol -------------------------------------------------------------------------

HUNG_UP_IN_BODY = "the server hung up in the middle of the response's body"
BROKEN: list[tuple[str, bytes, Reason, str]] = [
    ("nothing", b"", Reason.RESET, "the server hung up before the response's head"),
    (
        "half a head",
        OK + b"Content-Le",
        Reason.RESET,
        "the server hung up in the middle of the response's head",
    ),
    ("half a body", response(b"half", length=1000), Reason.RESET, HUNG_UP_IN_BODY),
    (
        "half a chunk",
        OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\nhalf",
        Reason.RESET,
        HUNG_UP_IN_BODY,
    ),
    (
        "no last chunk",
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        Reason.RESET,
        HUNG_UP_IN_BODY,
    ),
    (
        "garbage",
        b"\x00\x01\xffgarbage\r\n\r\n",
        Reason.PROTOCOL,
        'it begins with "\\u0000\\u0001\ufffdgarbage\\r\\n\\r\\n"',
    ),
    (
        "another protocol",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        Reason.PROTOCOL,
        'it begins with "SSH-2.0-OpenSSH_9.2\\r\\n"',
    ),
    ("a page without a head", b"<html>hello</html>", Reason.PROTOCOL, 'it begins with "<html>hello</html>"'),
    (
        "a cousin of HTTP",
        b"RTSP/1.0 200 OK\r\n\r\n",
        Reason.PROTOCOL,
        'it begins with "RTSP/1.0 200 OK\\r\\n\\r\\n"',
    ),
    (
        "HTTP/2 in plain text",
        b"HTTP/2.0 200 OK\r\n\r\n",
        Reason.PROTOCOL,
        "the response is not HTTP/1.1 but 2.0",
    ),
    ("no status", b"HTTP/1.1 OK\r\n\r\n", Reason.PROTOCOL, "Invalid status code"),
    ("an unknown version", b"HTTP/7.3 200 OK\r\n\r\n", Reason.PROTOCOL, "Invalid HTTP version"),
    (
        "two lengths",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        Reason.PROTOCOL,
        "Duplicate Content-Length",
    ),
    (
        "a length and chunks",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Reason.PROTOCOL,
        "Transfer-Encoding can't be present with Content-Length",
    ),
    (
        "a length below zero",
        OK + b"Content-Length: -2\r\n\r\nok",
        Reason.PROTOCOL,
        "Invalid character in Content-Length",
    ),
    (
        "a length beyond numbers",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\nok",
        Reason.PROTOCOL,
        "Content-Length overflow",
    ),
    (
        "a chunk of no size",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        Reason.PROTOCOL,
        "Invalid character in chunk size",
    ),
    (
        "a chunk longer than it says",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        Reason.PROTOCOL,
        "Expected LF after chunk data",
    ),
    ("a header without a name", OK + b": value\r\n\r\n", Reason.PROTOCOL, "Invalid header token"),
    ("a NUL in a header", OK + b"X: a\x00b\r\n\r\n", Reason.PROTOCOL, "Invalid header value char"),
    (
        "a switch of protocols",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        Reason.PROTOCOL,
        "the server switched protocols without being asked",
    ),
    (
        "endless interim responses",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        Reason.PROTOCOL,
        "the server sent more than 20 interim (1xx) responses",
    ),
    (
        "many small headers",
        OK + b"".join(b"X-%d: 1\r\n" % number for number in range(201)) + b"\r\n",
        Reason.TOO_LARGE,
        "the response's headers must be at most 200 fields, are more",
    ),
    (
        "a header just over the limit",
        OK + b"X: " + b"x" * (64 * 1024) + b"\r\nContent-Length: 0\r\n\r\n",
        Reason.TOO_LARGE,
        "the response's headers must be at most 64 KiB, are more",
    ),
    (
        "one huge header",
        OK + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
        Reason.TOO_LARGE,
        "the response's headers must be at most 64 KiB, are more",
    ),
]


@pytest.mark.parametrize(
    ("answer", "reason", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
async def test_every_violation_has_its_reason(answer: bytes, reason: Reason, message: str) -> None:
    async with no_socket_left(), http_server(answer) as server, open_prober() as probe:
        with anyio.fail_after(20):
            result = await probe("http", url=server.url())
    [(seen, said)] = told(result)
    assert seen is reason
    assert said in {message, f"the response is not HTTP/1.1: {message}"}
    assert result.outcome is Outcome.FAILURE


# --- what never ends ----------------------------------------------------------------------------------


async def drip_headers(caller: Caller) -> None:
    await caller.request()
    await caller.say(OK)
    while True:
        await caller.say(b"X: y\r\n")
        await anyio.sleep(0.02)


async def flood_headers(caller: Caller) -> None:
    await caller.request()
    await caller.say(OK + b"X: ")
    while True:
        await caller.say(b"x" * 65_536)


async def drip_interim(caller: Caller) -> None:
    await caller.request()
    while True:
        await caller.say(b"HTTP/1.1 100 Continue\r\n\r\n")


async def stop_in_the_body(caller: Caller) -> None:
    await caller.request()
    await caller.say(response(b"half", length=1000))
    await hang(caller)


async def reset_in_the_body(caller: Caller) -> None:
    await caller.request()
    await caller.say(response(b"half", status="500 Oops", length=1000))
    await anyio.sleep(0.05)
    caller.reset()


async def endless_body(caller: Caller) -> None:
    await caller.request()
    await caller.say(OK + b"\r\n")
    while True:
        await caller.say(b"x" * 65_536)


async def endless_chunks(caller: Caller) -> None:
    await caller.request()
    await caller.say(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await caller.say(b"1\r\nx\r\n" * 1000)


async def never_reads(caller: Caller) -> None:
    await anyio.sleep_forever()


WAITING = (Reason.TIMEOUT, "timed out after 300ms while waiting for the response")
RECEIVING = (Reason.TIMEOUT, "timed out after 300ms while receiving the response")
ENDLESS: list[tuple[str, Conversation, dict[str, Any], list[tuple[Reason, str]]]] = [
    ("silence", hang, {}, [WAITING]),
    ("a request that is never read", never_reads, {"method": "POST", "body": "x" * 8_000_000}, [WAITING]),
    ("slow headers", drip_headers, {}, [WAITING]),
    (
        "a flood of headers",
        flood_headers,
        {"timeout": "10s", "interval": "10s"},
        [(Reason.TOO_LARGE, "the response's headers must be at most 64 KiB, are more")],
    ),
    (
        "interim responses",
        drip_interim,
        {"timeout": "10s", "interval": "10s"},
        [(Reason.PROTOCOL, "the server sent more than 20 interim (1xx) responses")],
    ),
    ("a body that stops", stop_in_the_body, {}, [RECEIVING]),
    (
        "a body that stops in a failing response",
        stop_in_the_body,
        {"expect": {"status": 404}},
        [RECEIVING, (Reason.STATUS, "status must be 404, got 200")],
    ),
    ("an endless body that nobody judges", endless_body, {"timeout": "10s"}, []),
    ("endless chunks that nobody judges", endless_chunks, {"timeout": "10s"}, []),
    (
        "an endless body to be judged",
        endless_body,
        {"timeout": "10s", "max_body_bytes": 100_000, "expect": {"body": {"contains": "y"}}},
        [(Reason.TOO_LARGE, "body must be at most 100000 bytes to be judged, is larger")],
    ),
]


@pytest.mark.parametrize(
    ("conversation", "declared", "failures"), [row[1:] for row in ENDLESS], ids=[row[0] for row in ENDLESS]
)
async def test_what_never_ends_costs_its_own_check_at_most_its_timeout(
    conversation: Conversation, declared: dict[str, Any], failures: list[tuple[Reason, str]]
) -> None:
    async with no_socket_left(), serving(conversation) as server, open_prober() as probe:
        with anyio.fail_after(20):
            result = await probe("http", **{"url": server.url(), "timeout": "300ms", **declared})
    assert told(result) == failures


async def test_a_reset_in_the_body_is_reported_beside_what_was_wrong_already() -> None:
    async with no_socket_left(), serving(reset_in_the_body) as server, open_prober() as probe:
        result = await probe("http", url=server.url())
    assert told(result) == [
        (Reason.RESET, f"connection reset by peer while talking to 127.0.0.1:{server.port}"),
        (Reason.STATUS, "status must be 2xx, got 500"),
    ]
    assert result.status_code == 500


async def test_a_connection_that_is_never_answered() -> None:
    with full_listener() as port:
        async with no_socket_left(), open_prober() as probe:
            with anyio.fail_after(10):
                result = await probe("http", url=f"http://127.0.0.1:{port}/", timeout="300ms")
    assert told(result) == [(Reason.CONNECT_TIMEOUT, "timed out after 300ms while connecting")]


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

BOMB = gzip.compress(gzip.compress(b"\0" * (200 << 20)))


def bomb(*codings: str) -> bytes:
    once = gzip.decompress(BOMB)
    body = BOMB if len(codings) == 2 else once
    return response(body, headers=[f"Content-Encoding: {', '.join(codings)}"])


@pytest.mark.parametrize("codings", [("gzip",), ("gzip", "gzip")])
async def test_a_gzip_bomb_is_unfolded_only_as_far_as_it_is_judged(codings: tuple[str, ...]) -> None:
    answer = bomb(*codings)
    async with no_socket_left(), http_server(answer) as server, open_prober() as probe:
        await probe("http", url=server.url())  # what is imported on the way is not part of it
        tracemalloc.start()
        unjudged = await probe("http", url=server.url())
        judged = await probe("http", url=server.url(), expect={"body": {"contains": "x"}})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert told(unjudged) == []
    assert told(judged) == [(Reason.TOO_LARGE, "body must be at most 1048576 bytes to be judged, is larger")]
    assert peak < 16 << 20


@pytest.mark.parametrize(
    ("coding", "message"),
    [
        ("gzip", "the body is not valid gzip: "),
        ("deflate", "the body is not valid deflate: "),
        (", ".join(["gzip"] * 500), "the body must have at most 2 content codings, has more"),
    ],
)
async def test_a_body_that_cannot_be_decoded(coding: str, message: str) -> None:
    answer = response(b"\xff\xfenot packed at all", headers=[f"Content-Encoding: {coding}"])
    async with no_socket_left(), http_server(answer) as server, open_prober() as probe:
        unjudged = await probe("http", url=server.url())
        judged = await probe("http", url=server.url(), expect={"body": {"contains": "x"}})
    assert told(unjudged) == []
    [(reason, said)] = told(judged)
    assert reason is Reason.PROTOCOL
    assert said.startswith(message)


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
