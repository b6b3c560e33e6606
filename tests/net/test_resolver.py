"""The stub resolver against DNS servers on loopback."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from tests.dns_server import (
    Script,
    broken,
    dns_server,
    for_another_name,
    only_a_stub,
    preceded_by,
    rcode,
    records,
    sent_as_a_question,
    silence,
    truncated_over_udp,
    with_another_id,
)
from tests.net.resolving import (
    GLOBAL_V6,
    LINK_LOCAL_V6,
    ONLY_V4,
    UNIQUE_LOCAL_V6,
    Machine,
    refused,
    resolved,
)
from watchbill.domain.reach import IpFamily
from watchbill.domain.results import Reason

pytestmark = pytest.mark.anyio


async def test_a_name_becomes_the_first_address_that_the_server_lists(tmp_path: Path) -> None:
    address, server = await resolved(
        tmp_path, {("shop.test", "A"): records("A", "192.0.2.3", "192.0.2.1")}, "shop.test"
    )
    assert address == "192.0.2.3"
    assert server.asked == [("udp", "shop.test", "A")], "a machine without IPv6 asks for AAAA only in need"


async def test_nothing_is_cached(tmp_path: Path) -> None:
    async with dns_server() as server:
        resolver = Machine(tmp_path, ["127.0.0.1"], server.port).resolver()
        server.scripts = {("shop.test", "A"): records("A", "192.0.2.3")}
        assert await resolver.resolve("shop.test") == "192.0.2.3"
        server.scripts = {("shop.test", "A"): records("A", "192.0.2.4")}
        assert await resolver.resolve("shop.test") == "192.0.2.4"


async def test_ids_are_random(tmp_path: Path) -> None:
    async with dns_server() as server:
        server.scripts = {("shop.test", "A"): records("A", "192.0.2.3")}
        resolver = Machine(tmp_path, ["127.0.0.1"], server.port).resolver()
        for _ in range(8):
            await resolver.resolve("shop.test")
    assert len({query.id for query in server.queries}) > 4


BOTH: dict[tuple[str, str], Script] = {
    ("shop.test", "A"): records("A", "192.0.2.3"),
    ("shop.test", "AAAA"): records("AAAA", "2001:db8::3"),
}
LOCAL_TARGET: dict[tuple[str, str], Script] = {
    ("shop.test", "A"): records("A", "192.0.2.3"),
    ("shop.test", "AAAA"): records("AAAA", "fd00::3"),
}
ONLY_V6: dict[tuple[str, str], Script] = {("shop.test", "AAAA"): records("AAAA", "2001:db8::3")}
A_AND_FAILING: dict[tuple[str, str], Script] = {**ONLY_V4, ("shop.test", "AAAA"): rcode("SERVFAIL")}


@pytest.mark.parametrize(
    ("interfaces", "scripts", "family", "address"),
    [
        (GLOBAL_V6, BOTH, None, "2001:db8::3"),
        (GLOBAL_V6, BOTH, 4, "192.0.2.3"),
        (GLOBAL_V6, ONLY_V4, None, "192.0.2.3"),
        (GLOBAL_V6, A_AND_FAILING, None, "192.0.2.3"),
        (GLOBAL_V6, LOCAL_TARGET, None, "192.0.2.3"),
        (UNIQUE_LOCAL_V6, LOCAL_TARGET, None, "fd00::3"),
        (UNIQUE_LOCAL_V6, BOTH, None, "192.0.2.3"),
        (LINK_LOCAL_V6, BOTH, None, "192.0.2.3"),
        ("", BOTH, None, "192.0.2.3"),
        ("", BOTH, 6, "2001:db8::3"),
        ("", ONLY_V6, None, "2001:db8::3"),
    ],
)
async def test_ipv6_is_preferred_where_this_machine_has_it(
    tmp_path: Path,
    interfaces: str,
    scripts: dict[tuple[str, str], Script],
    family: IpFamily | None,
    address: str,
) -> None:
    async with dns_server() as server:
        server.scripts = scripts
        machine = Machine(tmp_path, ["127.0.0.1"], server.port)
        machine.interfaces.write_text(interfaces)
        assert await machine.resolve("shop.test", family) == address
    asked = {record for _, name, record in server.asked if name == "shop.test"}
    assert asked <= ({"A", "AAAA"} if family is None else {"AAAA" if family == 6 else "A"})


@pytest.mark.parametrize(
    ("script", "address"),
    [
        (records("A", "192.0.2.5", cnames=[("shop.test", "a.test"), ("a.test", "b.test")]), "192.0.2.5"),
        (
            records(
                "A",
                "192.0.2.8",
                cnames=[(f"{'shop' if n == 0 else n}.test", f"{n + 1}.test") for n in range(8)],
            ),
            "192.0.2.8",
        ),
        (records("A", *(f"10.1.{n // 250}.{n % 250}" for n in range(1000))), "10.1.0.0"),
        (truncated_over_udp(records("A", "192.0.2.6")), "192.0.2.6"),
        (preceded_by(with_another_id, then=records("A", "192.0.2.7")), "192.0.2.7"),
        (preceded_by(for_another_name, only_a_stub, then=records("A", "192.0.2.7")), "192.0.2.7"),
        (preceded_by(sent_as_a_question, then=records("A", "192.0.2.7")), "192.0.2.7"),
    ],
    ids=["cnames", "eight cnames", "1000 answers", "truncated", "wrong id", "spoofed", "echoed query"],
)
async def test_one_address_comes_out_of_every_honest_answer(
    tmp_path: Path, script: Script, address: str
) -> None:
    assert (await resolved(tmp_path, {("shop.test", "A"): script}, "shop.test"))[0] == address


async def test_a_truncated_answer_is_asked_for_again_over_tcp(tmp_path: Path) -> None:
    _, server = await resolved(
        tmp_path, {("shop.test", "A"): truncated_over_udp(records("A", "192.0.2.6"))}, "shop.test"
    )
    assert [transport for transport, _, _ in server.asked] == ["udp", "tcp"]


async def test_names_that_are_not_ascii_are_asked_for_as_idna(tmp_path: Path) -> None:
    address, server = await resolved(
        tmp_path, {("xn--bcher-kva.test", "A"): records("A", "192.0.2.9")}, "Bücher.test"
    )
    assert address == "192.0.2.9"
    assert server.asked == [("udp", "xn--bcher-kva.test", "A")]


LOOP = records("A", cnames=[("shop.test", "a.test"), ("a.test", "shop.test")])
NINE = records(
    "A", "192.0.2.8", cnames=[(f"{'shop' if n == 0 else n}.test", f"{n + 1}.test") for n in range(9)]
)


@pytest.mark.parametrize(
    ("scripts", "family", "message"),
    [
        ({}, None, "shop.test has no address (NXDOMAIN from 127.0.0.1)"),
        ({}, 4, "shop.test has no IPv4 address (NXDOMAIN from 127.0.0.1)"),
        (
            {("shop.test", "MX"): silence},
            None,
            "shop.test has no address (no A record from 127.0.0.1; no AAAA record from 127.0.0.1)",
        ),
        (ONLY_V4, 6, "shop.test has no IPv6 address (no AAAA record from 127.0.0.1)"),
        (
            {("shop.test", "A"): records("A", cnames=[("shop.test", "gone.test")])},
            4,
            "shop.test has no IPv4 address (no A record from 127.0.0.1)",
        ),
        ({("shop.test", "A"): rcode("SERVFAIL")}, None, "shop.test cannot be resolved (SERVFAIL from 127.0.0.1)"),
        ({("shop.test", "A"): rcode("REFUSED")}, None, "shop.test cannot be resolved (REFUSED from 127.0.0.1)"),
        ({("shop.test", "A"): LOOP}, None, "shop.test leads through more than 8 CNAMEs"),
        ({("shop.test", "A"): NINE}, None, "shop.test leads through more than 8 CNAMEs"),
    ],
    ids=[
        "nxdomain", "nxdomain of a family", "no data", "no data of a family", "dangling", "servfail", "refused",
        "loop", "nine cnames",
    ],
)  # fmt: skip
async def test_a_server_that_answers_without_an_address_speaks_of_the_target(
    tmp_path: Path, scripts: dict[tuple[str, str], Script], family: IpFamily | None, message: str
) -> None:
    assert await refused(tmp_path, scripts, "shop.test", family) == (Reason.DNS, message)


async def test_a_malformed_answer_is_told_as_such(tmp_path: Path) -> None:
    cut = broken(lambda packet: packet[:-2], records("A", "192.0.2.1"))
    reason, message = await refused(tmp_path, {("shop.test", "A"): cut}, "shop.test")
    assert reason is Reason.DNS
    assert message.startswith("shop.test cannot be resolved (malformed DNS answer: ")


async def test_an_answer_too_large_to_be_read_is_told_as_such(tmp_path: Path) -> None:
    many = records("A", *(f"10.1.{n // 250}.{n % 250}" for n in range(1025)))
    reason, message = await refused(tmp_path, {("shop.test", "A"): many}, "shop.test")
    assert reason is Reason.DNS
    assert message == "shop.test cannot be resolved (a DNS answer must hold at most 1024 records, has 1025)"


# --- several servers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        rcode("SERVFAIL"),
        rcode("REFUSED"),
        broken(lambda packet: packet[:-1], records("A", "192.0.2.1")),
    ],
)
async def test_the_second_server_is_asked_where_the_first_does_not_help(
    tmp_path: Path, first: Script
) -> None:
    async with dns_server("127.0.0.1") as one, dns_server("127.0.0.2", one.port) as two:
        one.default = first
        two.scripts = {("shop.test", "A"): records("A", "192.0.2.5")}
        machine = Machine(tmp_path, ["127.0.0.1", "127.0.0.2"], one.port)
        assert await machine.resolve("shop.test") == "192.0.2.5"
    assert len(one.asked) == len(two.asked) == 1


async def test_a_server_that_knows_of_no_such_name_is_believed(tmp_path: Path) -> None:
    async with dns_server("127.0.0.1") as one, dns_server("127.0.0.2", one.port) as two:
        two.scripts = {("shop.test", "A"): records("A", "192.0.2.5")}
        reason, message = await Machine(tmp_path, ["127.0.0.1", "127.0.0.2"], one.port).refusal("shop.test")
    assert (reason, message) == (Reason.DNS, "shop.test has no address (NXDOMAIN from 127.0.0.1)")
    assert two.asked == []


async def test_where_nobody_listens_it_is_our_own_side_that_fails(tmp_path: Path) -> None:
    async with dns_server() as server:
        port = server.port
    reason, message = await Machine(tmp_path, ["127.0.0.1"], port).refusal("shop.test")
    assert reason is Reason.RESOLVER
    assert message.startswith("no name server answers (connection refused")


# --- being cancelled ----------------------------------------------------------------------------------


async def test_a_cancelled_lookup_ends_and_leaves_no_socket(tmp_path: Path) -> None:
    async with dns_server() as server:
        server.default = silence
        resolver = Machine(tmp_path, ["127.0.0.1"], server.port).resolver()
        before = len(os.listdir("/proc/self/fd"))
        async with anyio.create_task_group() as group:
            group.start_soon(resolver.resolve, "shop.test")
            while not server.asked:
                await anyio.sleep(0.005)
            group.cancel_scope.cancel()
        await anyio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) == before


# --- the search list ----------------------------------------------------------------------------------

SEARCH = "search one.test two.test\noptions ndots:{ndots}\n"


@pytest.mark.parametrize(
    ("host", "ndots", "asked"),
    [
        ("shop", 1, ["shop.one.test", "shop.two.test"]),
        ("shop.", 1, ["shop"]),
        ("shop.eu", 1, ["shop.eu", "shop.eu.one.test", "shop.eu.two.test"]),
        ("shop.eu", 2, ["shop.eu.one.test", "shop.eu.two.test"]),
        ("shop.eu.", 2, ["shop.eu"]),
    ],
)
async def test_the_search_list_is_followed_in_order(
    tmp_path: Path, host: str, ndots: int, asked: list[str]
) -> None:
    async with dns_server() as server:
        server.scripts = {(asked[-1], "A"): records("A", "192.0.2.4")}
        machine = Machine(tmp_path, ["127.0.0.1"], server.port)
        machine.resolv_conf.write_text(machine.resolv_conf.read_text() + SEARCH.format(ndots=ndots))
        assert await machine.resolve(host) == "192.0.2.4"
    assert [name for _, name, _ in server.asked] == asked


async def test_a_failing_search_domain_does_not_hide_the_name(tmp_path: Path) -> None:
    async with dns_server() as server:
        server.scripts = {
            ("shop.one.test", "A"): rcode("SERVFAIL"),
            ("shop.two.test", "A"): rcode("SERVFAIL"),
            ("shop", "A"): records("A", "192.0.2.4"),
        }
        machine = Machine(tmp_path, ["127.0.0.1"], server.port)
        machine.resolv_conf.write_text(machine.resolv_conf.read_text() + SEARCH.format(ndots=1))
        assert await machine.resolve("shop") == "192.0.2.4"


async def test_a_name_that_no_domain_has_is_told_as_it_was_declared(tmp_path: Path) -> None:
    async with dns_server() as server:
        machine = Machine(tmp_path, ["127.0.0.1"], server.port)
        machine.resolv_conf.write_text(machine.resolv_conf.read_text() + SEARCH.format(ndots=1))
        reason, message = await machine.refusal("shop")
    assert (reason, message) == (Reason.DNS, "shop has no address (NXDOMAIN from 127.0.0.1)")
    assert [name for _, name, _ in server.asked] == ["shop.one.test", "shop.two.test", "shop"]
