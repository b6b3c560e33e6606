"""What is known of a name before any server is asked, and the files that say whom to ask."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.net.resolving import (
    GLOBAL_V6,
    LINK_LOCAL_V6,
    UNIQUE_LOCAL_V6,
    Machine,
)
from tests.servers import no_more_descriptors
from watchbill.domain.reach import IpFamily
from watchbill.domain.results import Reason
from watchbill.net.hostfiles import ResolvConf, WatchedFile, parse_hosts, parse_interfaces, parse_resolv_conf
from watchbill.ports import NetworkError

pytestmark = pytest.mark.anyio


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
