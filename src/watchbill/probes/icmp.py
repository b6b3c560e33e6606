"""ICMP: a train of echo requests, its losses and its round trips."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import fsum, sqrt

import anyio

from watchbill.domain.checks import Icmp
from watchbill.domain.expectations import latency_failures
from watchbill.domain.results import Reason
from watchbill.ports import EchoReply, Network, NetworkError
from watchbill.probes.attempt import Attempt
from watchbill.probes.connections import way

LONGEST_SPACING_SECONDS = 1.0
LAST_WORD_SHARE = 0.1
LAST_WORD_SECONDS = 0.1


@dataclass(slots=True)
class _Train:
    """What became of the packets sent."""

    replies: list[EchoReply] = field(default_factory=list)
    unreachable: NetworkError | None = None
    own_side: NetworkError | None = None


async def probe(check: Icmp, attempt: Attempt, *, network: Network) -> None:
    """Send ``count`` requests, the first at once and the others at even distances: declared, or at most a second.

    A success takes as long as one round trip takes on average, so that its duration is a latency.
    The last replies are awaited until just before the timeout, so that packets lost are judged as loss.

    :raises NetworkError: where our own side cannot send, or the name has no address.
    """
    network = way(network, check)
    attempt.phases.start("resolve")
    address = await network.resolve(check.host, check.ip_family)
    attempt.phases.start("processing")
    resolving = attempt.phases.seconds["resolve"]
    attempt.facts |= {
        "address": address,
        "ip_protocol": 6 if ":" in address else 4,
        "dns_lookup_seconds": resolving,
    }
    timeout = check.timeout.total_seconds()
    left = timeout - resolving - min(LAST_WORD_SECONDS, LAST_WORD_SHARE * timeout)
    left = max(left, 0.001)
    train = await _send(address, check.count, _spacing(check, left), left, network)
    attempt.phases.stop()
    if train.own_side is not None:
        raise train.own_side
    _judge(check, train, attempt)


def _spacing(check: Icmp, within_seconds: float) -> float:
    if check.packet_interval is not None:
        declared = check.packet_interval.total_seconds()
        if (check.count - 1) * declared < within_seconds:  # a lookup that took long leaves less
            return declared
    return min(LONGEST_SPACING_SECONDS, within_seconds / check.count)


async def _send(address: str, count: int, spacing: float, within_seconds: float, network: Network) -> _Train:
    train = _Train()
    if count == 1:  # the usual case needs no tasks
        await _send_one(address, within_seconds, network, train)
        return train

    async def later(after_seconds: float) -> None:
        await anyio.sleep(after_seconds)
        await _send_one(address, within_seconds - after_seconds, network, train)
        if train.own_side is not None:
            packets.cancel_scope.cancel()

    async with anyio.create_task_group() as packets:
        for number in range(count):
            packets.start_soon(later, number * spacing, name=f"echo {number + 1}")
    return train


async def _send_one(address: str, within_seconds: float, network: Network, train: _Train) -> None:
    try:
        reply = await network.echo(address, timeout_seconds=within_seconds)
    except NetworkError as error:
        if error.reason is Reason.UNREACHABLE:
            train.unreachable = error
        else:
            train.own_side = error
    else:
        if reply is not None:
            train.replies.append(reply)


def _judge(check: Icmp, train: _Train, attempt: Attempt) -> None:
    lost = check.count - len(train.replies)
    loss = 100 * lost / check.count
    attempt.facts |= {
        "packets_sent": check.count,
        "packets_received": len(train.replies),
        "loss_percent": loss,
    }
    if train.unreachable is not None and not train.replies:
        attempt.fail(Reason.UNREACHABLE, train.unreachable.message)
    if not check.expect.loss.holds(loss):
        packets = f"{lost} of {check.count} packet{'s' if check.count > 1 else ''}"
        attempt.fail(Reason.LOSS, f"loss must be {check.expect.loss}%, got {loss:.3g}% ({packets} lost)")
    if train.replies:
        average = _round_trips(train.replies, attempt)
        attempt.failures += latency_failures(check.expect.latency, average, of="average round trip")
        if not attempt.failures:
            # The time between two packets is ours, not the target's.
            attempt.phases.settle("processing", average)


def _round_trips(replies: list[EchoReply], attempt: Attempt) -> float:
    """Their average; what else is to be said of them becomes facts."""
    seconds = [reply.round_trip_seconds for reply in replies]
    if len(seconds) == 1:
        least = most = average = seconds[0]
        deviation = 0.0
    else:
        least, most, average = min(seconds), max(seconds), fsum(seconds) / len(seconds)
        deviation = sqrt(fsum((each - average) ** 2 for each in seconds) / len(seconds))
    attempt.facts |= {"rtt_min": least, "rtt_avg": average, "rtt_max": most, "rtt_stddev": deviation}
    if replies[-1].hop_limit is not None:
        attempt.facts["hop_limit"] = replies[-1].hop_limit
    return average
