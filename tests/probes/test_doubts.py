"""A target that our own side kept from answering is not shown as down."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from tests.probes.test_execute import Seconds, a_check
from watchbill.domain.results import Failure, Reason
from watchbill.net import way_lost
from watchbill.probes.attempt import Attempt, PhaseClock
from watchbill.probes.doubts import own_side

ADDRESS = "192.0.2.7"


def lost(address: str, source: str | None) -> str | None:
    return "network is unreachable" if address == ADDRESS else None


def an_attempt(*reasons: Reason, lookup_seconds: float = 0.0, **facts: Any) -> Attempt:
    attempt = Attempt(PhaseClock(lambda: 0.0), facts=facts)
    attempt.phases.seconds["resolve"] = lookup_seconds
    attempt.failures = [Failure(reason, f"it was {reason}") for reason in reasons]
    return attempt


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.CONNECT_TIMEOUT, Reason.UNREACHABLE, Reason.LOSS])
def test_a_target_to_which_the_way_was_lost_is_not_down(reason: Reason) -> None:
    doubt = own_side(a_check(timeout="1s"), an_attempt(reason, address=ADDRESS), lost)
    message = f"this machine has lost its way to {ADDRESS}: network is unreachable (it was {reason})"
    assert doubt == Failure(Reason.NETWORK, message)


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.STATUS, Reason.CERTIFICATE])
def test_what_a_target_said_stands(reason: Reason) -> None:
    attempt = an_attempt(reason, Reason.TIMEOUT, lookup_seconds=0.9, address=ADDRESS)
    assert own_side(a_check(timeout="1s"), attempt, lost) is None


@pytest.mark.parametrize("address", ["192.0.2.8", "/run/some.socket", ""])
def test_a_target_to_which_there_is_a_way_was_silent_itself(address: str) -> None:
    assert own_side(a_check(timeout="1s"), an_attempt(Reason.TIMEOUT, address=address), lost) is None


@pytest.mark.parametrize("spoke", [Reason.TIMEOUT, Reason.CONNECT_TIMEOUT, Reason.LOSS])
@pytest.mark.parametrize(
    ("seconds", "reason"), [(0.49, None), (0.5, Reason.RESOLVER), (1.0, Reason.RESOLVER)]
)
def test_a_lookup_that_took_most_of_the_time_leaves_nothing_known(
    seconds: float, reason: Reason | None, spoke: Reason
) -> None:
    doubt = own_side(a_check(timeout="1s"), an_attempt(spoke, lookup_seconds=seconds), lost)
    assert (doubt and doubt.reason) == reason


@pytest.mark.parametrize(
    ("kind", "lookup_seconds", "other_seconds", "reason"),
    [
        ("tcp", 0.6, 0.1, Reason.RESOLVER),
        ("tcp", 0.6, 0.3, None),  # it is slow by itself as well
        ("tcp", 0.4, 0.1, None),
        ("icmp", 0.6, 0.1, None),  # its latency is that of its packets
    ],
)
def test_a_latency_that_a_long_lookup_alone_exceeded_is_none_of_the_targets(
    kind: str, lookup_seconds: float, other_seconds: float, reason: Reason | None
) -> None:
    seconds = Seconds()
    attempt = Attempt(PhaseClock(seconds))
    for phase, took in (("resolve", lookup_seconds), ("processing", other_seconds)):
        attempt.phases.start(phase)
        seconds.pass_by(took)
    attempt.phases.stop()
    attempt.fail(Reason.LATENCY, "latency must be at most 200ms")
    doubt = own_side(a_check(kind, timeout="1s", expect={"latency": "200ms"}), attempt, lost)
    assert (doubt and doubt.reason) == reason


def test_the_kernel_says_at_once_whether_there_is_a_way() -> None:
    assert way_lost("127.0.0.1") is None
    assert way_lost("127.0.0.1", "127.0.0.1") is None
    assert way_lost("127.0.0.1", "192.0.2.66") == "cannot assign requested address"


def test_a_kernel_that_has_no_route_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(self: socket.socket, address: object) -> None:
        raise OSError(errno.ENETUNREACH, "as it would")

    monkeypatch.setattr(socket, "socket", type("Endpoint", (socket.socket,), {"connect": connect}))
    assert way_lost("192.0.2.1") == "network is unreachable"


def test_a_kernel_that_cannot_tell_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "none left")

    monkeypatch.setattr(socket, "socket", refuse)
    assert way_lost("192.0.2.1") is None
