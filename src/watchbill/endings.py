"""How a slot ends that no probe ends: skipped, missed, or an error since its probe crashed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from watchbill.agenda import Entry, Running
from watchbill.clock import Clock
from watchbill.domain.messages import CheckErrored, Event, SlotSkipped, SlotsMissed
from watchbill.domain.results import Failure, GapReason, Outcome, Reason, Result, SkipReason, Trigger
from watchbill.domain.units import SECOND, Instant


class Endings:
    """Cut short or crashed, a probe whose slot has ended is left alone: each ends once."""

    def __init__(self, *, clock: Clock, publish: Callable[[Event], Awaitable[None]], location: str) -> None:
        self._clock = clock
        self._publish = publish
        self._location = location
        self.crashes = 0

    async def skip(self, slots: Iterable[Instant], entry: Entry, reason: SkipReason) -> None:
        for slot in slots:
            await self._publish(SlotSkipped(entry.check_id, self._location, slot, reason))

    async def skip_waiting(self, entry: Entry, reason: SkipReason) -> None:
        slot, entry.waiting = entry.waiting, None
        if slot is not None:
            await self.skip([slot], entry, reason)

    async def cut_short(self, entry: Entry, reason: SkipReason) -> None:
        """Cancel its probe, unless that has said what it found."""
        running = entry.running
        if running is None or running.settled:
            return
        running.settled = True
        running.cancel()
        if running.trigger is Trigger.SCHEDULE:
            await self.skip([running.slot], entry, reason)

    async def crash(self, running: Running, started_at: Instant) -> None:
        """The probe raised what it should not; that is never shown as the target being down."""
        self.crashes += 1
        if running.settled:
            return
        running.settled = True
        result = Result(
            check_id=running.entry.check_id,
            location=self._location,
            slot=running.slot,
            trigger=running.trigger,
            started_at=started_at,
            duration_seconds=(self._clock.now() - started_at) / SECOND,
            outcome=Outcome.ERROR,
            failures=(Failure(Reason.INTERNAL, "the probe crashed; the log has the traceback"),),
        )
        await self._publish(CheckErrored(result))

    async def miss(
        self, start: Instant, end: Instant, reason: GapReason, *, counts: Mapping[str, int]
    ) -> None:
        """Nobody ran the slots in between: one gap, and how many they are by check."""
        await self._publish(SlotsMissed(start, end, reason, self._location, counts=counts))
