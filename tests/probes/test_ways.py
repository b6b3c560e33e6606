"""Which addresses a check takes, whom it asks for them, and where it comes from."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dns_server import DnsServer, dns_server, rcode, records, silence
from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.servers import (
    LOOPBACK,
    Caller,
    full_listener,
    http_server,
    no_more_descriptors,
    no_socket_left,
    response,
    serving,
)
from watchbill.domain.results import Outcome, Reason

pytestmark = pytest.mark.anyio

NOT_OURS = "192.0.2.77"


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@asynccontextmanager
async def names(**scripts: Any) -> AsyncIterator[tuple[DnsServer, str]]:
    """A server that knows ``shop.test``, and how a check writes it down."""
    async with dns_server() as server:
        server.scripts = {("shop.test", record): script for record, script in scripts.items()}
        yield server, f"127.0.0.1:{server.port}"


KINDS: list[tuple[str, Callable[[str, int], dict[str, Any]]]] = [
    ("http", lambda host, port: {"url": f"http://{host}:{port}/"}),
    ("tcp", lambda host, port: {"host": host, "port": port}),
]


@pytest.mark.parametrize(("kind", "place"), KINDS, ids=[kind for kind, _ in KINDS])
async def test_the_declared_resolver_is_asked_instead_of_the_systems(kind: str, place: Any) -> None:
    async with (
        names(A=records("A", LOOPBACK)) as (server, resolver),
        http_server(response()) as target,
        no_socket_left(),
        open_prober() as probe,
    ):
        result = await probe(kind, **place("shop.test", target.port), resolver=resolver, ip_family=4)
    assert told(result) == []
    assert result.facts["address"] == LOOPBACK
    assert server.asked == [("udp", "shop.test", "A")]
    assert result.phases["resolve"] > 0


@pytest.mark.usefixtures("kernel_allows_icmp")
async def test_a_ping_asks_the_declared_resolver_too() -> None:
    async with names(A=records("A", "127.0.0.9")) as (server, resolver), open_prober() as probe:
        result = await probe("icmp", host="shop.test", resolver=resolver, ip_family=4)
    assert (told(result), result.facts["address"]) == ([], "127.0.0.9")
    assert server.asked == [("udp", "shop.test", "A")]


@pytest.mark.parametrize(
    ("script", "others", "outcome", "reason", "said"),
    [
        (rcode("NXDOMAIN"), silence, Outcome.FAILURE, Reason.DNS, "NXDOMAIN from 127.0.0.1"),
        (rcode("SERVFAIL"), silence, Outcome.FAILURE, Reason.DNS, "SERVFAIL from 127.0.0.1"),
        (silence, silence, Outcome.ERROR, Reason.RESOLVER, "127.0.0.1 is silent"),
        (silence, rcode("REFUSED"), Outcome.FAILURE, Reason.DNS, "no answer, while others get theirs"),
    ],
    ids=["no such name", "a failure", "silence", "silence about this name"],
)
async def test_what_the_declared_resolver_does_is_told(
    script: Any, others: Any, outcome: Outcome, reason: Reason, said: str
) -> None:
    async with names(A=script) as (server, resolver), open_prober() as probe:
        server.default = others
        result = await probe("tcp", host="shop.test", port=1, resolver=resolver, ip_family=4, timeout="400ms")
    assert (result.outcome, result.reason) == (outcome, reason)
    assert said in result.message


async def test_the_declared_resolver_knows_no_search_list_and_no_hosts_file_but_localhost() -> None:
    async with names() as (server, resolver), http_server(response()) as target, open_prober() as probe:
        home = await probe("http", url=f"http://localhost:{target.port}/", resolver=resolver)
        await probe("tcp", host=socket.gethostname(), port=1, resolver=resolver, ip_family=4)
    assert (told(home), home.facts["address"]) == ([], LOOPBACK)
    assert [name for _, name, _ in server.asked] == [socket.gethostname().lower()]


BOTH = {"A": records("A", LOOPBACK), "AAAA": records("AAAA", "::1")}
PREFERENCES: list[tuple[str, dict[str, Any], str, str]] = [
    ("both, IPv4 rather", BOTH, "prefer-4", LOOPBACK),
    ("both, IPv6 rather", BOTH, "prefer-6", "::1"),
    ("IPv6 alone, IPv4 rather", {"AAAA": records("AAAA", "::1")}, "prefer-4", "::1"),
    ("IPv4 alone, IPv6 rather", {"A": records("A", LOOPBACK)}, "prefer-6", LOOPBACK),
    ("a failure for IPv6, IPv6 rather", {**BOTH, "AAAA": rcode("SERVFAIL")}, "prefer-6", LOOPBACK),
]


@pytest.mark.parametrize(
    ("scripts", "choice", "address"),
    [case[1:] for case in PREFERENCES],
    ids=[case[0] for case in PREFERENCES],
)
async def test_a_preferred_family_gives_way_to_the_other_where_the_name_has_none_of_it(
    scripts: dict[str, Any], choice: str, address: str
) -> None:
    async with (
        names(**scripts) as (_, resolver),
        http_server(response(), host=address) as target,
        open_prober() as probe,
    ):
        url = f"http://shop.test:{target.port}/"
        result = await probe("http", url=url, resolver=resolver, ip_family=choice)
    assert (told(result), result.facts["address"]) == ([], address)
    assert target.accepted == 1


async def test_a_preferred_family_is_one_attempt_at_one_address() -> None:
    """A half-up host must not look up: nobody falls back after a refused connection."""
    async with names(**BOTH) as (_, resolver), http_server(response()) as target, open_prober() as probe:
        result = await probe(
            "http", url=f"http://shop.test:{target.port}/", resolver=resolver, ip_family="prefer-6"
        )
    assert (result.reason, target.accepted) == (Reason.REFUSED, 0)


@pytest.mark.parametrize(("host", "source"), [(LOOPBACK, "127.0.0.5"), ("::1", "::1")])
async def test_a_declared_source_is_where_the_connection_comes_from(host: str, source: str) -> None:
    seen: list[str] = []

    async def note(caller: Caller) -> None:
        seen.append(caller.writer.get_extra_info("peername")[0])
        await caller.request()
        await caller.say(response())

    bracketed = f"[{host}]" if ":" in host else host
    async with serving(note, host=host) as target, no_socket_left(), open_prober() as probe:
        for kind, place in KINDS:
            result = await probe(kind, **place(bracketed, target.port), source_address=source)
            assert told(result) == []
    assert set(seen) == {source}


async def test_a_declared_source_decides_the_family() -> None:
    async with (
        names(**BOTH) as (server, resolver),
        http_server(response()) as target,
        open_prober() as probe,
    ):
        url = f"http://shop.test:{target.port}/"
        result = await probe("http", url=url, resolver=resolver, source_address="127.0.0.5")
    assert (told(result), result.facts["address"]) == ([], LOOPBACK)
    assert [record for _, _, record in server.asked] == ["A"]


NOWHERE: list[tuple[str, dict[str, Any]]] = [
    ("http", {"url": "http://127.0.0.1:9/"}),
    ("tcp", {"host": LOOPBACK, "port": 9}),
    ("tls", {"host": LOOPBACK, "port": 9}),
    ("dns", {"name": "shop.test", "server": "127.0.0.1:9"}),
    ("dns", {"name": "shop.test", "server": "127.0.0.1:9", "transport": "tcp"}),
]


@pytest.mark.parametrize(("kind", "declared"), NOWHERE)
async def test_a_source_that_this_machine_does_not_have_is_our_own_sides_error(
    kind: str, declared: dict[str, Any]
) -> None:
    async with no_socket_left(), open_prober() as probe:
        result = await probe(kind, **declared, source_address=NOT_OURS)
    assert result.outcome is Outcome.ERROR
    message = f"this machine has no address {NOT_OURS} to probe from (source_address)"
    assert told(result) == [(Reason.NETWORK, message)]


@pytest.mark.usefixtures("kernel_allows_icmp")
async def test_a_ping_from_an_address_that_this_machine_does_not_have() -> None:
    async with no_socket_left(), open_prober() as probe:
        result = await probe("icmp", host=LOOPBACK, source_address=NOT_OURS)
        ours = await probe("icmp", host=LOOPBACK, source_address="127.0.0.5")
    assert (result.outcome, result.reason) == (Outcome.ERROR, Reason.NETWORK)
    assert told(ours) == []


async def test_a_question_over_udp_comes_from_the_declared_source() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((LOOPBACK, 0))
        async with open_prober() as probe:
            place = f"{LOOPBACK}:{server.getsockname()[1]}"
            await probe("dns", name="shop.test", server=place, source_address="127.0.0.5", timeout="50ms")
        server.setblocking(False)
        assert server.recvfrom(2048)[1][0] == "127.0.0.5"


async def test_a_source_whose_target_refuses_is_the_targets_fault() -> None:
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        async with no_socket_left(), open_prober() as probe:
            result = await probe(
                "tcp", host=LOOPBACK, port=bound.getsockname()[1], source_address="127.0.0.5"
            )
    assert (result.outcome, result.reason) == (Outcome.FAILURE, Reason.REFUSED)


async def test_a_deadline_while_connecting_from_a_declared_source_leaves_nothing_behind() -> None:
    with full_listener() as port:
        async with no_socket_left(), open_prober() as probe:
            result = await probe("tcp", host=LOOPBACK, port=port, source_address="127.0.0.5", timeout="50ms")
    assert (result.outcome, result.reason) == (Outcome.FAILURE, Reason.CONNECT_TIMEOUT)


async def test_no_descriptor_left_is_our_own_sides_error(tmp_path: Path) -> None:
    async with open_prober() as probe:
        await probe("tcp", host=LOOPBACK, port=9)
        with no_more_descriptors():
            sourced = await probe("tcp", host=LOOPBACK, port=9, source_address="127.0.0.5")
            unix = await probe("tcp", unix_socket=str(tmp_path / "app.sock"))
    assert (sourced.outcome, sourced.reason) == (Outcome.ERROR, Reason.DESCRIPTORS)
    assert (unix.outcome, unix.reason) == (Outcome.ERROR, Reason.DESCRIPTORS)
