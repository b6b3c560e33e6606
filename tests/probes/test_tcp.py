"""TCP checks: what is sent, and what must come back."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.servers import (
    LOOPBACK,
    Caller,
    Conversation,
    closed_port,
    full_listener,
    hang,
    no_socket_left,
    serving,
)
from watchbill.domain.results import Outcome, Reason

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def greeting(*pieces: bytes, then: Conversation | None = None) -> Conversation:
    """Says the pieces one by one, then hangs up, or does what ``then`` does."""

    async def conversation(caller: Caller) -> None:
        for piece in pieces:
            await caller.say(piece)
            await anyio.sleep(0.001)
        if then is not None:
            await then(caller)

    return conversation


async def echo(caller: Caller) -> None:
    while data := await caller.reader.read(1024):
        await caller.say(b"you said " + data)


BANNER = greeting(b"220 mail", b".test ESMTP\r\n", then=hang)
MET: list[tuple[str, Conversation, dict[str, Any]]] = [
    ("a connection", hang, {}),
    ("a connection to one who hangs up", greeting(), {}),
    ("a banner", BANNER, {"expect": {"response": {"contains": "ESMTP"}}}),
    ("a banner in pieces that matches", BANNER, {"expect": {"response": {"matches": r"^220 [a-z.]+ ESMTP"}}}),
    ("an answer", echo, {"send": "PING\r\n", "expect": {"response": {"equals": "you said PING\r\n"}}}),
    ("an answer at the end", greeting(b"a", b"b", b"c"), {"expect": {"response": {"equals": "abc"}}}),
    ("what must not be said", BANNER, {"expect": {"response": {"contains": "220", "not_contains": "421"}}}),
    ("the latency", hang, {"expect": {"latency": "4s"}}),
]


@pytest.mark.parametrize(("conversation", "declared"), [row[1:] for row in MET], ids=[row[0] for row in MET])
async def test_a_service_that_meets_what_is_declared_is_a_success(
    conversation: Conversation, declared: dict[str, Any]
) -> None:
    async with no_socket_left(), serving(conversation) as server, open_prober() as probe:
        result = await probe("tcp", host=LOOPBACK, port=server.port, **declared)
    assert told(result) == []
    assert result.outcome is Outcome.SUCCESS
    assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)
    assert (result.facts["address"], result.facts["ip_protocol"]) == (LOOPBACK, 4)


NOT_MET: list[tuple[str, Conversation, dict[str, Any], list[tuple[Reason, str]]]] = [
    (
        "another banner and the end",
        greeting(b"421 busy\r\n"),
        {"response": {"contains": "220", "not_contains": "421"}},
        [
            (Reason.BODY, 'response must contain "220", got "421 busy\\r\\n"'),
            (Reason.BODY, 'response must not contain "421", but does'),
        ],
    ),
    (
        "nothing at all",
        greeting(),
        {"response": {"contains": "220"}},
        [(Reason.BODY, 'response must contain "220", got ""')],
    ),
    (
        "another banner and then silence",
        greeting(b"421 busy\r\n", then=hang),
        {"response": {"matches": "^220"}},
        [
            (Reason.TIMEOUT, "timed out after 200ms while waiting for the response"),
            (Reason.BODY, 'response must match "^220", got "421 busy\\r\\n"'),
        ],
    ),
    (
        "silence",
        hang,
        {"response": {"contains": "220"}},
        [
            (Reason.TIMEOUT, "timed out after 200ms while waiting for the response"),
            (Reason.BODY, 'response must contain "220", got ""'),
        ],
    ),
    (
        "more than enough",
        greeting(b"x" * 200_000, then=hang),
        {"response": {"contains": "220"}},
        [(Reason.BODY, f'response must contain "220", got "{"x" * 119}…"')],
    ),
]


@pytest.mark.parametrize(
    ("conversation", "expect", "failures"), [row[1:] for row in NOT_MET], ids=[row[0] for row in NOT_MET]
)
async def test_a_response_that_fails_says_what_was_expected_and_seen(
    conversation: Conversation, expect: dict[str, Any], failures: list[tuple[Reason, str]]
) -> None:
    async with no_socket_left(), serving(conversation) as server, open_prober() as probe:
        with anyio.fail_after(10):
            result = await probe(
                "tcp",
                host=LOOPBACK,
                port=server.port,
                expect=expect,
                timeout="200ms" if len(failures) else "5s",
            )
    assert told(result) == failures
    assert result.outcome is Outcome.FAILURE


async def test_too_slow() -> None:
    async with serving(hang) as server, open_prober() as probe:
        result = await probe("tcp", host=LOOPBACK, port=server.port, expect={"latency": "0.001ms"})
    took = f"{result.duration_seconds * 1000:.1f}ms"
    assert told(result) == [(Reason.LATENCY, f"latency must be at most 0.001ms, took {took}")]


async def test_a_response_in_very_many_pieces_ends_in_time() -> None:
    async def drip(caller: Caller) -> None:
        while True:
            await caller.say(b".")
            await anyio.sleep(0)

    async with no_socket_left(), serving(drip) as server, open_prober() as probe:
        with anyio.fail_after(20):
            result = await probe(
                "tcp", host=LOOPBACK, port=server.port, expect={"response": {"contains": "!"}}, timeout="10s"
            )
    assert result.reason is Reason.BODY
    assert result.facts["body_bytes"] <= 64 * 1024


async def test_a_service_that_resets() -> None:
    async def crash(caller: Caller) -> None:
        await caller.reader.read(10)
        caller.reset()

    async with no_socket_left(), serving(crash) as server, open_prober() as probe:
        result = await probe(
            "tcp", host=LOOPBACK, port=server.port, send="hello", expect={"response": {"contains": "x"}}
        )
    assert told(result) == [
        (Reason.RESET, f"connection reset by peer while talking to 127.0.0.1:{server.port}")
    ]


async def test_a_port_that_nobody_listens_on() -> None:
    port = closed_port()
    async with no_socket_left(), open_prober() as probe:
        result = await probe("tcp", host=LOOPBACK, port=port)
    assert told(result) == [(Reason.REFUSED, f"connection refused while connecting to 127.0.0.1:{port}")]
    assert result.outcome is Outcome.FAILURE


async def test_a_connection_that_is_never_answered() -> None:
    with full_listener() as port:
        async with no_socket_left(), open_prober() as probe:
            with anyio.fail_after(10):
                result = await probe("tcp", host=LOOPBACK, port=port, timeout="200ms")
    assert told(result) == [(Reason.CONNECT_TIMEOUT, "timed out after 200ms while connecting")]
    assert list(result.phases) == ["resolve", "connect"]


async def test_a_machine_without_a_route_is_our_own_fault() -> None:
    """TEST-NET-2's broadcast cousin: 255.255.255.255 can never be connected to, on any machine."""
    async with no_socket_left(), open_prober() as probe:
        result = await probe("tcp", host="255.255.255.255", port=80)
    assert told(result) == [(Reason.NETWORK, "network is unreachable while connecting to 255.255.255.255:80")]
    assert result.outcome is Outcome.ERROR


@pytest.mark.parametrize(
    ("rule", "judged_aside"), [({"matches": "y"}, True), ({"contains": "y"}, False)], ids=["pattern", "text"]
)
async def test_patterns_are_held_against_a_long_response_off_the_loop(
    rule: dict[str, Any], judged_aside: bool
) -> None:
    async with serving(greeting(b"x" * 9000)) as server, open_prober() as probe:
        result = await probe("tcp", host=LOOPBACK, port=server.port, expect={"response": rule})
        assert (probe.judged_aside > 0) is judged_aside
    assert [reason for reason, _ in told(result)] == [Reason.BODY]


async def test_a_response_that_takes_long_to_judge_is_told_with_what_was_judged_before_it() -> None:
    async with serving(greeting(b"x", b"x" * 9000, then=hang)) as server, open_prober() as probe:
        probe.judging_takes = 60
        result = await probe(
            "tcp", host=LOOPBACK, port=server.port, timeout="300ms", expect={"response": {"matches": "y"}}
        )
    assert told(result)[0][0] is Reason.TIMEOUT
    assert told(result)[1] == (Reason.BODY, 'response must match "y", got "x"')
