"""Bugs in what is said of slots that nobody ran: gaps that excuse too much, too little or the wrong thing, and rows dropped for nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from watchbill.agenda import Agenda
from watchbill.bus import Bus
from watchbill.domain.history import Batch
from watchbill.domain.messages import Event, SlotsMissed
from watchbill.domain.opening import Opening
from watchbill.domain.results import GapReason
from watchbill.domain.units import SECOND
from watchbill.scheduler import Scheduler
from watchbill.storage import buffer
from watchbill.storage.buffer import Buffer

Plant = Callable[[pytest.MonkeyPatch], None]
Change = Callable[[SlotsMissed], SlotsMissed]
NOW_AND_THEN = 20


def _changed(patch: pytest.MonkeyPatch, reasons: set[GapReason], change: Change) -> None:
    publish = Bus.publish

    async def publishes(self: Bus, event: Any) -> None:
        concerned = isinstance(event, SlotsMissed) and event.reason in reasons
        await publish(self, change(event) if concerned else event)

    patch.setattr(Bus, "publish", publishes)


def gap_though_nothing_hindered(patch: pytest.MonkeyPatch) -> None:
    """What is due is passed over now and then, and said to be a stall."""
    pass_over, turns = Scheduler._pass_over_lost_time, count()

    async def invents(self: Scheduler) -> None:
        if next(turns) % 500 == 499:
            start, now = self._last_tick, self._clock.now()
            await self._endings.miss(start, now, GapReason.STALL, counts=self._agenda.pass_over(now))
        await pass_over(self)

    patch.setattr(Scheduler, "_pass_over_lost_time", invents)


def slot_hidden_in_a_gap(patch: pytest.MonkeyPatch) -> None:
    """After a stall the newest due slot of a check is passed over as well, and counted."""
    pass_over, turns = Agenda.pass_over, count()

    def hides(self: Agenda, now: int) -> dict[str, int]:
        counts = dict(pass_over(self, now))
        for check_id in counts:
            if next(turns) % NOW_AND_THEN == 0:
                entry = self.entries[check_id]
                entry.version += 1
                self.expect(entry, entry.next_slot + entry.interval)
                counts[check_id] += 1
        return counts

    patch.setattr(Agenda, "pass_over", hides)


def gap_begins_too_early(patch: pytest.MonkeyPatch) -> None:
    """With bounds that would excuse much that should have been run."""
    _changed(patch, {GapReason.STALL}, lambda gap: replace(gap, start=gap.start - 60 * SECOND))


def gap_ends_too_late(patch: pytest.MonkeyPatch) -> None:
    _changed(patch, {GapReason.CLOCK, GapReason.STALL}, lambda gap: replace(gap, end=gap.end + 60 * SECOND))


def restart_gap_ends_too_late(patch: pytest.MonkeyPatch) -> None:
    _changed(patch, {GapReason.RESTART}, lambda gap: replace(gap, end=gap.end + SECOND))


def gap_told_twice(patch: pytest.MonkeyPatch) -> None:
    publish = Bus.publish

    async def repeats(self: Bus, event: Any) -> None:
        await publish(self, event)
        if isinstance(event, SlotsMissed) and event.reason is not GapReason.RESTART:
            await publish(self, replace(event, counts={}))

    patch.setattr(Bus, "publish", repeats)


def gap_for_another_reason(patch: pytest.MonkeyPatch) -> None:
    """A stall is said to be a clock that was set."""
    _changed(patch, {GapReason.STALL}, lambda gap: replace(gap, reason=GapReason.CLOCK))


def gap_counts_one_more(patch: pytest.MonkeyPatch) -> None:
    """Of each check, with the slot that is still to be run."""
    pass_over = Agenda.pass_over

    def counts_more(self: Agenda, now: int) -> dict[str, int]:
        return {check_id: number + 1 for check_id, number in pass_over(self, now).items()}

    patch.setattr(Agenda, "pass_over", counts_more)


def missed_at_the_start_miscounted(patch: pytest.MonkeyPatch) -> None:
    missed_until = Opening.missed_until

    def counts_more(self: Opening, until: int) -> dict[str, int]:
        return {check_id: number + 1 for check_id, number in missed_until(self, until).items()}

    patch.setattr(Opening, "missed_until", counts_more)


def row_dropped_for_nothing(patch: pytest.MonkeyPatch) -> None:
    """Counted and in a gap, as it should be where there is no room; but there is."""
    put, turns = Buffer.put, count()

    def drops(self: Buffer, event: Event) -> None:
        if isinstance(event, buffer.ROW_EVENTS) and next(turns) % 300 == 299:
            self.drop(event)
        else:
            put(self, event)

    patch.setattr(Buffer, "put", drops)


def smaller_than_declared(patch: pytest.MonkeyPatch) -> None:
    """The buffer is full before it has reached its capacity."""
    begin = Buffer.__init__
    patch.setattr(Buffer, "__init__", lambda self, capacity: begin(self, capacity - max(1, capacity // 10)))


def dropped_with_too_wide_a_gap(patch: pytest.MonkeyPatch) -> None:
    take_gaps = Buffer._take_gaps

    def widens(self: Buffer) -> list[Event]:
        gaps = [gap for gap in take_gaps(self) if isinstance(gap, SlotsMissed)]
        return [replace(gap, end=gap.end + 60 * SECOND) for gap in gaps]

    patch.setattr(Buffer, "_take_gaps", widens)


def rows_swapped(patch: pytest.MonkeyPatch) -> None:
    """What came later is stored first."""
    take = Buffer.take

    def swaps(self: Buffer, limit: int, until: int) -> Batch:
        batch = take(self, limit, until)
        events = list(batch.events)
        if len(events) > 1 and isinstance(events[-1], buffer.ROW_EVENTS):
            events.insert(0, events.pop())
        return replace(batch, events=tuple(events))

    patch.setattr(Buffer, "take", swaps)


PLANTED_GAPS: tuple[Plant, ...] = (
    gap_though_nothing_hindered,
    slot_hidden_in_a_gap,
    gap_begins_too_early,
    gap_ends_too_late,
    restart_gap_ends_too_late,
    gap_told_twice,
    gap_for_another_reason,
    gap_counts_one_more,
    missed_at_the_start_miscounted,
    row_dropped_for_nothing,
    smaller_than_declared,
    dropped_with_too_wide_a_gap,
    rows_swapped,
)
