"""Everything that is said on the bus: commands ask for something, events say what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.discovery import TargetGroup
from watchbill.domain.plan import Plan
from watchbill.domain.results import GapReason, Result, SkipReason, Trigger
from watchbill.domain.status import Flip, Status
from watchbill.domain.units import Instant

# --- commands -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterCheck:
    """Run this check from ``at`` on (now, if absent). It replaces a check of the same id."""

    check: Check
    at: Instant | None = None
    moved_from: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteCheck:
    check_id: str
    at: Instant | None = None
    moved_to: str | None = None


@dataclass(frozen=True, slots=True)
class ExecuteChecks:
    """Probe these checks once. ``slot`` is set by the scheduler alone."""

    check_ids: tuple[str, ...]
    trigger: Trigger = Trigger.MANUAL
    slot: Instant | None = None


@dataclass(frozen=True, slots=True)
class RecordHeartbeat:
    check_id: str


@dataclass(frozen=True, slots=True)
class ReloadConfig:
    """Read the configuration again and make it so. ``cause`` is for the log (signal, http, change)."""

    cause: str
    allow_mass_delete: bool = False


@dataclass(frozen=True, slots=True)
class ApplyTargets:
    """Make the checks of one block of ``discover`` those of the targets that its source has now, all of them."""

    discovery: str
    groups: Sequence[TargetGroup]


Command: TypeAlias = (
    RegisterCheck | DeleteCheck | ExecuteChecks | RecordHeartbeat | ReloadConfig | ApplyTargets
)

# --- events -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckRegistered:
    """``previous`` is the revision it replaces; ``moved_from`` the id whose history it carries on."""

    check: Check
    at: Instant
    location: str
    previous: Check | None = None
    moved_from: str | None = None


@dataclass(frozen=True, slots=True)
class CheckDeleted:
    check: Check
    at: Instant
    location: str
    moved_to: str | None = None


@dataclass(frozen=True, slots=True)
class CheckSucceeded:
    result: Result


@dataclass(frozen=True, slots=True)
class CheckFailed:
    result: Result


@dataclass(frozen=True, slots=True)
class CheckErrored:
    result: Result


@dataclass(frozen=True, slots=True)
class SlotSkipped:
    check_id: str
    location: str
    slot: Instant
    reason: SkipReason


@dataclass(frozen=True, slots=True)
class SlotsMissed:
    """A gap: slots in [start, end) that have no row of their own were run by nobody."""

    start: Instant
    end: Instant
    reason: GapReason
    location: str
    counts: Mapping[str, int] = field(default_factory=dict)
    """Slots missed by check id, where the sender knows them; not stored."""


@dataclass(frozen=True, slots=True)
class HeartbeatReceived:
    check_id: str
    at: Instant


@dataclass(frozen=True, slots=True)
class CheckStatusChanged:
    flip: Flip


@dataclass(frozen=True, slots=True)
class ServiceStatusChanged:
    service: str
    at: Instant
    before: Status
    after: Status


@dataclass(frozen=True, slots=True)
class ConfigReloaded:
    loaded: LoadedConfig
    plan: Plan
    at: Instant
    cause: str


@dataclass(frozen=True, slots=True)
class ConfigRejected:
    """The new configuration changed nothing; ``error`` is one line a problem."""

    error: str
    at: Instant
    cause: str


@dataclass(frozen=True, slots=True)
class TargetsFound:
    """What of a source's groups is new or other than before, and the sources of those that are gone: for history."""

    discovery: str
    changed: Sequence[TargetGroup]
    gone: Sequence[str]
    at: Instant


@dataclass(frozen=True, slots=True)
class TargetsApplied:
    """The checks of one block are those of its targets. ``loaded``: the same configuration, with the checks of now."""

    discovery: str
    loaded: LoadedConfig
    plan: Plan
    at: Instant


Event: TypeAlias = (
    CheckRegistered
    | CheckDeleted
    | CheckSucceeded
    | CheckFailed
    | CheckErrored
    | SlotSkipped
    | SlotsMissed
    | HeartbeatReceived
    | CheckStatusChanged
    | ServiceStatusChanged
    | ConfigReloaded
    | ConfigRejected
    | TargetsFound
    | TargetsApplied
)
ProbeEvent: TypeAlias = CheckSucceeded | CheckFailed | CheckErrored
