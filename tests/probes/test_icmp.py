"""The ICMP prober: loss, round trips and what they mean, over a network to order; and real loopback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import pytest
import trio.testing

from watchbill.domain.checks import parse_check
from watchbill.domain.reach import IpChoice
from watchbill.domain.results import Outcome, Reason, Result
from watchbill.net import open_network
from watchbill.ports import Connection, Datagrams, EchoReply, Network, NetworkError
from watchbill.probes import icmp
from watchbill.probes.execute import Executor
from watchbill.testing import ManualClock

UNREACHABLE = NetworkError(Reason.UNREACHABLE, "192.0.2.9 is unreachable: host unreachable (says 192.0.2.1)")
DENIED = NetworkError(Reason.PERMISSION, "the kernel allows this process no ICMP socket")


@dataclass
class Scripted:
    """A network whose echoes come out as listed: a round trip in seconds, ``None`` for a loss, or an error."""

    echoes: Sequence[float | NetworkError | None]
    hop_limit: int | None = 57
    address: str | NetworkError = "192.0.2.9"
    asked: list[tuple[str, float]] = field(default_factory=list)

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        await anyio.lowlevel.checkpoint()
        if isinstance(self.address, NetworkError):
            raise self.address
        return self.address

    async def echo(self, address: str, *, timeout_seconds: float) -> EchoReply | None:
        outcome = self.echoes[len(self.asked)]
        self.asked.append((address, timeout_seconds))
        await anyio.lowlevel.checkpoint()
        if isinstance(outcome, NetworkError):
            raise outcome
        return None if outcome is None else EchoReply(outcome, self.hop_limit)

    async def connect(self, address: str, port: int) -> Connection:
        raise AssertionError("an echo needs no connection")

    async def connect_unix(self, path: str) -> Connection:
        raise AssertionError("an echo needs no connection")

    def via(self, *, resolver: str | None = None, source: str | None = None) -> Network:
        raise AssertionError("nothing of the way was declared")

    async def open_datagrams(self, address: str, port: int) -> Datagrams:
        raise AssertionError("an echo needs no datagrams")

    def nameserver(self) -> tuple[str, int]:
        raise AssertionError("an echo asks no name server itself")


async def execute(network: Network, **declared: Any) -> Result:
    check = parse_check({"id": "gateway", "type": "icmp", "host": "gateway.test", **declared})
    probers = {"icmp": partial(icmp.probe, network=network)}
    return await Executor(probers, clock=ManualClock(), monotonic=anyio.current_time).execute(check)


def told(result: Result) -> list[tuple[Reason, str]]:
    return [(failure.reason, failure.message) for failure in result.failures]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Virtual time: packets may be seconds apart, and no machine is too slow."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


Echoes = list[float | NetworkError | None]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("echoes", "expect"),
    [
        ([0.01], {}),
        ([0.01, None, None], {}),
        ([0.01, None, UNREACHABLE], {}),
        ([0.01, 0.02, None], {"loss": "< 34%"}),
        ([0.01, 0.02, 0.03], {"loss": "== 0%"}),
        ([None, None], {"loss": "<= 100"}),
        ([0.01, 0.03], {"latency": "20ms"}),
        ([None], {"loss": "<= 100%", "latency": "1ms"}),
    ],
)
async def test_a_train_that_meets_what_was_declared_is_a_success(
    echoes: Echoes, expect: dict[str, str]
) -> None:
    result = await execute(Scripted(echoes), count=len(echoes), expect=expect)
    assert told(result) == []
    assert result.outcome is Outcome.SUCCESS


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("echoes", "expect", "failures"),
    [
        ([None], {}, [(Reason.LOSS, "loss must be < 100%, got 100% (1 of 1 packet lost)")]),
        (
            [None] * 3,
            {"loss": "< 34%"},
            [(Reason.LOSS, "loss must be < 34%, got 100% (3 of 3 packets lost)")],
        ),
        (
            [0.01, None, None],
            {"loss": "< 34"},
            [(Reason.LOSS, "loss must be < 34%, got 66.7% (2 of 3 packets lost)")],
        ),
        ([0.01] * 2, {"loss": "> 50"}, [(Reason.LOSS, "loss must be > 50%, got 0% (0 of 2 packets lost)")]),
        (
            [UNREACHABLE, None],
            {},
            [
                (Reason.UNREACHABLE, UNREACHABLE.message),
                (Reason.LOSS, "loss must be < 100%, got 100% (2 of 2 packets lost)"),
            ],
        ),
        (
            [0.01, 0.04],
            {"latency": "20ms"},
            [(Reason.LATENCY, "average round trip must be at most 20ms, took 25.0ms")],
        ),
        (
            [0.05, None],
            {"latency": "20ms", "loss": "== 0"},
            [
                (Reason.LOSS, "loss must be == 0%, got 50% (1 of 2 packets lost)"),
                (Reason.LATENCY, "average round trip must be at most 20ms, took 50.0ms"),
            ],
        ),
    ],
)
async def test_a_train_that_does_not_fails_and_says_what_was_seen(
    echoes: Echoes, expect: dict[str, str], failures: list[tuple[Reason, str]]
) -> None:
    result = await execute(Scripted(echoes), count=len(echoes), expect=expect)
    assert told(result) == failures
    assert result.outcome is Outcome.FAILURE


@pytest.mark.anyio
@pytest.mark.parametrize("denied", [[DENIED], [0.01, DENIED, 0.01]])
async def test_what_our_own_side_cannot_send_is_an_error_and_no_loss(denied: Echoes) -> None:
    result = await execute(Scripted(denied), count=len(denied))
    assert told(result) == [(Reason.PERMISSION, DENIED.message)]
    assert result.outcome is Outcome.ERROR
    assert "loss_percent" not in result.facts


@pytest.mark.anyio
async def test_a_name_without_an_address_ends_the_probe() -> None:
    nowhere = NetworkError(Reason.DNS, "gateway.test has no address (NXDOMAIN from 192.0.2.53)")
    result = await execute(Scripted([], address=nowhere))
    assert told(result) == [(Reason.DNS, nowhere.message)]


@pytest.mark.anyio
async def test_what_was_measured_is_kept() -> None:
    result = await execute(Scripted([0.01, 0.03, None, 0.02]), count=4)
    facts = dict(result.facts)
    assert facts.pop("dns_lookup_seconds") == result.phases["resolve"]
    assert facts.pop("rtt_stddev") == pytest.approx(0.00816, abs=1e-4)
    assert facts.pop("rtt_avg") == pytest.approx(0.02)
    assert facts == {
        "address": "192.0.2.9",
        "ip_protocol": 4,
        "packets_sent": 4,
        "packets_received": 3,
        "loss_percent": 25.0,
        "rtt_min": 0.01,
        "rtt_max": 0.03,
        "hop_limit": 57,
    }


@pytest.mark.anyio
async def test_a_success_takes_as_long_as_one_round_trip_and_phases_add_up() -> None:
    result = await execute(Scripted([0.01, 0.03]), count=2)
    assert result.duration_seconds == pytest.approx(0.02)
    assert list(result.phases) == ["resolve", "processing"]
    assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("echoes", "expect"),
    [([None, None], {}), ([0.01, None], {"loss": "== 0"}), ([0.5, 0.1], {"latency": "1ms"}), ([DENIED], {})],
)
async def test_phases_add_up_whatever_went_wrong(echoes: Echoes, expect: dict[str, str]) -> None:
    result = await execute(Scripted(echoes), count=len(echoes), expect=expect)
    assert result.outcome is not Outcome.SUCCESS
    assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)


@pytest.mark.anyio
async def test_all_packets_have_left_and_been_awaited_before_the_deadline() -> None:
    network = Scripted([0.001] * 4)
    result = await execute(network, count=4, timeout="4s")
    assert [wait for _, wait in network.asked] == pytest.approx([3.9, 2.925, 1.95, 0.975])
    assert told(result) == []


@pytest.mark.anyio
async def test_packets_are_at_most_a_second_apart() -> None:
    network = Scripted([0.001] * 3)
    await execute(network, count=3, timeout="30s", interval="30s")
    assert [wait for _, wait in network.asked] == pytest.approx([29.9, 28.9, 27.9])


@pytest.mark.anyio
async def test_packets_are_as_far_apart_as_declared() -> None:
    network = Scripted([0.001] * 3)
    await execute(network, count=3, packet_interval="200ms")
    assert [wait for _, wait in network.asked] == pytest.approx([4.9, 4.7, 4.5])


@pytest.mark.anyio
async def test_a_host_that_never_answers_is_a_loss_and_no_timeout() -> None:
    class Silent(Scripted):
        async def echo(self, address: str, *, timeout_seconds: float) -> EchoReply | None:
            await anyio.sleep(timeout_seconds)
            return None

    result = await execute(Silent([]), count=2)
    assert result.duration_seconds == pytest.approx(4.9)
    assert told(result) == [(Reason.LOSS, "loss must be < 100%, got 100% (2 of 2 packets lost)")]


@pytest.mark.anyio
@pytest.mark.usefixtures("kernel_allows_icmp")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_loopback_loses_nothing() -> None:
    async with open_network() as network:
        result = await execute(network, host="127.0.0.1", count=3, timeout="2s", expect={"loss": "== 0%"})
    assert told(result) == []
    assert (result.facts["packets_received"], result.facts["hop_limit"]) == (3, 64)
    assert 0 < result.facts["rtt_min"] <= result.facts["rtt_avg"] <= result.facts["rtt_max"]
