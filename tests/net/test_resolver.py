"""The stub resolver against DNS servers on loopback, with hosts and resolv.conf of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
import trio.testing

from tests.dns_server import (
    DnsServer,
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
from tests.servers import no_more_descriptors
from watchbill.domain.reach import IpChoice, IpFamily
from watchbill.domain.results import Reason
from watchbill.net import MachineNetwork
from watchbill.net.hostfiles import ResolvConf, WatchedFile, parse_hosts, parse_interfaces, parse_resolv_conf
from watchbill.net.resolver import Resolver
from watchbill.ports import Connection, NetworkError

pytestmark = pytest.mark.anyio

GLOBAL_V6 = "20010db8000000000000000000000007 02 40 00 80     eth0\n"
UNIQUE_LOCAL_V6 = "fd000000000000000000000000000002 02 40 00 80     eth0\n"
LINK_LOCAL_V6 = "fe800000000000000000000000000001 02 40 20 80     eth0\n"


class Machine:
    """A machine with files of its own, whose resolver asks real sockets."""

    def __init__(self, folder: Path, servers: Sequence[str], port: int) -> None:
        self.hosts = folder / "hosts"
        self.resolv_conf = folder / "resolv.conf"
        self.interfaces = folder / "if_inet6"
        self.hosts.write_text("")
        self.resolv_conf.write_text("".join(f"nameserver {server}\n" for server in servers))
        self.interfaces.write_text("")
        self.port = port

    def resolver(self) -> Resolver:
        network = MachineNetwork()
        return Resolver(
            open_datagrams=network.open_datagrams,
            connect=network.connect,
            hosts=self.hosts,
            resolv_conf=self.resolv_conf,
            interfaces=self.interfaces,
            port=self.port,
        )

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        with anyio.fail_after(20):
            return await self.resolver().resolve(host, family)

    async def refusal(self, host: str, family: IpChoice | None = None) -> tuple[Reason, str]:
        with pytest.raises(NetworkError) as caught:
            await self.resolve(host, family)
        return caught.value.reason, caught.value.message


async def resolved(
    folder: Path, scripts: dict[tuple[str, str], Script], host: str, family: IpChoice | None = None
) -> tuple[str, DnsServer]:
    async with dns_server() as server:
        server.scripts = scripts
        return await Machine(folder, ["127.0.0.1"], server.port).resolve(host, family), server


async def refused(
    folder: Path, scripts: dict[tuple[str, str], Script], host: str, family: IpChoice | None = None
) -> tuple[Reason, str]:
    async with dns_server() as server:
        server.scripts = scripts
        return await Machine(folder, ["127.0.0.1"], server.port).refusal(host, family)


# --- what needs no server -----------------------------------------------------------------------------


@pytest.mark.parametrize("literal", ["192.0.2.1", "127.0.0.1", "::1", "2001:db8::7", "2001:DB8:0::7"])
async def test_a_literal_address_is_returned_as_it_is(tmp_path: Path, literal: str) -> None:
    assert await Machine(tmp_path, [], 1).resolve(literal) == literal


@pytest.mark.parametrize(
    ("literal", "family", "message"),
    [
        ("192.0.2.1", 6, "192.0.2.1 is not an IPv6 address"),
        ("::1", 4, "::1 is not an IPv4 address"),
    ],
)
async def test_a_literal_of_the_other_family_is_no_address(
    tmp_path: Path, literal: str, family: IpFamily, message: str
) -> None:
    assert await Machine(tmp_path, [], 1).refusal(literal, family) == (Reason.DNS, message)


@pytest.mark.parametrize(
    "spelling", ["127.1", "0x7f.1", "2130706433", "0x7f000001", "127.0.0.01", "１２７.0.0.1"]
)
async def test_abbreviated_addresses_are_neither_names_nor_addresses(tmp_path: Path, spelling: str) -> None:
    reason, message = await Machine(tmp_path, [], 1).refusal(spelling)
    assert (reason, message) == (Reason.DNS, f"{spelling} is neither a name nor an IP address in full")


@pytest.mark.parametrize("host", ["a..b.test", "x" * 64 + ".test", "a.test.."])
async def test_what_is_no_name_is_refused_before_anybody_is_asked(tmp_path: Path, host: str) -> None:
    reason, message = await Machine(tmp_path, [], 1).refusal(host)
    assert reason is Reason.DNS
    assert message.startswith(f"{host} is not a DNS name")


@pytest.mark.parametrize(
    ("host", "family", "address"),
    [
        ("localhost", None, "127.0.0.1"),
        ("LOCALHOST.", 4, "127.0.0.1"),
        ("localhost", 6, "::1"),
        ("shop.localhost", None, "127.0.0.1"),
        ("shop.localhost", 6, "::1"),
    ],
)
async def test_localhost_is_loopback_and_nobody_is_asked(
    tmp_path: Path, host: str, family: IpFamily | None, address: str
) -> None:
    machine = Machine(tmp_path, [], 1)
    machine.hosts.write_text("192.0.2.66 localhost shop.localhost\n")
    assert await machine.resolve(host, family) == address


async def test_a_loopback_address_that_the_hosts_file_gives_localhost_is_kept(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [], 1)
    machine.hosts.write_text("127.0.0.7 db.localhost\n")
    assert await machine.resolve("db.localhost") == "127.0.0.7"


async def test_the_hosts_file_is_asked_before_dns(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [], 1)
    machine.hosts.write_text(
        "# office\n192.0.2.8  Shop.test shop # the shop\n2001:db8::8 shop\nnonsense shop\n"
    )
    assert await machine.resolve("shop.TEST") == "192.0.2.8"
    assert await machine.resolve("shop") == "192.0.2.8"
    assert await machine.resolve("shop", 6) == "2001:db8::8"


async def test_a_changed_hosts_file_is_read_again(tmp_path: Path) -> None:
    seconds = [0.0]
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 shop\n")
    watched = WatchedFile(path, parse_hosts, monotonic=lambda: seconds[0])
    assert [str(address) for address in watched.value()["shop"]] == ["192.0.2.1"]
    path.write_text("192.0.2.22 shop\n")
    os.utime(path, (5, 5))
    assert [str(address) for address in watched.value()["shop"]] == ["192.0.2.1"]
    seconds[0] = 1.0
    assert [str(address) for address in watched.value()["shop"]] == ["192.0.2.22"]
    path.unlink()
    seconds[0] = 2.0
    assert watched.value() == {}


def test_a_file_that_cannot_be_read_just_now_stays_known(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 shop.test\n")
    seconds = [0.0]
    watched = WatchedFile(path, parse_hosts, monotonic=lambda: seconds[0])
    with (
        no_more_descriptors(),
        pytest.raises(NetworkError, match="too many open files while reading") as caught,
    ):
        watched.value()
    assert caught.value.reason is Reason.DESCRIPTORS
    known = watched.value()
    assert "shop.test" in known
    path.write_text("192.0.2.1 shop.test other.test\n")
    seconds[0] += 1
    with no_more_descriptors():
        assert watched.value() is known
    seconds[0] += 1
    assert "other.test" in watched.value()


async def test_without_a_name_server_it_is_our_own_side_that_fails(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [], 1)
    message = "no name server is configured in /etc/resolv.conf"
    assert await machine.refusal("shop.test") == (Reason.RESOLVER, message)
    with pytest.raises(NetworkError, match="no name server is configured"):
        machine.resolver().nameserver()


async def test_the_first_name_server_is_the_systems(tmp_path: Path) -> None:
    assert Machine(tmp_path, ["192.0.2.53", "192.0.2.54"], 53).resolver().nameserver() == ("192.0.2.53", 53)


# --- the files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "conf"),
    [
        ("", ResolvConf()),
        ("nameserver 192.0.2.1\nnameserver ::1 # x\n", ResolvConf(nameservers=("192.0.2.1", "::1"))),
        (
            "nameserver 1.1.1.1\nnameserver nonsense\nnameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4\n",
            ResolvConf(nameservers=("1.1.1.1", "2.2.2.2", "3.3.3.3")),
        ),
        ("domain a.test.\nsearch b.test c.test.\n", ResolvConf(search=("b.test", "c.test"))),
        ("search .\n", ResolvConf()),
        (
            "options ndots:5 timeout:1 attempts:3 rotate edns0\n",
            ResolvConf(ndots=5, timeout_seconds=1, attempts=3),
        ),
        (
            "options ndots:99 timeout:0 attempts:99\n",
            ResolvConf(ndots=15, timeout_seconds=1, attempts=5),
        ),
        ("; comment\n# comment\nsortlist 1.2.3.4\noptions ndots:x ndots\n", ResolvConf()),
    ],
)
def test_resolv_conf_is_read_as_its_manual_says(text: str, conf: ResolvConf) -> None:
    assert parse_resolv_conf(text) == conf


def test_only_addresses_beyond_the_link_count_as_ipv6() -> None:
    assert parse_interfaces(LINK_LOCAL_V6 + "0" * 31 + "1 01 80 10 80       lo\n") == frozenset()
    assert parse_interfaces(GLOBAL_V6 + UNIQUE_LOCAL_V6) == {"global", "local"}


# --- answers ------------------------------------------------------------------------------------------


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
ONLY_V4: dict[tuple[str, str], Script] = {("shop.test", "A"): records("A", "192.0.2.3")}
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


# --- silence, on a virtual clock ----------------------------------------------------------------------


@dataclass
class Wire:
    """Datagrams to a scripted server without sockets, so that time may be virtual."""

    server: DnsServer
    packets: list[bytes] = field(default_factory=list)

    async def send(self, data: bytes) -> None:
        self.packets += self.server.packets_for(data, "udp")

    async def receive(self) -> bytes:
        if not self.packets:
            await anyio.sleep_forever()
        return self.packets.pop(0)

    async def close(self) -> None: ...


def virtual_time() -> pytest.MarkDecorator:
    clock = trio.testing.MockClock(autojump_threshold=0)
    return pytest.mark.parametrize("anyio_backend", [("trio", {"clock": clock})], ids=["virtual"])


def over_wires(folder: Path, *servers: DnsServer) -> Resolver:
    machine = Machine(folder, [server.address for server in servers], 53)
    by_address = {server.address: server for server in servers}

    async def open_datagrams(address: str, port: int) -> Wire:
        return Wire(by_address[address])

    async def connect(address: str, port: int) -> Connection:
        raise NetworkError(Reason.REFUSED, "no streams here")

    return Resolver(
        open_datagrams=open_datagrams,
        connect=connect,
        hosts=machine.hosts,
        resolv_conf=machine.resolv_conf,
        interfaces=machine.interfaces,
    )


ONE, TWO = "192.0.2.51", "192.0.2.52"


@virtual_time()
async def test_the_next_server_is_asked_after_two_seconds(tmp_path: Path) -> None:
    one, two = DnsServer(ONE, default=silence), DnsServer(TWO, scripts=dict(ONLY_V4))
    begun = anyio.current_time()
    assert await over_wires(tmp_path, one, two).resolve("shop.test") == "192.0.2.3"
    assert anyio.current_time() - begun == pytest.approx(2)
    assert len(one.asked) == len(two.asked) == 1


@virtual_time()
async def test_every_server_is_tried_twice_and_once_more_and_then_our_own_side_fails(tmp_path: Path) -> None:
    one, two = DnsServer(ONE, default=silence), DnsServer(TWO, default=silence)
    begun = anyio.current_time()
    with pytest.raises(NetworkError) as caught:
        await over_wires(tmp_path, one, two).resolve("shop.test")
    assert (caught.value.reason, caught.value.message) == (
        Reason.RESOLVER,
        f"no name server answers ({ONE} is silent; {TWO} is silent)",
    )
    assert anyio.current_time() - begun == pytest.approx(9)
    asked = [("udp", "shop.test", "A")] * 3
    assert sorted(one.asked) == sorted(two.asked) == [("udp", ".", "NS"), *asked]


@virtual_time()
async def test_one_failing_and_one_silent_server_speak_of_the_target(tmp_path: Path) -> None:
    one, two = (
        DnsServer(ONE, default=silence),
        DnsServer(TWO, scripts={("shop.test", "A"): rcode("SERVFAIL")}),
    )
    with pytest.raises(NetworkError) as caught:
        await over_wires(tmp_path, one, two).resolve("shop.test")
    assert (caught.value.reason, caught.value.message) == (
        Reason.DNS,
        f"shop.test cannot be resolved (SERVFAIL from {TWO})",
    )
    asked = [("udp", "shop.test", "A"), ("udp", ".", "NS")]
    assert two.asked == asked, "who has failed is asked for something else"


@virtual_time()
@pytest.mark.parametrize(
    ("deadline", "said_after", "reason", "said"),
    [
        (5.0, 4.9, Reason.RESOLVER, "no name server answers"),
        (1.5, 1.4, Reason.RESOLVER, "no name server answers"),
        (0.1, 0.09, Reason.TIMEOUT, "shop.test could not be looked up in the time left"),
    ],
)
async def test_a_silent_server_is_named_before_the_callers_deadline(
    tmp_path: Path, deadline: float, said_after: float, reason: Reason, said: str
) -> None:
    begun = anyio.current_time()
    with anyio.fail_after(deadline), pytest.raises(NetworkError) as caught:
        await over_wires(tmp_path, DnsServer(ONE, default=silence)).resolve("shop.test")
    assert (caught.value.reason, caught.value.message) == (reason, f"{said} ({ONE} is silent)")
    assert anyio.current_time() - begun == pytest.approx(said_after)


@virtual_time()
@pytest.mark.parametrize("known", [True, False], ids=["another name was known", "no name was known"])
async def test_silence_about_one_name_only_is_no_fault_of_our_own(known: bool, tmp_path: Path) -> None:
    server = DnsServer(ONE, scripts={("slow.test", "A"): silence, **ONLY_V4})
    resolver = over_wires(tmp_path, server)
    if known:
        await resolver.resolve("shop.test")
    with pytest.raises(NetworkError) as caught:
        await resolver.resolve("slow.test")
    assert (caught.value.reason, caught.value.message) == (
        Reason.DNS,
        f"slow.test cannot be resolved (no answer, while others get theirs: {ONE} is silent)",
    )


def silent_until(instant: float, then: Script) -> Script:
    return lambda query, transport: then(query, transport) if anyio.current_time() >= instant else []


@virtual_time()
async def test_an_outage_that_ends_while_a_lookup_waits_is_no_fault_of_its_name(tmp_path: Path) -> None:
    """Others, who ask later, get their answers; what was asked before is lost."""
    begun = anyio.current_time()
    server = DnsServer(
        ONE, scripts={("late.test", "A"): silent_until(begun + 0.3, records("A", "192.0.2.9"))}
    )
    with anyio.fail_after(0.8):
        assert await over_wires(tmp_path, server).resolve("late.test") == "192.0.2.9"


@virtual_time()
async def test_an_outage_that_begins_while_a_lookup_waits_is_our_own_sides(tmp_path: Path) -> None:
    server = DnsServer(ONE, scripts={("late.test", "A"): silence, **ONLY_V4})
    resolver = over_wires(tmp_path, server)

    async def ask_and_break() -> None:
        await resolver.resolve("shop.test")
        server.scripts, server.default = {}, silence

    with anyio.fail_after(0.8):
        async with anyio.create_task_group() as group:
            group.start_soon(ask_and_break)
            with pytest.raises(NetworkError, match="no name server answers") as caught:
                await resolver.resolve("late.test")
    assert caught.value.reason is Reason.RESOLVER


@virtual_time()
async def test_a_server_that_fails_for_what_it_knew_before_is_our_own_side(tmp_path: Path) -> None:
    server = DnsServer(ONE, scripts=dict(ONLY_V4), default=rcode("SERVFAIL"))
    resolver = over_wires(tmp_path, server)
    await resolver.resolve("shop.test")
    with pytest.raises(NetworkError) as caught:
        await resolver.resolve("bogus.test")
    assert (caught.value.reason, caught.value.message) == (
        Reason.DNS,
        f"bogus.test cannot be resolved (SERVFAIL from {ONE})",
    )
    server.scripts = {}
    with pytest.raises(NetworkError) as caught:
        await resolver.resolve("bogus.test")
    assert (caught.value.reason, caught.value.message) == (
        Reason.RESOLVER,
        f"no name server knows any name (SERVFAIL from {ONE})",
    )


@virtual_time()
async def test_a_silent_server_for_ipv6_does_not_hide_the_ipv4_address(tmp_path: Path) -> None:
    server = DnsServer(ONE, scripts={**ONLY_V4, ("shop.test", "AAAA"): silence})
    resolver = over_wires(tmp_path, server)
    (tmp_path / "if_inet6").write_text(GLOBAL_V6)
    assert await resolver.resolve("shop.test") == "192.0.2.3"


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
