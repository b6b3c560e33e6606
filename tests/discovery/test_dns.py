"""``dns_sd`` against a real name server on loopback: which answers add, remove and keep targets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from tests.discovery.reports import Told, running
from tests.dns_server import DnsServer, dns_server, rcode, records
from watchbill.discovery.dns import dns_source
from watchbill.discovery.sources import Source
from watchbill.domain.discovery import TargetGroup
from watchbill.domain.dns_sd import DnsSd
from watchbill.net import open_network

pytestmark = pytest.mark.anyio
SRV = "_http._tcp.shop.test"


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server() as server:
        server.scripts = {("known.test", "A"): records("A", "192.0.2.200")}
        yield server


def source(server: DnsServer, network: Any, *names: str, **declared: Any) -> Source:
    options = DnsSd.model_validate(
        {
            "names": names,
            "refresh": timedelta(milliseconds=20),
            "resolver": f"127.0.0.1:{server.port}",
            **declared,
        }
    )
    return dns_source(options, look_up=network.look_up)


# --- what records become ------------------------------------------------------------------------------


async def test_an_srv_record_is_a_target_with_prometheus_labels(server: DnsServer) -> None:
    server.scripts[SRV, "SRV"] = records(
        "SRV", "10 60 8080 one.shop.test.", "5 60 8081 two.shop.test.", "0 0 0 ."
    )
    async with open_network() as network, running(source(server, network, SRV)) as told:
        await told.found_again()
        assert told.targets() == {
            SRV: [
                {
                    "__address__": f"{name}.shop.test:{port}",
                    "__meta_dns_name": SRV,
                    "__meta_dns_srv_record_target": f"{name}.shop.test.",
                    "__meta_dns_srv_record_port": str(port),
                }
                for name, port in (("one", 8080), ("two", 8081))
            ]
        }


@pytest.mark.parametrize(
    ("record", "answer", "address", "labels"),
    [
        ("A", "192.0.2.7", "192.0.2.7:9100", {}),
        ("AAAA", "2001:db8::7", "[2001:db8::7]:9100", {}),
        ("MX", "10 mx.shop.test.", "mx.shop.test:9100", {"__meta_dns_mx_record_target": "mx.shop.test."}),
        ("NS", "ns.shop.test.", "ns.shop.test:9100", {"__meta_dns_ns_record_target": "ns.shop.test."}),
    ],
)
async def test_other_records_take_the_declared_port(
    server: DnsServer, record: str, answer: str, address: str, labels: dict[str, str]
) -> None:
    server.scripts["shop.test", record] = records(record, answer)
    async with (
        open_network() as network,
        running(source(server, network, "shop.test", type=record, port=9100)) as told,
    ):
        await told.found_again()
        assert told.targets() == {
            "shop.test": [{"__address__": address, "__meta_dns_name": "shop.test", **labels}]
        }


async def test_the_order_of_an_answer_changes_nothing(server: DnsServer) -> None:
    server.scripts["shop.test", "A"] = records("A", "192.0.2.2", "192.0.2.1")
    async with (
        open_network() as network,
        running(source(server, network, "shop.test", type="A", port=80)) as told,
    ):
        await told.found_again()
        server.scripts["shop.test", "A"] = records("A", "192.0.2.1", "192.0.2.2")
        await told.found_again(2)
        assert all(groups == told.all_found[0] for groups in told.all_found)


# --- what keeps, and what removes ---------------------------------------------------------------------


@pytest.mark.parametrize("script", [rcode("NXDOMAIN"), records("A")], ids=["NXDOMAIN", "no such record"])
async def test_that_there_is_nothing_removes_the_targets(server: DnsServer, script: Any) -> None:
    server.scripts["shop.test", "A"] = records("A", "192.0.2.1")
    async with (
        open_network() as network,
        running(source(server, network, "shop.test", type="A", port=80)) as told,
    ):
        await told.found_again()
        assert told.addresses() == ["192.0.2.1:80"]
        server.scripts["shop.test", "A"] = script
        await told.until(lambda: told.addresses() == [])
        assert told.failures == []


@pytest.mark.parametrize("script", [rcode("SERVFAIL"), rcode("REFUSED")], ids=["SERVFAIL", "REFUSED"])
async def test_that_nobody_can_tell_keeps_the_targets_and_counts(server: DnsServer, script: Any) -> None:
    server.scripts["shop.test", "A"] = records("A", "192.0.2.1")
    async with (
        open_network() as network,
        running(source(server, network, "shop.test", type="A", port=80)) as told,
    ):
        await told.found_again()
        server.scripts["shop.test", "A"] = script
        await told.failed_again(2)
        assert told.addresses() == ["192.0.2.1:80"]
        assert "A shop.test: " in told.failures[-1]
        server.scripts["shop.test", "A"] = records("A", "192.0.2.3")
        await told.until(lambda: told.addresses() == ["192.0.2.3:80"])


async def test_one_name_that_fails_keeps_its_own_targets_and_the_others_move_on(server: DnsServer) -> None:
    server.scripts["a.test", "A"] = records("A", "192.0.2.1")
    server.scripts["b.test", "A"] = records("A", "192.0.2.2")
    async with (
        open_network() as network,
        running(source(server, network, "a.test", "b.test", "a.test", type="A", port=80)) as told,
    ):
        await told.found_again()
        server.scripts["a.test", "A"] = rcode("SERVFAIL")
        server.scripts["b.test", "A"] = records("A", "192.0.2.4")
        await told.until(lambda: told.addresses() == ["192.0.2.1:80", "192.0.2.4:80"])
        await told.failed_again()
        assert "b.test" not in told.failures[-1]


async def test_what_was_found_before_a_restart_is_kept_for_a_name_that_fails(server: DnsServer) -> None:
    server.scripts["a.test", "A"] = rcode("SERVFAIL")
    server.scripts["b.test", "A"] = records("A", "192.0.2.2")
    before = Told(before=[TargetGroup("a.test", ({"__address__": "192.0.2.1:80"},), {})])
    async with (
        open_network() as network,
        running(source(server, network, "a.test", "b.test", type="A", port=80), before) as told,
    ):
        await told.found_again()
        assert told.addresses() == ["192.0.2.1:80", "192.0.2.2:80"]


# --- what may be declared -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"names": []}, "at least 1 item"),
        ({"names": ["shop.test"], "type": "A"}, "A records have no port"),
        ({"names": ["shop.test"], "port": 80}, "leave port out"),
        ({"names": ["a..b"]}, "labels of at most 63 characters"),
        ({"names": ["shop.test"], "type": "TXT"}, "SRV"),
        ({"names": ["shop.test"], "resolver": "dns.example"}, "IP address of a DNS server"),
        ({"names": ["shop.test"], "refresh": "0s"}, "over zero"),
    ],
)
def test_what_cannot_work_is_refused(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DnsSd.model_validate(declared)
