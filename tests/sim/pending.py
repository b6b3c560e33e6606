"""What waits to be stored, by rules of its own: nothing is lost or swapped, and a row is dropped only where there is no room for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from watchbill.domain.history import Batch
from watchbill.domain.messages import (
    CheckErrored,
    CheckFailed,
    CheckStatusChanged,
    CheckSucceeded,
    Event,
    HeartbeatReceived,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.results import GapReason, Trigger
from watchbill.domain.units import Instant

Row: TypeAlias = CheckSucceeded | CheckFailed | CheckErrored | SlotSkipped
ROWS = (CheckSucceeded, CheckFailed, CheckErrored, SlotSkipped)
_MAY_GIVE_WAY = (*ROWS, CheckStatusChanged)
REFUSALS = 3
"""So often the store refuses a batch for what is in it before its rows are given up."""
Slot: TypeAlias = tuple[str, Instant]
"""(the check's name, the slot)"""


class BrokenError(Exception):
    """A promise was not kept; the text says which."""


def slot_of(event: Event) -> Slot | None:
    """The slot that an event is the row of."""
    match event:
        case SlotSkipped():
            return event.check_id, event.slot
        case CheckSucceeded(result) | CheckFailed(result) | CheckErrored(result):
            return (result.check_id, result.slot) if result.trigger is Trigger.SCHEDULE else None
        case _:
            return None


@dataclass
class Pending:
    """Of one process. ``in_hand``: what the store was given and has not acknowledged."""

    capacity: int
    dropped: set[Slot]
    """The slots whose rows found no room, of this process and those before."""
    in_hand: list[Event] | None = None
    dropped_rows: int = 0
    _waiting: deque[Event] = field(default_factory=deque)
    _may_give_way: int = 0
    """How many of those that wait."""
    _heartbeats: dict[str, HeartbeatReceived] = field(default_factory=dict)
    _batch: Batch | None = None
    _refusals: int = 0
    _in_no_gap: list[Instant] = field(default_factory=list)
    """Slots dropped since the last batch."""

    @property
    def count(self) -> int:
        return len(self._waiting) + len(self._heartbeats) + len(self.in_hand or ())

    def heard(self, event: Event) -> None:
        """It was published, and must be stored."""
        if isinstance(event, HeartbeatReceived):
            self._heartbeats[event.check_id] = event
            return
        self._waiting.append(event)
        self._may_give_way += isinstance(event, _MAY_GIVE_WAY)
        while len(self._waiting) + len(self._heartbeats) > self.capacity and self._may_give_way:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        place = next(place for place, event in enumerate(self._waiting) if isinstance(event, _MAY_GIVE_WAY))
        self._drop(self._waiting[place])
        del self._waiting[place]
        self._may_give_way -= 1

    def _drop(self, event: Event) -> None:
        self.dropped_rows += isinstance(event, ROWS)
        if (slot := slot_of(event)) is not None:
            self.dropped.add(slot)
            self._in_no_gap.append(slot[1])

    # --- what the store sees ------------------------------------------------------------------------

    def given(self, batch: Batch) -> None:
        """:raises BrokenError: it is not what is next, or lacks the gap of what was dropped."""
        if batch is self._batch:
            return
        if self.in_hand is None:
            self._compare(batch)
            self.in_hand, self._refusals = list(batch.events), 0
        elif self._batch is not None:
            raise BrokenError("another batch is handed over before the store has this one")
        elif not _same(batch.events, self.in_hand):
            raise BrokenError(f"{batch} is left of what was refused, not {self.in_hand}")
        self._batch = batch

    def refused(self) -> None:
        """The store will not have it, whatever it tries; at last the rows are given up."""
        self._refusals += 1
        if self._refusals != REFUSALS or self.in_hand is None:
            return
        for event in self.in_hand:
            if isinstance(event, ROWS):
                self._drop(event)
        kept = [event for event in self.in_hand if not isinstance(event, ROWS)]
        self.in_hand, self._batch = [*self._take_gap(), *kept], None

    def acknowledged(self) -> None:
        self.in_hand = self._batch = None

    def left(self) -> list[Event]:
        """What goes with the process."""
        return [*(self.in_hand or ()), *self._waiting]

    def _compare(self, batch: Batch) -> None:
        for event in self._after_the_gap(batch):
            if isinstance(event, HeartbeatReceived):
                if self._heartbeats.pop(event.check_id, None) is not event:
                    raise BrokenError(f"{event} is stored, which was not the last heartbeat")
                continue
            expected = self._waiting.popleft() if self._waiting else None
            if event is not expected:
                raise BrokenError(f"{event} is to be stored where {expected} is next")
            self._may_give_way -= isinstance(event, _MAY_GIVE_WAY)

    def _after_the_gap(self, batch: Batch) -> Sequence[Event]:
        """What follows the gap that covers each dropped slot, and no more."""
        expected = self._take_gap()
        if list(batch.events[: len(expected)]) != expected:
            raise BrokenError(f"rows were dropped, and their gap is {batch.events[:1]}, not {expected}")
        return batch.events[len(expected) :]

    def _take_gap(self) -> list[Event]:
        slots, self._in_no_gap = self._in_no_gap, []
        return [SlotsMissed(min(slots), max(slots) + 1, GapReason.DROPPED, "")] if slots else []


def _same(some: Sequence[Event], others: Sequence[Event]) -> bool:
    """The very same events; a gap is made anew."""
    pairs = zip(some, others, strict=False)
    return len(some) == len(others) and all(
        one is other or (isinstance(one, SlotsMissed) and one == other) for one, other in pairs
    )
