"""Events that wait to be written, in order and bounded; what had to be dropped is accounted for.

When it is full the oldest results, skips and flips give way, never what says which slots were expected. Every slot
whose row was dropped lies in a gap that the next batch carries, so that it is `missed` and not `unaccounted`; the
gap takes nothing from the other slots it spans, since a slot with a row of its own was not missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from watchbill.domain.history import Batch
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckStatusChanged,
    CheckSucceeded,
    ConfigReloaded,
    Event,
    HeartbeatReceived,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.results import GapReason, Trigger
from watchbill.domain.units import Instant

Waiting: TypeAlias = tuple[int, Instant | None, Event]
"""(its place in the order, the earliest instant that is not accounted for before it is written, the event)"""

ROW_EVENTS = (CheckSucceeded, CheckFailed, CheckErrored, SlotSkipped)
_DROPPABLE = (*ROW_EVENTS, CheckStatusChanged)


class Buffer:
    """Three queues that are one order: what may be dropped, what may not, and the last heartbeat of each check."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._droppable: deque[Waiting] = deque()
        self._declared: deque[Waiting] = deque()
        self._heartbeats: dict[str, HeartbeatReceived] = {}
        self._gaps: dict[str, tuple[Instant, Instant]] = {}
        self._count = 0
        self.dropped_rows = 0

    def __len__(self) -> int:
        return len(self._droppable) + len(self._declared) + len(self._heartbeats)

    @property
    def empty(self) -> bool:
        return not (self or self._gaps)

    @property
    def rows(self) -> int:
        return len(self._droppable)

    def put(self, event: Event) -> None:
        if isinstance(event, HeartbeatReceived):
            self._heartbeats[event.check_id] = event
            return
        self._count += 1
        waiting = self._count, _floor(event), event
        if isinstance(event, _DROPPABLE):
            self._droppable.append(waiting)
        else:
            self._declared.append(waiting)
        while len(self) > self._capacity and self._droppable:
            self.drop(self._droppable.popleft()[2])

    def drop(self, event: Event) -> None:
        """Count a row that will not be written, and leave its slot in a gap."""
        if not isinstance(event, ROW_EVENTS):
            return
        self.dropped_rows += 1
        location, slot = _slot(event)
        if slot is not None:
            start, end = self._gaps.get(location, (slot, slot + 1))
            self._gaps[location] = min(start, slot), max(end, slot + 1)

    def take(self, limit: int, accounted_until: Instant) -> Batch:
        """The oldest events, at most ``limit``; accounting stops before the first that is left."""
        events = [*self._take_gaps(), *self._oldest(limit)]
        if not self._declared:  # a heartbeat may be of a check whose registration is still waiting
            events += self._heartbeats.values()
            self._heartbeats = {}
        queues = self._declared, self._droppable
        left = (floor for queue in queues for _, floor, _ in queue if floor is not None)
        return Batch(tuple(events), min(accounted_until, min(left, default=accounted_until)))

    def without_rows(self, batch: Batch) -> Batch:
        """The same batch with its rows dropped, and their slots in a gap."""
        kept = [event for event in batch.events if not isinstance(event, ROW_EVENTS)]
        for event in batch.events:
            self.drop(event)
        return Batch((*self._take_gaps(), *kept), batch.accounted_until)

    def _take_gaps(self) -> list[Event]:
        gaps = self._gaps
        self._gaps = {}
        return [SlotsMissed(*gap, GapReason.DROPPED, location) for location, gap in gaps.items()]

    def _oldest(self, limit: int) -> Iterator[Event]:
        for _ in range(min(limit, len(self._declared) + len(self._droppable))):
            if not self._droppable or (self._declared and self._declared[0][0] < self._droppable[0][0]):
                yield self._declared.popleft()[2]
            else:
                yield self._droppable.popleft()[2]


def _floor(event: Event) -> Instant | None:
    match event:
        case CheckSucceeded() | CheckFailed() | CheckErrored() | SlotSkipped():
            return _slot(event)[1]
        case CheckRegistered() | CheckDeleted() | ConfigReloaded():
            return event.at  # a configuration closes what it does not declare any more
        case SlotsMissed():
            return event.start
        case _:
            return None


def _slot(event: Event) -> tuple[str, Instant | None]:
    """(location, the slot that the event is the row of; ``None`` outside the slots)"""
    if isinstance(event, SlotSkipped):
        return event.location, event.slot
    assert isinstance(event, CheckSucceeded | CheckFailed | CheckErrored)  # noqa: S101 - callers know
    result = event.result
    return result.location, result.slot if result.trigger is Trigger.SCHEDULE else None


def rows_in(events: Sequence[Event]) -> int:
    return sum(isinstance(event, ROW_EVENTS) for event in events)
