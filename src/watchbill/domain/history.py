"""What history takes in, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from watchbill.domain.messages import Event
from watchbill.domain.results import Trigger
from watchbill.domain.units import Instant


@dataclass(frozen=True, slots=True)
class Batch:
    """What is committed together: events in the order they happened, and how far accounting has come."""

    events: Sequence[Event]
    accounted_until: Instant


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One row of history: a probe, or a slot that was skipped (``outcome`` skipped, ``reason`` why).

    ``stalled_seconds``: for how long our own event loop stood still meanwhile; its duration is then not the target's.
    """

    check_id: str
    location: str
    slot: Instant
    trigger: Trigger
    started_at: Instant | None
    duration_seconds: float | None
    outcome: str
    reason: str | None
    message: str
    status_code: int | None
    phases: Mapping[str, float]
    stalled_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Every slot of one check over a period, by how it ended. ``latency_*`` are of successes, in seconds.

    ``expected`` = the sum of all that follow it up to ``unaccounted``, which must be 0.
    """

    check_id: str
    location: str
    service: str
    type: str
    expected: int
    success: int
    failure: int
    error: int
    skipped: int
    excused: int
    missed: int
    unaccounted: int
    latency_p50: float | None = None
    latency_p95: float | None = None
    latency_p99: float | None = None
