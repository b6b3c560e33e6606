"""From results to a status: what they say of a check, and of the service it belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from watchbill.domain.results import Outcome
from watchbill.domain.units import Instant


class Status(StrEnum):
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


STATUS_VALUE = {Status.UP: 1.0, Status.DEGRADED: 0.5, Status.DOWN: 0.0}
"""As Prometheus reads it; an unknown status has no value."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A change of a check's status."""

    check_id: str
    at: Instant
    before: Status
    after: Status


def fold(status: Status, outcome: Outcome) -> Status:
    """The status after one more result: the last success or failure; whatever else leaves it."""
    match outcome:
        case Outcome.SUCCESS:
            return Status.UP
        case Outcome.FAILURE:
            return Status.DOWN
        case _:
            return status


def roll_up(members: Iterable[Status]) -> Status:
    """A service is up when all its known checks are, down when all are down, else degraded."""
    known = {status for status in members if status is not Status.UNKNOWN}
    if not known:
        return Status.UNKNOWN
    return known.pop() if len(known) == 1 else Status.DEGRADED
