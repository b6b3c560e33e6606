"""Whether our own side kept a target from answering in time, where only silence or slowness speaks against it."""

from __future__ import annotations

from ipaddress import ip_address

from watchbill.domain.checks import Check, Icmp
from watchbill.domain.results import Failure, Reason
from watchbill.ports import WayLost
from watchbill.probes.attempt import Attempt

_OF_SILENCE = frozenset(
    {Reason.CONNECT_TIMEOUT, Reason.TIMEOUT, Reason.UNREACHABLE, Reason.RESET, Reason.LOSS}
)
_OF_TIME = frozenset({Reason.CONNECT_TIMEOUT, Reason.TIMEOUT, Reason.LOSS, Reason.LATENCY})
TELLING_SHARE = 0.5
"""A target that was asked nothing for half of the timeout, since its name was being looked up, was not silent for it."""


def own_side(check: Check, attempt: Attempt, way_lost: WayLost) -> Failure | None:
    """What is to stand for the failures of an attempt that has ended, its phases stopped; ``None``: they stand."""
    reasons = {failure.reason for failure in attempt.failures}
    said = "; ".join(failure.message for failure in attempt.failures)
    address = str(attempt.facts.get("address", ""))
    if reasons <= _OF_SILENCE and _is_literal(address):
        # What was sent before the way was lost has no answer, and no error either.
        lost = way_lost(address, getattr(check, "source_address", None))
        if lost is not None:
            return Failure(Reason.NETWORK, f"this machine has lost its way to {address}: {lost} ({said})")
    looked_up = attempt.phases.seconds.get("resolve", 0.0)
    long = looked_up >= TELLING_SHARE * check.timeout.total_seconds()
    if long and reasons <= _OF_TIME and not _slow_by_itself(check, attempt, looked_up):
        return Failure(
            Reason.RESOLVER,
            f"the lookup took {looked_up:.2f} s, so nothing is known of the target ({said})",
        )
    return None


def _slow_by_itself(check: Check, attempt: Attempt, looked_up_seconds: float) -> bool:
    """Whether it took longer than it may without the lookup as well; the round trip of a packet has none."""
    if not any(failure.reason is Reason.LATENCY for failure in attempt.failures):
        return False
    limit = getattr(getattr(check, "expect", None), "latency", None)
    if limit is None or isinstance(check, Icmp):
        return True
    return bool(attempt.phases.stop() - looked_up_seconds > limit.total_seconds())


def _is_literal(address: str) -> bool:
    try:
        ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return True
