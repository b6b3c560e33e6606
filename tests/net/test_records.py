"""All records of a name, from real servers on loopback: what is an answer, and what is none."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.dns_server import Script, broken, dns_server, rcode, records, silence, truncated_over_udp
from tests.net.resolving import Machine
from watchbill.domain.results import Reason
from watchbill.net import open_network
from watchbill.ports import NetworkError

pytestmark = pytest.mark.anyio
Scripts = dict[tuple[str, str], Script]


class Asked:
    """One lookup of one machine: what it found, and the names it asked for."""

    def __init__(self, folder: Path, scripts: Scripts, *, conf: str = "", default: str = "NXDOMAIN") -> None:
        self.folder, self.scripts, self.conf, self.default = folder, scripts, conf, default
        self.names: list[str] = []
        self.over: set[str] = set()

    async def records(self, name: str, record: str) -> tuple[str, ...]:
        async with dns_server() as server:
            server.scripts, server.default = self.scripts, rcode(self.default)
            machine = Machine(self.folder, ["127.0.0.1"], server.port)
            machine.resolv_conf.write_text(f"nameserver 127.0.0.1\noptions timeout:1 attempts:1\n{self.conf}")
            try:
                with anyio.fail_after(30):
                    return await machine.resolver().records(name, record)
            finally:
                self.over = {transport for transport, *_ in server.asked}
                self.names = [asked for _, asked, kind in server.asked if kind == record]

    async def refusal(self, name: str, record: str) -> NetworkError:
        with pytest.raises(NetworkError) as caught:
            await self.records(name, record)
        return caught.value


async def test_all_records_are_told_in_full(tmp_path: Path) -> None:
    srv = ["10 60 8080 one.test.", "10 40 8081 two.test."]
    asked = Asked(tmp_path, {("_http._tcp.shop.test", "SRV"): records("SRV", *srv)})
    assert sorted(await asked.records("_http._tcp.shop.test", "SRV")) == sorted(srv)


async def test_aliases_are_followed(tmp_path: Path) -> None:
    chain = [("www.shop.test", "edge.shop.test"), ("edge.shop.test", "eu.shop.test")]
    asked = Asked(tmp_path, {("www.shop.test", "A"): records("A", "192.0.2.1", "192.0.2.2", cnames=chain)})
    assert sorted(await asked.records("www.shop.test", "A")) == ["192.0.2.1", "192.0.2.2"]


async def test_a_name_that_does_not_exist_or_has_no_such_record_is_an_answer(tmp_path: Path) -> None:
    assert await Asked(tmp_path, {}).records("gone.test", "SRV") == ()
    only_a: Scripts = {("shop.test", "A"): records("A", "192.0.2.1")}
    assert await Asked(tmp_path, only_a).records("shop.test", "AAAA") == ()


@pytest.mark.parametrize(
    ("script", "reasons"),
    [
        (rcode("SERVFAIL"), {Reason.RESOLVER, Reason.DNS}),
        (rcode("REFUSED"), {Reason.RESOLVER, Reason.DNS}),
        (silence, {Reason.RESOLVER, Reason.DNS}),
        (broken(lambda packet: packet[:-3], records("A", "192.0.2.1")), {Reason.RESOLVER, Reason.DNS}),
    ],
    ids=["SERVFAIL", "REFUSED", "silence", "malformed"],
)
async def test_what_no_server_answers_is_no_answer(
    tmp_path: Path, script: Script, reasons: set[Reason]
) -> None:
    asked = Asked(tmp_path, {("shop.test", "A"): script}, default="SERVFAIL")
    assert (await asked.refusal("shop.test", "A")).reason in reasons


async def test_a_loop_of_aliases_is_no_answer(tmp_path: Path) -> None:
    loop = [("a.test", "b.test"), ("b.test", "a.test")]
    asked = Asked(tmp_path, {("a.test", "A"): records("A", cnames=loop)})
    assert (await asked.refusal("a.test", "A")).reason is Reason.DNS


async def test_an_answer_that_was_cut_off_is_asked_for_over_tcp(tmp_path: Path) -> None:
    many = [f"192.0.2.{number}" for number in range(1, 200)]
    asked = Asked(tmp_path, {("shop.test", "A"): truncated_over_udp(records("A", *many))})
    assert sorted(await asked.records("shop.test", "A")) == sorted(many)
    assert asked.over == {"udp", "tcp"}


# --- the search list ----------------------------------------------------------------------------------

SEARCH = "search one.test two.test\noptions ndots:2\n"
CASES = [
    # name, the names asked for in order
    ("db", ["db.one.test", "db.two.test", "db"]),
    ("db.shop", ["db.shop.one.test", "db.shop.two.test", "db.shop"]),
    ("a.db.shop", ["a.db.shop", "a.db.shop.one.test", "a.db.shop.two.test"]),
    ("db.", ["db"]),
]


@pytest.mark.parametrize(("name", "order"), CASES)
async def test_names_are_tried_in_the_order_of_resolv_conf(
    tmp_path: Path, name: str, order: list[str]
) -> None:
    asked = Asked(tmp_path, {}, conf=SEARCH)
    assert await asked.records(name, "A") == ()
    assert asked.names == order


async def test_the_first_name_that_exists_ends_the_search_even_without_such_a_record(tmp_path: Path) -> None:
    scripts: Scripts = {
        ("db.one.test", "AAAA"): records("AAAA", "2001:db8::1"),
        ("db.two.test", "A"): records("A", "192.0.2.2"),
    }
    asked = Asked(tmp_path, scripts, conf=SEARCH)
    assert await asked.records("db", "A") == ()
    assert asked.names == ["db.one.test"]


async def test_a_later_name_answers_though_an_earlier_one_fails(tmp_path: Path) -> None:
    scripts: Scripts = {
        ("db.one.test", "A"): rcode("SERVFAIL"),
        ("db.two.test", "A"): records("A", "192.0.2.2"),
    }
    assert await Asked(tmp_path, scripts, conf=SEARCH).records("db", "A") == ("192.0.2.2",)


async def test_that_a_later_name_has_no_such_record_says_nothing_of_the_one_that_failed(
    tmp_path: Path,
) -> None:
    scripts: Scripts = {
        ("db.one.test", "SRV"): rcode("SERVFAIL"),
        ("db.two.test", "A"): records("A", "192.0.2.2"),  # as a wildcard has it
    }
    asked = Asked(tmp_path, scripts, conf=SEARCH)
    assert "db.one.test" in (await asked.refusal("db", "SRV")).message


async def test_that_all_others_do_not_exist_says_nothing_of_the_one_that_failed(tmp_path: Path) -> None:
    asked = Asked(tmp_path, {("db.one.test", "A"): rcode("SERVFAIL")}, conf=SEARCH)
    assert "db.one.test" in (await asked.refusal("db", "A")).message


# --- servers ------------------------------------------------------------------------------------------


async def test_a_server_can_be_named_and_gets_no_search_list(tmp_path: Path) -> None:
    async with dns_server() as server, open_network() as network:
        server.scripts = {("shop.test", "A"): records("A", "192.0.2.1")}
        at = f"127.0.0.1:{server.port}"
        assert await network.look_up("shop.test", "A", resolver=at) == ("192.0.2.1",)
        assert await network.look_up("db", "A", resolver=at) == ()
        assert [name for _, name, _ in server.asked] == ["shop.test", "db"]


async def test_a_machine_without_name_servers_has_no_answer(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="no name server is configured"):
        await Machine(tmp_path, [], 53).resolver().records("shop.test", "A")


async def test_what_is_no_name_has_no_answer(tmp_path: Path) -> None:
    assert (await Asked(tmp_path, {}).refusal("a..b", "A")).reason is Reason.DNS
