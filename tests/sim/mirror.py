"""What the board must show: each check as the events alone tell it, by rules of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import lt

from watchbill.board import CheckState
from watchbill.domain.checks import Check, Heartbeat
from watchbill.domain.messages import CheckDeleted, CheckRegistered
from watchbill.domain.opening import Opening
from watchbill.domain.results import Outcome, Reason, Result, Trigger
from watchbill.domain.status import Status
from watchbill.domain.units import Instant, to_micros

COUNTED = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ERROR, Outcome.SKIPPED, Outcome.EXCUSED)
_STATUS_AFTER = {Outcome.SUCCESS: Status.UP, Outcome.FAILURE: Status.DOWN}


@dataclass(eq=False)
class Told:
    """One check. ``shown``: what the board's counters stood at when they were last looked at."""

    check: Check
    slots: Counter[Outcome] = field(default_factory=Counter)
    latest: Result | None = None
    status: Status = Status.UNKNOWN
    reason: Reason | None = None
    last_seen: Instant = 0
    shown: dict[Outcome, int] = field(default_factory=dict)

    def take(self, result: Result) -> None:
        self.latest = result
        self.slots[result.outcome] += result.trigger is Trigger.SCHEDULE
        self.status = _STATUS_AFTER.get(result.outcome, self.status)
        if result.outcome is Outcome.FAILURE:
            self.reason = result.reason

    def difference(self, state: CheckState, *, missed_at_start: int) -> str | None:
        """How the board differs from what happened; what was missed at the start is added after a minute."""
        slots, shown, happened = state.slots, self.shown, self.slots
        if [slots[outcome] for outcome in COUNTED] != [happened[outcome] for outcome in COUNTED]:
            return f"{dict(slots)} on the board, {dict(self.slots)} happened"
        if shown and any(map(lt, slots.values(), shown.values())):
            return f"counters went back from {shown} to {dict(slots)}"
        missed = self.slots[Outcome.MISSED]
        if slots[Outcome.MISSED] not in {missed, missed + missed_at_start}:
            return f"{slots[Outcome.MISSED]} slots are missed on the board, {missed} were"
        if state.latest is not self.latest and state.latest != self.latest:
            return f"the board's latest is {state.latest}, the last published {self.latest}"
        if state.status is not self.status:
            return f"{state.status} on the board, {self.status} by its results"
        self.shown = dict(slots)
        return None

    def late_heartbeat(self, at: Instant) -> bool:
        assert isinstance(self.check, Heartbeat)
        return at - self.last_seen > to_micros(self.check.every) + to_micros(self.check.grace)


@dataclass
class Mirror:
    """Every check that is registered, by id."""

    checks: dict[str, Told] = field(default_factory=dict)
    missed_at_start: Mapping[str, int] = field(default_factory=dict)
    _moving: dict[str, Told] = field(default_factory=dict)

    def registered(self, event: CheckRegistered) -> None:
        check, previous = event.check, event.previous
        told = self.checks.get(check.id)
        if told is None:
            told = self._new(event)
        elif previous is None or previous.type != check.type:
            told = Told(check, last_seen=told.last_seen)
        if previous is not None and check.enabled and not (previous.enabled and previous.type == check.type):
            told.last_seen = event.at
        told.check = check
        self.checks[check.id] = told

    def deleted(self, event: CheckDeleted) -> None:
        told = self.checks.pop(event.check.id)
        if event.moved_to is not None:
            self._moving[event.moved_to] = told

    def restored(self, opening: Opening, at: Instant) -> None:
        """What history knew of these checks when the process started."""
        seen, self.missed_at_start = opening.last_seen(), opening.missed_until(at)
        for check_id, told in self.checks.items():
            latest = opening.latest.get(check_id)
            if latest is not None:
                told.latest = latest
                if latest.outcome is Outcome.FAILURE:
                    told.reason = latest.reason
            told.status = opening.statuses.get(check_id, told.status)
            told.last_seen = seen.get(check_id, told.last_seen)

    def missed(self, counts: Mapping[str, int]) -> None:
        for check_id, count in counts.items():
            if check_id in self.checks:
                self.checks[check_id].slots[Outcome.MISSED] += count

    def service(self, name: str) -> Status:
        members = [told for told in self.checks.values() if told.check.service == name]
        known = {told.status for told in members if told.check.enabled} - {Status.UNKNOWN}
        if not known:
            return Status.UNKNOWN
        return known.pop() if len(known) == 1 else Status.DEGRADED

    def _new(self, event: CheckRegistered) -> Told:
        before = self._moving.pop(event.check.id, None)
        if before is None:
            return Told(event.check, last_seen=event.at)
        told = Told(event.check, last_seen=before.last_seen, status=before.status, reason=before.reason)
        if before.latest is not None and before.check.type == event.check.type:
            told.latest = replace(before.latest, check_id=event.check.id)
        return told
