"""A result as one row of plain values, and back.

Lengths of time become whole microseconds: what the clock measured beyond that is noise, and rounded columns
compress to 24 bytes a row instead of 62.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from watchbill.domain.discovery import TargetGroup
from watchbill.domain.history import StoredResult
from watchbill.domain.messages import SlotSkipped
from watchbill.domain.results import PHASES, Failure, Outcome, Reason, Result, Trigger
from watchbill.domain.stalls import STALLED
from watchbill.domain.units import SECOND, Instant, Micros

LONGEST_MESSAGE = 2_000
FACTS_SHARED_FOR: Micros = 86_400 * SECOND
_MEASURED = frozenset({"dns_lookup_seconds", "rtt_min", "rtt_avg", "rtt_max", "rtt_stddev", STALLED})
"""Facts that are another number with each probe: kept among the facts, each row would need facts of its own."""


class Row(NamedTuple):
    """One row of ``result`` without its keys. ``phases`` stand in the order of :data:`PHASES`."""

    check_id: str
    location: str
    slot: Instant
    trigger: str
    started_at: Instant | None
    duration: Micros | None
    phases: tuple[Micros | None, ...]
    outcome: str
    verdict: str | None
    reason: str | None
    status_code: int | None
    message: str
    failures: str | None
    facts: Mapping[str, Any] | None
    stalled: Micros | None = None
    """For how long our own event loop stood still meanwhile: its duration is no latency."""


NO_PHASES: tuple[Micros | None, ...] = (None,) * len(PHASES)


def row_of(result: Result) -> Row:
    failures = None
    if len(result.failures) > 1:
        failures = json.dumps([[failure.reason, failure.message] for failure in result.failures])
    return Row(
        check_id=result.check_id,
        location=result.location,
        slot=result.slot,
        trigger=result.trigger.value,
        started_at=result.started_at,
        duration=round(result.duration_seconds * SECOND),
        phases=_lengths(result.phases),
        outcome=result.outcome.value,
        verdict=None if result.verdict is None else result.verdict.value,
        reason=reason.value if result.failures and (reason := result.reason) is not None else None,
        status_code=result.status_code,
        message=storable(result.message)[:LONGEST_MESSAGE] if result.failures else "",
        failures=failures,
        facts={name: value for name, value in result.facts.items() if name not in _MEASURED} or None,
        stalled=_micros(result.facts.get(STALLED)),
    )


def row_of_skipped(event: SlotSkipped) -> Row:
    return Row(
        event.check_id, event.location, event.slot, Trigger.SCHEDULE.value, None, None, NO_PHASES,
        Outcome.SKIPPED.value, None, event.reason.value, None, "", None, None,
    )  # fmt: skip


def result_of(row: Row) -> Result:
    """The result a row was made of (its lengths of time in whole microseconds)."""
    return Result(
        check_id=row.check_id,
        location=row.location,
        slot=row.slot,
        trigger=Trigger(row.trigger),
        started_at=row.slot if row.started_at is None else row.started_at,
        duration_seconds=(row.duration or 0) / SECOND,
        outcome=Outcome(row.outcome),
        failures=_failures(row),
        phases=phases_of(row.phases),
        status_code=row.status_code,
        facts=_facts(row),
        verdict=None if row.verdict is None else Outcome(row.verdict),
    )


def _facts(row: Row) -> Mapping[str, Any]:
    facts = dict(row.facts or {})
    resolve = row.phases[0]
    if resolve is not None and "address" in facts and not facts.get("redirects"):
        facts["dns_lookup_seconds"] = resolve / SECOND
    if row.stalled is not None:
        facts[STALLED] = row.stalled / SECOND
    return facts


def stored_result_of(row: Row) -> StoredResult:
    return StoredResult(
        check_id=row.check_id,
        location=row.location,
        slot=row.slot,
        trigger=Trigger(row.trigger),
        started_at=row.started_at,
        duration_seconds=None if row.duration is None else row.duration / SECOND,
        outcome=row.outcome,
        reason=row.reason,
        message=row.message,
        status_code=row.status_code,
        phases=phases_of(row.phases),
        stalled_seconds=None if row.stalled is None else row.stalled / SECOND,
    )


def phases_of(micros: Sequence[Micros | None]) -> Mapping[str, float]:
    return {
        phase: length / SECOND for phase, length in zip(PHASES, micros, strict=True) if length is not None
    }


def storable(text: str) -> str:
    """Text that any store takes: a lone surrogate (from a target's bytes) is no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def _lengths(phases: Mapping[str, float]) -> tuple[Micros | None, ...]:
    lengths = map(phases.get, PHASES)
    return tuple([None if seconds is None else round(seconds * SECOND) for seconds in lengths])


def _micros(seconds: float | None) -> Micros | None:
    return None if seconds is None else round(seconds * SECOND)


def _failures(row: Row) -> tuple[Failure, ...]:
    if row.failures is not None:
        pairs: list[tuple[str, str]] = json.loads(row.failures)
        return tuple(Failure(Reason(reason), message) for reason, message in pairs)
    return () if row.reason is None else (Failure(Reason(row.reason), row.message),)


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """The value below which that share lies, between two neighbours in a straight line."""
    if not ascending:
        return None
    place = share * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)


def latest_horizon(newest: Instant, longest_interval: Micros) -> Instant:
    """How far back a latest result may lie and still be shown: 2 x interval + timeout, at least an hour."""
    return newest - max(3 * longest_interval, 3_600 * SECOND)


def group_text(group: TargetGroup) -> str:
    """All of a group but where it comes from."""
    return json.dumps([[dict(target) for target in group.targets], dict(group.labels)], separators=(",", ":"))


def group_of(source: str, text: str) -> TargetGroup:
    targets, labels = json.loads(text)
    return TargetGroup(source, tuple(targets), labels)
