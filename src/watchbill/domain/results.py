"""What one probe found, and how a slot ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from watchbill.domain.units import Instant

if TYPE_CHECKING:
    from watchbill.domain.tracing import Trace


class Outcome(StrEnum):
    """How a slot ended; exactly one for every slot that was expected."""

    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    SKIPPED = "skipped"
    EXCUSED = "excused"
    MISSED = "missed"


class Trigger(StrEnum):
    """Why a probe ran. Only ``schedule`` rows belong to slots."""

    SCHEDULE = "schedule"
    REGISTERED = "registered"
    MANUAL = "manual"


class Reason(StrEnum):
    """Why a probe did not succeed. The order is the precedence: the first that applies is the label."""

    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    CERTIFICATE = "certificate"
    TIMEOUT = "timeout"
    RESET = "reset"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"
    REDIRECT = "redirect"
    STATUS = "status"
    HEADER = "header"
    BODY = "body"
    JSON = "json"
    SCHEMA = "schema"
    ANSWER = "answer"
    LOSS = "loss"
    LATENCY = "latency"
    MISSING = "missing"
    # From here on the fault is on our own side: the outcome is `error`, never `failure`.
    DESCRIPTORS = "descriptors"
    NETWORK = "network"
    RESOLVER = "resolver"
    PERMISSION = "permission"
    STALL = "stall"
    INTERNAL = "internal"


OWN_SIDE = frozenset(
    {Reason.DESCRIPTORS, Reason.NETWORK, Reason.RESOLVER, Reason.PERMISSION, Reason.STALL, Reason.INTERNAL}
)
TARGET_REASONS = tuple(reason for reason in Reason if reason not in OWN_SIDE)
_PRECEDENCE = {reason: index for index, reason in enumerate(Reason)}


class SkipReason(StrEnum):
    """Why a due slot was not probed."""

    OVERLAP = "overlap"
    OVERLOAD = "overload"
    SHUTDOWN = "shutdown"
    DELETED = "deleted"


class GapReason(StrEnum):
    """Why nobody ran the slots of a stretch of time."""

    RESTART = "restart"
    STALL = "stall"
    CLOCK = "clock"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that was not as declared: what was expected and what was seen, in one line."""

    reason: Reason
    message: str


Phase: TypeAlias = str
PHASES: tuple[Phase, ...] = ("resolve", "connect", "tls", "processing", "transfer")

Facts: TypeAlias = Mapping[str, Any]
"""What a probe saw beside its verdict: JSON values under the names that ``docs/library.md`` lists."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one probe found.

    ``slot`` is the scheduled instant; a probe outside the slots (``trigger`` is not ``schedule``) carries
    the instant it was asked for. ``duration_seconds`` is measured around the probe on a monotonic clock,
    and the ``phases`` (seconds, only those reached) add up to it for the types that have phases.
    ``verdict`` is what the probe itself said where the outcome does not say it (``excused``). ``trace`` is
    there where the probe's span is to be exported, and is not stored.
    """

    check_id: str
    location: str
    slot: Instant
    trigger: Trigger
    started_at: Instant
    duration_seconds: float
    outcome: Outcome
    failures: tuple[Failure, ...] = ()
    phases: Mapping[Phase, float] = field(default_factory=dict)
    status_code: int | None = None
    facts: Facts = field(default_factory=dict)
    verdict: Outcome | None = None
    trace: Trace | None = None

    @property
    def reason(self) -> Reason | None:
        """The one reason that becomes the label: the first in :class:`Reason` order."""
        return primary(self.failures)

    @property
    def message(self) -> str:
        """All failures in one line, the most telling first."""
        return "; ".join(failure.message for failure in by_precedence(self.failures))


def by_precedence(failures: tuple[Failure, ...]) -> list[Failure]:
    return sorted(failures, key=lambda failure: _PRECEDENCE[failure.reason])


def primary(failures: tuple[Failure, ...]) -> Reason | None:
    return min((failure.reason for failure in failures), key=_PRECEDENCE.__getitem__, default=None)


def outcome_of(failures: tuple[Failure, ...]) -> Outcome:
    """``error`` where our own side is at fault, since then nothing is known of the target."""
    if not failures:
        return Outcome.SUCCESS
    if any(failure.reason in OWN_SIDE for failure in failures):
        return Outcome.ERROR
    return Outcome.FAILURE
