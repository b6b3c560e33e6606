"""What a stall of our own event loop does to a result: it is marked, and where only time spoke against the target
it is no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from watchbill.domain.checks import Check
from watchbill.domain.results import Failure, Outcome, Reason, Result
from watchbill.domain.units import SECOND, Instant, Micros, to_micros

STALLED = "stalled_seconds"
"""The fact that marks a result: for how long at least this process stood still during the probe."""
LONG: Micros = 2 * SECOND
"""Whatever was found over a stall longer than this says nothing."""
UNSEEN: Micros = 50_000
"""How much of a stall may have passed before it was seen to begin."""
TELLING_SHARE = 0.1
"""A target that was silent for nine tenths of its timeout was silent."""
_OF_TIME = frozenset({Reason.CONNECT_TIMEOUT, Reason.TIMEOUT, Reason.LOSS, Reason.LATENCY})


@dataclass(frozen=True, slots=True)
class Stall:
    """From when at the latest until when nothing ran."""

    begin: Instant
    end: Instant


def judge(result: Result, check: Check, stalls: Sequence[Stall]) -> Result:
    """The result in the light of the stalls that reached into its probe."""
    start, end = result.started_at, result.started_at + round(result.duration_seconds * SECOND)
    within = [stall for stall in stalls if stall.begin < end and stall.end > start]
    if not within:
        return result
    overlaps = [min(stall.end, end) - max(stall.begin, start) for stall in within]
    lost = sum(overlaps)
    marked = replace(result, facts={**result.facts, STALLED: lost / SECOND})
    for stall, overlap in zip(within, overlaps, strict=True):
        # A probe that shares no more with it began once it was over, a turn before that was seen.
        if stall.end - stall.begin > LONG and overlap > UNSEEN:
            return _unknown(marked, lost)
    if result.outcome is Outcome.FAILURE and _might_have_met(result, check, within, lost):
        return _unknown(marked, lost)
    return marked


def _might_have_met(result: Result, check: Check, stalls: Sequence[Stall], lost: Micros) -> bool:
    """Whether only time speaks against the target, and it may have been in time, had we not been late."""
    reasons = {failure.reason for failure in result.failures}
    if not reasons <= _OF_TIME:
        return False
    if reasons != {Reason.LATENCY}:
        end = result.started_at + round(result.duration_seconds * SECOND)
        unread = any(stall.end >= end - UNSEEN for stall in stalls)  # an answer may have been waiting
        return unread or lost >= TELLING_SHARE * to_micros(check.timeout)
    limit = getattr(getattr(check, "expect", None), "latency", None)
    took = result.facts.get("rtt_avg", result.duration_seconds)
    return limit is None or bool(took - (lost + UNSEEN) / SECOND <= limit.total_seconds())


def _unknown(result: Result, lost: Micros) -> Result:
    said = f" ({result.message})" if result.failures else ""
    stall = Failure(
        Reason.STALL,
        f"this process stood still for {lost / 1000:.0f} ms during the probe, "
        f"so nothing is known of the target{said}",
    )
    return replace(result, outcome=Outcome.ERROR, failures=(stall,))
