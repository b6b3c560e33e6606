"""A dead name server is told from a dead zone, over scripted name servers on a virtual clock."""

from __future__ import annotations

from pathlib import Path

import anyio
import dns.message
import pytest

from tests.dns_server import DnsServer, Script, broken, rcode, records, silence
from tests.net.resolving import GLOBAL_V6, ONE, TWO, Machine, Wire, over_wires, virtual_time
from watchbill.domain.reach import IpFamily
from watchbill.domain.results import Reason
from watchbill.net import MachineNetwork
from watchbill.net.resolver import Resolver
from watchbill.net.witnesses import OUTAGE_SECONDS
from watchbill.ports import Datagrams, NetworkError

pytestmark = [pytest.mark.anyio, virtual_time()]

DNS, RESOLVER = Reason.DNS, Reason.RESOLVER
SERVFAIL, REFUSED, NXDOMAIN = rcode("SERVFAIL"), rcode("REFUSED"), rcode("NXDOMAIN")
ADDRESS, ROOT = records("A", "192.0.2.3"), records("NS", "a.root.test.")
GARBAGE = broken(lambda packet: packet[:-3], ADDRESS)
NODES_SEARCH = "search web.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"


class Zones:
    """What a name server says of the names in each zone; ``.`` is the root, and ``*`` whatever is not listed."""

    def __init__(self, **said: Script) -> None:
        self.said: dict[str, Script] = {name.replace("_", "."): script for name, script in said.items()}
        self.asked: list[str] = []

    def __call__(self, query: dns.message.Message, transport: str) -> list[bytes]:
        name = query.question[0].name.to_text(omit_final_dot=True)
        self.asked.append(name)
        place = name
        while place not in self.said and "." in place.strip("."):
            place = place.partition(".")[2]
        return self.said.get(place, self.said["*"])(query, transport)


def zones(root: Script, others: Script, **said: Script) -> Zones:
    made = Zones(**said)
    made.said |= {".": root, "*": others}
    return made


async def blamed(resolver: Resolver, name: str, family: IpFamily | None = 4) -> Reason:
    with pytest.raises(NetworkError) as caught, anyio.fail_after(5):
        await resolver.resolve(name, family)
    return caught.value.reason


def asking(folder: Path, *servers: Script, more: str = "") -> Resolver:
    machines = [DnsServer(address, default=said) for address, said in zip((ONE, TWO), servers, strict=False)]
    resolver = over_wires(folder, *machines)
    conf = folder / "resolv.conf"
    conf.write_text(conf.read_text() + more)
    return resolver


# --- nothing is known yet -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "said", "reason"),
    [
        (ROOT, SERVFAIL, DNS),
        (ROOT, REFUSED, DNS),
        (ROOT, silence, DNS),
        (ROOT, GARBAGE, DNS),
        (SERVFAIL, SERVFAIL, RESOLVER),
        (SERVFAIL, REFUSED, RESOLVER),
        (SERVFAIL, silence, RESOLVER),
        (SERVFAIL, GARBAGE, RESOLVER),
        (silence, SERVFAIL, RESOLVER),
        (silence, REFUSED, RESOLVER),
        (silence, silence, RESOLVER),
        (GARBAGE, SERVFAIL, RESOLVER),
        # One that refuses the root alone has a rule about it; one that refuses everything serves us nothing.
        (REFUSED, SERVFAIL, DNS),
        (REFUSED, silence, DNS),
        (REFUSED, REFUSED, RESOLVER),
    ],
)
async def test_the_root_tells_a_dead_name_server_from_a_dead_zone(
    root: Script, said: Script, reason: Reason, tmp_path: Path
) -> None:
    server = zones(root, said)
    assert await blamed(asking(tmp_path, server), "shop.test") is reason
    assert server.asked.count(".") == 1


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        (zones(SERVFAIL, SERVFAIL), zones(ROOT, SERVFAIL), DNS),
        (zones(SERVFAIL, SERVFAIL), zones(SERVFAIL, SERVFAIL), RESOLVER),
        (silence, zones(SERVFAIL, SERVFAIL), RESOLVER),
        (silence, zones(ROOT, SERVFAIL), DNS),
    ],
    ids=["one of them dead", "both dead", "one silent, one dead", "one silent"],
)
async def test_one_name_server_that_is_in_order_is_enough(
    one: Script, two: Script, reason: Reason, tmp_path: Path
) -> None:
    assert await blamed(asking(tmp_path, one, two), "shop.test") is reason


# --- names that were known ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "after", "reason"),
    [
        # The zone of one's own dies, with all its names that were known.
        (["a.shop.test", "b.shop.test"], zones(ROOT, ADDRESS, shop_test=SERVFAIL), DNS),
        (["a.shop.test", "b.shop.test"], zones(ROOT, ADDRESS, shop_test=silence), DNS),
        (["a.shop.test", "b.shop.test"], zones(SERVFAIL, SERVFAIL), RESOLVER),
        # So do all zones of one's own at once, where one provider served them.
        (["a.shop.test", "a.shop.example"], zones(ROOT, SERVFAIL), DNS),
        (["a.shop.test", "a.shop.example"], zones(SERVFAIL, SERVFAIL), RESOLVER),
        # A name of another zone is worth as much as the root.
        (["a.shop.test", "other.example"], zones(SERVFAIL, SERVFAIL, other_example=ADDRESS), DNS),
        (["a.shop.test", "other.example"], zones(silence, silence, other_example=ADDRESS), DNS),
        (["a.shop.test", "other.example"], zones(REFUSED, REFUSED, other_example=ADDRESS), DNS),
        # But not once it has no address any more.
        (["a.shop.test", "other.example"], zones(SERVFAIL, SERVFAIL, other_example=NXDOMAIN), RESOLVER),
        (["a.shop.test", "other.example"], zones(SERVFAIL, SERVFAIL, other_example=GARBAGE), RESOLVER),
    ],
)
async def test_only_what_lies_outside_the_zone_speaks_for_the_name_server(
    known: list[str], after: Zones, reason: Reason, tmp_path: Path
) -> None:
    server = zones(ROOT, ADDRESS)
    resolver = asking(tmp_path, server)
    for name in known:
        await resolver.resolve(name, 4)
    server.said = after.said
    assert await blamed(resolver, "www.shop.test") is reason


@pytest.mark.parametrize("dead", [SERVFAIL, REFUSED, silence], ids=["fails", "refuses", "says nothing"])
@pytest.mark.parametrize("in_cluster", [[], ["api.web.svc.cluster.local"]], ids=["alone", "beside services"])
async def test_a_cluster_whose_way_out_is_dead_shows_nothing_outside_as_down(
    in_cluster: list[str], dead: Script, tmp_path: Path
) -> None:
    """Its name server goes on to know its own zone: it says NXDOMAIN of each candidate, and knows the services."""
    own = {"cluster_local": NXDOMAIN, "api_web_svc_cluster_local": ADDRESS}
    resolver = asking(tmp_path, zones(dead, dead, **own), more=NODES_SEARCH)
    for name in in_cluster:
        assert await resolver.resolve(name, 4) == "192.0.2.3"
    assert {await blamed(resolver, f"{name}.example") for name in ("a", "b", "c")} == {RESOLVER}


async def test_a_cluster_with_nothing_but_its_own_zone_blames_the_name_it_fails_for(tmp_path: Path) -> None:
    own = {"cluster_local": NXDOMAIN, "api_web_svc_cluster_local": SERVFAIL}
    resolver = asking(tmp_path, zones(REFUSED, REFUSED, **own), more=NODES_SEARCH)
    assert await blamed(resolver, "api.web.svc.cluster.local.") is DNS


async def test_a_search_domain_that_is_refused_does_not_hide_the_name(tmp_path: Path) -> None:
    server = zones(REFUSED, ADDRESS, office_test=REFUSED)
    assert await asking(tmp_path, server, more="search office.test\n").resolve("shop") == "192.0.2.3"
    assert server.asked == ["shop.office.test", ".", "shop"]


async def test_a_name_that_is_gone_is_so_whatever_search_domain_is_refused(tmp_path: Path) -> None:
    server = zones(REFUSED, NXDOMAIN, office_test=REFUSED)
    assert await blamed(asking(tmp_path, server, more="search office.test\n"), "shop.example") is DNS


@pytest.mark.parametrize("family", [4, None])
async def test_a_search_domain_behind_a_dead_way_out_is_not_the_names_fault(
    family: IpFamily | None, tmp_path: Path
) -> None:
    """Many name servers say by themselves that no name of one label exists."""
    resolver = asking(tmp_path, zones(SERVFAIL, SERVFAIL, shop=NXDOMAIN), more="search office.test\n")
    (tmp_path / "if_inet6").write_text(GLOBAL_V6)
    assert await blamed(resolver, "shop", family) is RESOLVER


# --- for how long -------------------------------------------------------------------------------------


async def test_an_outage_is_not_asked_about_by_every_lookup(tmp_path: Path) -> None:
    server = zones(SERVFAIL, SERVFAIL)
    resolver = asking(tmp_path, server)
    for number in range(1000):
        assert await blamed(resolver, f"n{number}.test") is RESOLVER
    assert server.asked.count(".") == 1
    await anyio.sleep(OUTAGE_SECONDS)
    for number in range(1000):
        assert await blamed(resolver, f"n{number}.test") is RESOLVER
    assert server.asked.count(".") == 2


async def test_while_one_asks_again_the_others_go_by_what_was_found(tmp_path: Path) -> None:
    server = zones(SERVFAIL, SERVFAIL)
    resolver = asking(tmp_path, server)
    assert await blamed(resolver, "first.test") is RESOLVER
    await anyio.sleep(OUTAGE_SECONDS)
    server.said["."] = silence

    async def look_up(number: int) -> None:
        assert await blamed(resolver, f"n{number}.test") is RESOLVER

    async with anyio.create_task_group() as group:
        for number in range(1000):
            group.start_soon(look_up, number)
    assert server.asked.count(".") == 2


async def test_an_outage_that_is_over_hides_a_dead_zone_no_longer(tmp_path: Path) -> None:
    server = zones(SERVFAIL, SERVFAIL)
    resolver = asking(tmp_path, server)
    assert await blamed(resolver, "shop.test") is RESOLVER
    server.said |= {".": ROOT, "*": ADDRESS, "shop.test": SERVFAIL}
    assert await resolver.resolve("other.test", 4) == "192.0.2.3"
    await anyio.sleep(OUTAGE_SECONDS)
    assert [await blamed(resolver, "shop.test") for _ in range(2)] == [DNS, DNS]


@pytest.mark.parametrize("dead", [SERVFAIL, silence], ids=["fails", "says nothing"])
async def test_a_name_server_that_was_in_order_a_moment_ago_is_asked_again(
    dead: Script, tmp_path: Path
) -> None:
    server = zones(ROOT, ADDRESS, shop_test=SERVFAIL)
    resolver = asking(tmp_path, server)
    assert await blamed(resolver, "shop.test") is DNS
    server.said = {"*": dead}
    assert await blamed(resolver, "other.test") is RESOLVER


async def test_a_machine_that_cannot_ask_says_so(tmp_path: Path) -> None:
    """The last descriptor went between the question and the one that would tell whose fault it was."""
    machine, server = Machine(tmp_path, [ONE], 53), DnsServer(ONE, default=SERVFAIL)
    network = MachineNetwork()

    async def open_datagrams(address: str, port: int) -> Datagrams:
        if server.asked:
            raise NetworkError(Reason.DESCRIPTORS, "too many open files")
        return Wire(server)

    resolver = Resolver(
        open_datagrams=open_datagrams,
        connect=network.connect,
        hosts=machine.hosts,
        resolv_conf=machine.resolv_conf,
        interfaces=machine.interfaces,
    )
    assert await blamed(resolver, "shop.test") is Reason.DESCRIPTORS
