"""Every probe, watched from outside: when it begins, that it is alone, and whether it found what was there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.sim.machine import Machine
from tests.sim.mirror import Mirror
from tests.sim.network import SimulatedNetwork
from tests.sim.truth import Meanwhile, contradiction, host_of
from watchbill.clock import Clock
from watchbill.domain.checks import Check, Heartbeat
from watchbill.domain.messages import SlotSkipped
from watchbill.domain.results import OWN_SIDE, Outcome, Result, SkipReason, Trigger
from watchbill.domain.units import SECOND, Instant
from watchbill.ports import Execute

LATEST_SECONDS = 0.2
"""After its slot a probe has begun, where nothing holds it up."""
UNJUDGED_KEPT = 500


@dataclass(frozen=True)
class Seen:
    """One probe: from when to when on the loop's clock, and for a heartbeat whether it was late then."""

    check: Check
    since: float
    until: float
    late: tuple[bool, bool] = (False, False)


@dataclass
class Watch:
    """``breaks`` is told of each promise that is not kept. ``unhurried_until``: until then slots may run late."""

    machine: Machine
    network: SimulatedNetwork
    clock: Clock
    mirror: Mirror
    breaks: Callable[[str], None]
    probes: int = 0
    under_way: Counter[str] = field(default_factory=Counter)
    unhurried_until: float = 0.0
    _seen: dict[tuple[str, Trigger, Instant], Seen] = field(default_factory=dict)

    def watching(self, execute: Execute) -> Execute:
        async def watched(
            check: Check, slot: Instant | None = None, trigger: Trigger = Trigger.SCHEDULE
        ) -> Result:
            begun, since, key = self.clock.now(), self.machine.monotonic(), self._begins(check, slot, trigger)
            late = self._late(check, begun)
            try:
                result = await execute(check, slot=slot, trigger=trigger)
            finally:
                self.under_way[key] -= 1
            late = late, self._late(check, self.clock.now())
            self._seen[check.id, trigger, result.started_at] = Seen(
                check, since, self.machine.monotonic(), late
            )
            return result

        return watched

    def may_hurry_after(self, seconds: float) -> None:
        """For so long slots may run late."""
        self.unhurried_until = self.machine.monotonic() + seconds

    @property
    def running(self) -> int:
        return self.under_way.total()

    def _begins(self, check: Check, slot: Instant | None, trigger: Trigger) -> str:
        self.probes += 1
        key = f"{check.id} by hand" if trigger is Trigger.MANUAL else check.id
        if self.under_way[key] and trigger is not Trigger.MANUAL:
            self.breaks(f"{check.id} is probed twice at once")
        self.under_way[key] += 1
        if slot is not None:
            self._judge_begin(check, slot)
        return key

    def _judge_begin(self, check: Check, slot: Instant) -> None:
        late = (self.clock.now() - slot) / SECOND
        if late < 0:
            self.breaks(f"{check.id} is probed before its slot {slot}")
        if late > LATEST_SECONDS and not self._held_up(late):
            self.breaks(f"{check.id} is probed {late} s after its slot {slot}, and nothing held it up")

    def _held_up(self, seconds: float) -> bool:
        now = self.machine.monotonic()
        return now <= self.unhurried_until or self.machine.stood_still(now - seconds - 1)

    def judge_skip(self, event: SlotSkipped) -> None:
        """Why a slot is skipped is known, too."""
        late = (self.clock.now() - event.slot) / SECOND
        busy = self.under_way[event.check_id]
        if event.reason is SkipReason.OVERLAP and not busy and not self._held_up(late):
            self.breaks(f"{event} though no probe of it is under way")
        if event.reason is SkipReason.OVERLOAD and not self._held_up(late):
            self.breaks(f"{event}, and nothing held it up")

    # --- what it found ------------------------------------------------------------------------------

    def judge(self, result: Result) -> None:
        seen = self._seen.pop((result.check_id, result.trigger, result.started_at), None)
        if len(self._seen) > UNJUDGED_KEPT:  # results that nobody was to hear of
            self._seen.clear()
        if seen is None:
            return
        found = (
            self._heartbeat(result, seen) if isinstance(seen.check, Heartbeat) else self._probe(result, seen)
        )
        if found is not None:
            self.breaks(f"{found}: {result}")

    def _probe(self, result: Result, seen: Seen) -> str | None:
        stalls, machine = self.machine.stalls, self.network.trouble
        measured_until = seen.since + result.duration_seconds
        course = self.network.targets[host_of(seen.check)].course
        truth = Meanwhile(
            behaviours=course.over(seen.since, seen.until),
            troubles=machine.over(seen.since, seen.until),
            stalls=[end - begin for begin, end in stalls if seen.since <= begin and end <= measured_until],
            touched_by_stall=any(end >= seen.since and begin <= seen.until for begin, end in stalls),
        )
        return contradiction(result, seen.check, truth)

    def _heartbeat(self, result: Result, seen: Seen) -> str | None:
        if result.reason in OWN_SIDE or seen.late[0] is not seen.late[1]:
            return None
        if (result.outcome is Outcome.FAILURE) is not seen.late[0]:
            return (
                f"{result.outcome}, though the last heartbeat is {'long' if seen.late[0] else 'not long'} ago"
            )
        return None

    def _late(self, check: Check, at: Instant) -> Any:
        told = self.mirror.checks.get(check.id)
        if told is None or not isinstance(told.check, Heartbeat) or not isinstance(check, Heartbeat):
            return False
        return told.late_heartbeat(at)
