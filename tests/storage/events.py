"""Short ways to say what happened, for the storage tests."""

from __future__ import annotations

from typing import Any

from watchbill.domain.checks import Check, parse_check
from watchbill.domain.config import Config, LoadedConfig
from watchbill.domain.history import Batch
from watchbill.domain.messages import (
    CheckDeleted,
    CheckFailed,
    CheckRegistered,
    CheckStatusChanged,
    CheckSucceeded,
    ConfigReloaded,
    Event,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.plan import Plan
from watchbill.domain.results import Failure, GapReason, Outcome, Reason, Result, SkipReason, Trigger
from watchbill.domain.schedule import first_slot_after, offset_of
from watchbill.domain.status import Flip, Status
from watchbill.domain.units import SECOND, Instant, Micros

START: Instant = 1_790_000_000_000_000
DAY: Micros = 86_400 * SECOND


def check(check_id: str = "shop", *, interval: str = "10s", **declared: Any) -> Check:
    return parse_check(
        {
            "id": check_id,
            "type": "http",
            "url": "https://shop.example/",
            "interval": interval,
            "timeout": "1s",
            **declared,
        }
    )


def registered(
    one: Check | str, at: Instant = START, *, location: str = "", moved_from: str | None = None
) -> Event:
    return CheckRegistered(check(one) if isinstance(one, str) else one, at, location, moved_from=moved_from)


def deleted(check_id: str, at: Instant, *, moved_to: str | None = None) -> Event:
    return CheckDeleted(check(check_id), at, "", moved_to)


def slots(
    check_id: str, count: int, *, after: Instant = START, interval: Micros = 10 * SECOND
) -> list[Instant]:
    """The first ``count`` slots of a check strictly after an instant."""
    first = first_slot_after(after, interval=interval, offset=offset_of(check_id, interval))
    return [first + index * interval for index in range(count)]


def success(check_id: str, slot: Instant, **fields: Any) -> CheckSucceeded:
    return CheckSucceeded(result(check_id, slot, **fields))


def failure(
    check_id: str, slot: Instant, *, reason: Reason = Reason.STATUS, message: str = "expected 200, got 500"
) -> CheckFailed:
    return CheckFailed(
        result(check_id, slot, outcome=Outcome.FAILURE, failures=(Failure(reason, message),), status_code=500)
    )


def result(check_id: str, slot: Instant, **fields: Any) -> Result:
    values: dict[str, Any] = {
        "location": "",
        "trigger": Trigger.SCHEDULE,
        "started_at": slot + 1_500,
        "duration_seconds": 0.25,
        "outcome": Outcome.SUCCESS,
        "status_code": 200,
        "phases": {"resolve": 0.05, "connect": 0.2},
        **fields,
    }
    return Result(check_id=check_id, slot=slot, **values)


def skipped(check_id: str, slot: Instant, reason: SkipReason = SkipReason.OVERLAP) -> Event:
    return SlotSkipped(check_id, "", slot, reason)


def missed(
    start: Instant, end: Instant, reason: GapReason = GapReason.RESTART, *, location: str = ""
) -> Event:
    return SlotsMissed(start, end, reason, location)


def flipped(check_id: str, at: Instant, before: Status, after: Status) -> Event:
    return CheckStatusChanged(Flip(check_id, at, before, after))


def reloaded(at: Instant, *declared: str) -> Event:
    config = Config(checks={check_id: check(check_id) for check_id in declared})
    return ConfigReloaded(LoadedConfig(config, "digest", "f00d"), Plan(), at, "signal")


def batch(*events: Event, until: Instant = START + DAY) -> Batch:
    return Batch(events, until)
