"""The DNS prober against scripted servers on loopback: every expectation, both sides, and every misbehaviour."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

import anyio
import dns.flags
import dns.message
import dns.rrset
import pytest

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
from tests.probes.support import wall
from watchbill.domain.checks import parse_check
from watchbill.domain.reach import IpChoice
from watchbill.domain.results import Outcome, Reason, Result
from watchbill.net import MachineNetwork
from watchbill.ports import NetworkError
from watchbill.probes import dns as prober
from watchbill.probes.execute import Executor
from watchbill.testing import ManualClock, judge_inline

pytestmark = pytest.mark.anyio


class Loopback(MachineNetwork):
    """This machine, with a name server of the test's."""

    def __init__(self, server: DnsServer | None = None) -> None:
        super().__init__()
        self._server = server

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        return "127.0.0.1" if host == "ns.test" else await super().resolve(host, family)

    def nameserver(self) -> tuple[str, int]:
        if self._server is None:
            raise NetworkError(Reason.RESOLVER, "no name server is configured in /etc/resolv.conf")
        return self._server.address, self._server.port


async def execute(network: MachineNetwork, **declared: Any) -> Result:
    check = parse_check({"id": "zone", "type": "dns", "name": "shop.test", "timeout": "10s", **declared})
    executor = Executor(
        {"dns": partial(prober.probe, network=network, now=wall, judge=judge_inline)},
        clock=ManualClock(),
        monotonic=time.perf_counter,
    )
    return await executor.execute(check)


async def probed(script: Script, **declared: Any) -> tuple[Result, DnsServer]:
    async with dns_server() as server:
        server.scripts = {("shop.test", declared.get("record", "A").upper()): script}
        return await execute(Loopback(server), **declared), server


def told(result: Result) -> list[tuple[Reason, str]]:
    return [(failure.reason, failure.message) for failure in result.failures]


# --- expectations -------------------------------------------------------------------------------------

TWO = records("A", "192.0.2.1", "192.0.2.2")
MAIL = records("MX", "10 mail.shop.test.", "20 backup.test.")
LONG_LIST = '["192.0.2.1", "192.0.2.2"]'


@pytest.mark.parametrize(
    ("script", "record", "expect"),
    [
        (TWO, "A", {}),
        (records("A"), "A", {}),
        (records("A"), "A", {"rcode": "NOERROR"}),
        (rcode("NXDOMAIN"), "A", {"rcode": "NXDOMAIN"}),
        (rcode("NXDOMAIN", soa=True), "A", {"rcode": "nxdomain"}),
        (rcode("SERVFAIL"), "A", {"rcode": "SERVFAIL"}),
        (rcode("REFUSED"), "A", {"rcode": "REFUSED"}),
        (TWO, "A", {"answers": {"any": "192.0.2.2"}}),
        (TWO, "A", {"answers": {"all": {"matches": r"^192\.0\.2\.\d$"}}}),
        (TWO, "A", {"answers": {"none": {"contains": "203.0.113."}}}),
        (records("A"), "A", {"answers": {"none": {"matches": "."}}}),
        (MAIL, "MX", {"answers": {"any": {"matches": r"mail\."}, "none": {"contains": "evil"}}}),
        (MAIL, "mx", {"answers": {"any": "10 mail.shop.test."}}),
        (records("TXT", '"v=spf1 -all"'), "TXT", {"answers": {"all": {"contains": "v=spf1"}}}),
        (records("AAAA", "2001:db8::1"), "AAAA", {"answers": {"any": "2001:db8::1"}}),
        (records("CAA", '0 issue "ca.test"'), "CAA", {"answers": {"any": {"contains": "ca.test"}}}),
        (records("SRV", "0 5 443 a.test."), "SRV", {"answers": {"any": "0 5 443 a.test."}}),
        (records("NS", "ns1.test."), "NS", {"answers": {"any": "ns1.test."}}),
        (records("A", "192.0.2.1", cnames=[("shop.test", "a.test")]), "A", {"answers": {"all": "192.0.2.1"}}),
        (TWO, "A", {"latency": "10s"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_an_answer_that_meets_what_was_declared_is_a_success(
    script: Script, record: str, expect: dict[str, Any], transport: str
) -> None:
    result, server = await probed(script, record=record, expect=expect, transport=transport)
    assert told(result) == []
    assert result.outcome is Outcome.SUCCESS
    assert [asked[0] for asked in server.asked] == [transport]


@pytest.mark.parametrize(
    ("script", "record", "expect", "failures"),
    [
        (rcode("NXDOMAIN"), "A", {}, ["rcode must be NOERROR, got NXDOMAIN"]),
        (rcode("SERVFAIL"), "A", {}, ["rcode must be NOERROR, got SERVFAIL"]),
        (TWO, "A", {"rcode": "NXDOMAIN"}, ["rcode must be NXDOMAIN, got NOERROR"]),
        (
            TWO,
            "A",
            {"answers": {"any": "192.0.2.9"}},
            [f'any answer must equal "192.0.2.9", got {LONG_LIST}'],
        ),
        (records("A"), "A", {"answers": {"any": {"matches": "."}}}, ['any answer must match ".", got []']),
        (
            TWO,
            "A",
            {"answers": {"all": "192.0.2.1"}},
            [f'all answers must equal "192.0.2.1", got {LONG_LIST}'],
        ),
        (
            records("A"),
            "A",
            {"answers": {"all": "192.0.2.1"}},
            ['all answers must equal "192.0.2.1", got []'],
        ),
        (TWO, "A", {"answers": {"none": "192.0.2.2"}}, [f'no answer may equal "192.0.2.2", got {LONG_LIST}']),
        (
            rcode("NXDOMAIN"),
            "A",
            {"answers": {"any": {"contains": "192"}}},
            ["rcode must be NOERROR, got NXDOMAIN", 'any answer must contain "192", got []'],
        ),
        (
            MAIL,
            "MX",
            {"answers": {"all": {"contains": "mail"}, "none": {"contains": "backup"}}},
            [
                'all answers must contain "mail", got ["10 mail.shop.test.", "20 backup.test."]',
                'no answer may contain "backup", got ["10 mail.shop.test.", "20 backup.test."]',
            ],
        ),
        (
            records("A", cnames=[("shop.test", "a.test")]),
            "A",
            {"answers": {"any": {"contains": "a.test"}}},
            ['any answer must contain "a.test", got []'],
        ),
        (
            records("A", "192.0.2.1", cnames=[("another.test", "a.test")]),
            "A",
            {"answers": {"any": "192.0.2.1"}},
            ['any answer must equal "192.0.2.1", got []'],
        ),
    ],
)
async def test_an_answer_that_does_not_fails_and_says_what_was_seen(
    script: Script, record: str, expect: dict[str, Any], failures: list[str]
) -> None:
    result, _ = await probed(script, record=record, expect=expect)
    assert told(result) == [(Reason.ANSWER, message) for message in failures]
    assert result.outcome is Outcome.FAILURE


async def test_a_slow_answer_fails_the_latency_alone() -> None:
    result, _ = await probed(TWO, expect={"latency": "0.001ms"})
    ((reason, message),) = told(result)
    assert reason is Reason.LATENCY
    assert message.startswith("latency must be at most 0.001ms, took ")


# --- facts and phases ---------------------------------------------------------------------------------


async def test_what_was_seen_is_kept() -> None:
    script = records("A", "192.0.2.1", "192.0.2.2", cnames=[("shop.test", "a.test"), ("a.test", "b.test")])
    result, server = await probed(script)
    assert {name: value for name, value in result.facts.items() if name != "dns_lookup_seconds"} == {
        "server": f"127.0.0.1:{server.port}",
        "address": "127.0.0.1",
        "ip_protocol": 4,
        "truncated": False,
        "rcode": "NOERROR",
        "authoritative": True,
        "answers": ["192.0.2.1", "192.0.2.2"],
        "cnames": ["a.test.", "b.test."],
        "answer_count": 4,
        "authority_count": 0,
        "additional_count": 0,
    }
    assert result.facts["dns_lookup_seconds"] == result.phases["resolve"]


async def test_phases_add_up_to_the_duration() -> None:
    for transport in ("udp", "tcp"):
        result, _ = await probed(TWO, transport=transport)
        assert list(result.phases) == ["resolve", "connect", "processing"]
        assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)


async def test_phases_add_up_whatever_went_wrong() -> None:
    for transport in ("udp", "tcp"):
        for script in (silence, rcode("SERVFAIL"), broken(cut, TWO), broken(for_another_name, TWO)):
            result, _ = await probed(script, transport=transport, timeout="0.2s")
            assert result.outcome is Outcome.FAILURE
            assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)


async def test_the_serial_of_a_zone_is_a_fact() -> None:
    result, _ = await probed(
        records("SOA", "ns.test. root.test. 2026112201 7200 3600 1209600 60"), record="SOA"
    )
    assert result.facts["serial"] == 2026112201


async def test_a_thousand_answers_are_judged_and_sixty_four_are_kept() -> None:
    script = truncated_over_udp(records("A", *(f"10.0.{n // 250}.{n % 250}" for n in range(1000))))
    result, _ = await probed(script, expect={"answers": {"any": "10.0.3.249", "none": "10.0.4.0"}})
    assert told(result) == []
    assert result.facts["answer_count"] == 1000
    assert len(result.facts["answers"]) == 64


async def test_authority_and_additional_records_are_counted() -> None:
    def script(query: dns.message.Message, transport: str) -> list[bytes]:
        response = dns.message.make_response(query)
        response.authority.append(dns.rrset.from_text("test.", 60, "IN", "NS", "a.test.", "b.test."))
        response.additional.append(dns.rrset.from_text("a.test.", 60, "IN", "A", "192.0.2.1"))
        return [response.to_wire()]

    result, _ = await probed(script)
    assert (result.facts["authority_count"], result.facts["additional_count"]) == (2, 1)
    assert result.facts["authoritative"] is False


async def test_the_question_asks_for_recursion_and_announces_1232_bytes() -> None:
    _, server = await probed(TWO)
    (query,) = server.queries
    assert query.flags == dns.flags.RD
    assert (query.edns, query.payload) == (0, 1232)


# --- whom to ask --------------------------------------------------------------------------------------


async def test_a_declared_server_is_asked_by_address_or_name() -> None:
    async with dns_server() as server:
        server.scripts = {("shop.test", "A"): TWO}
        for host in ("127.0.0.1", "localhost", "ns.test"):
            result = await execute(Loopback(), server=f"{host}:{server.port}")
            assert (told(result), result.facts["server"]) == ([], f"{host}:{server.port}")


async def test_a_server_of_ipv6_is_asked_over_ipv6() -> None:
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    async with dns_server("::1") as server:
        server.scripts = {("shop.test", "A"): TWO}
        result = await execute(Loopback(), server=f"[::1]:{server.port}")
    assert (told(result), result.facts["ip_protocol"]) == ([], 6)
    assert result.facts["server"] == f"[::1]:{server.port}"


async def test_an_address_asked_for_its_name_is_asked_for_in_reverse() -> None:
    async with dns_server() as server:
        server.scripts = {("1.2.0.192.in-addr.arpa", "PTR"): records("PTR", "shop.test.")}
        result = await execute(
            Loopback(server), name="192.0.2.1", record="PTR", expect={"answers": {"all": "shop.test."}}
        )
    assert told(result) == []


async def test_a_name_is_asked_for_as_it_is_and_idna_is_encoded() -> None:
    async with dns_server() as server:
        await execute(Loopback(server), name="shop")
        await execute(Loopback(server), name="Bücher.test.")
        await execute(Loopback(server), name=".", record="NS")
    assert [name for _, name, _ in server.asked] == ["shop", "xn--bcher-kva.test", "."]


# --- misbehaviour -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strangers",
    [(with_another_id,), (for_another_name,), (sent_as_a_question,), (only_a_stub, with_another_id)],
)
async def test_what_does_not_answer_our_question_is_passed_over(strangers: Any) -> None:
    result, _ = await probed(
        preceded_by(*strangers, then=TWO), expect={"answers": {"all": {"contains": "192"}}}
    )
    assert told(result) == []


async def test_an_answer_cut_over_udp_is_fetched_over_tcp_and_said_to_be() -> None:
    result, server = await probed(truncated_over_udp(TWO))
    assert told(result) == []
    assert [transport for transport, _, _ in server.asked] == ["udp", "tcp"]
    assert result.facts["truncated"] is True
    assert result.facts["answers"] == ["192.0.2.1", "192.0.2.2"]
    assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)


def cut(packet: bytes) -> bytes:
    return packet[:-13]


def longer(packet: bytes) -> bytes:
    return packet + b"\0"


def pointing_at_itself(packet: bytes) -> bytes:
    return packet[:-16] + b"\xc0" + bytes([len(packet) - 16]) + packet[-14:]


def counting_too_many(packet: bytes) -> bytes:
    return packet[:6] + b"\0\xff" + packet[8:]


@pytest.mark.parametrize("change", [cut, longer, pointing_at_itself, counting_too_many])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_malformed_answer_is_a_violation_of_the_protocol(change: Any, transport: str) -> None:
    result, _ = await probed(broken(change, TWO), transport=transport)
    ((reason, message),) = told(result)
    assert reason is Reason.PROTOCOL
    assert message.startswith("malformed DNS answer: ")
    assert result.outcome is Outcome.FAILURE


async def test_an_answer_of_more_than_1024_records_is_not_read() -> None:
    many = records("A", *(f"10.0.{n // 250}.{n % 250}" for n in range(1025)))
    result, _ = await probed(truncated_over_udp(many))
    assert told(result) == [(Reason.TOO_LARGE, "a DNS answer must hold at most 1024 records, has 1026")]


@pytest.mark.parametrize("change", [with_another_id, for_another_name, sent_as_a_question])
async def test_over_tcp_an_answer_to_another_question_is_a_violation(change: Any) -> None:
    result, _ = await probed(broken(change, TWO), transport="tcp")
    assert told(result) == [(Reason.PROTOCOL, "the server answered another question than the one asked")]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_silent_server_costs_the_timeout_and_leaves_no_socket(transport: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with dns_server() as server:
        server.default = silence
        result = await execute(Loopback(server), transport=transport, timeout="0.5s")
    assert told(result) == [(Reason.TIMEOUT, "timed out after 500ms while waiting for the response")]
    assert [asked for asked, _, _ in server.asked] == [transport]
    with anyio.fail_after(5):
        while len(os.listdir("/proc/self/fd")) > before:
            await anyio.sleep(0)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_where_nobody_listens_the_server_refuses(transport: str) -> None:
    async with dns_server() as server:
        port = server.port
    result = await execute(Loopback(), server=f"127.0.0.1:{port}", transport=transport)
    ((reason, message),) = told(result)
    assert reason is Reason.REFUSED
    assert "connection refused" in message
    assert result.outcome is Outcome.FAILURE


async def test_without_a_name_server_it_is_our_own_side_that_fails() -> None:
    result = await execute(Loopback())
    assert told(result) == [(Reason.RESOLVER, "no name server is configured in /etc/resolv.conf")]
    assert result.outcome is Outcome.ERROR


async def test_a_name_that_is_none_is_not_asked_for() -> None:
    too_long = ".".join(["a" * 63] * 4)  # 255 characters, but 257 bytes in a message
    result, server = await probed(TWO, name=too_long)
    ((reason, message),) = told(result)
    assert reason is Reason.DNS
    assert message.startswith(f"{too_long} is not a DNS name")
    assert server.asked == []


async def test_a_server_of_the_other_family_is_not_asked() -> None:
    result = await execute(Loopback(), server="127.0.0.1", ip_family=6)
    assert told(result) == [(Reason.DNS, "127.0.0.1 is not an IPv6 address")]
