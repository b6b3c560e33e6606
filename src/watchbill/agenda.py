"""What is due when: the scheduled checks, and the next instant of each in one heap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count

from watchbill.domain.results import Trigger
from watchbill.domain.schedule import first_slot_after, last_slot_until, offset_of
from watchbill.domain.units import SECOND, Instant, Micros

FIRST_PROBE_WITHIN: Micros = 5 * SECOND
STALE_KEPT = 1_000


@dataclass(slots=True, eq=False)
class Running:
    """One probe under way. ``settled``: its slot has been accounted for; what it still finds is dropped."""

    entry: Entry
    slot: Instant
    trigger: Trigger
    settled: bool = False
    cancel: Callable[[], None] = lambda: None


@dataclass(slots=True, eq=False)
class Entry:
    """One scheduled check. ``version`` tells its heap items from those of an earlier grid."""

    check_id: str
    interval: Micros
    offset: Micros
    next_slot: Instant
    version: int = 0
    running: Running | None = None
    waiting: Instant | None = None
    """A due slot that has not started, for want of capacity or because a probe is being cancelled."""

    def newest_slot(self, now: Instant) -> Instant:
        return last_slot_until(now, interval=self.interval, offset=self.offset)


Item = tuple[Instant, int, Entry, int, Trigger]


class Agenda:
    """``entries`` are those that count now; the heap may hold items of others, which are passed over."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._heap: list[Item] = []
        self._order = count()
        self.slots_per_second = 0.0

    def add(self, check_id: str, *, interval: Micros, at: Instant) -> Entry:
        """Expect slots of a new check after ``at``, and one probe soon, spread like slots."""
        offset = offset_of(check_id, interval)
        first = first_slot_after(at, interval=interval, offset=offset)
        entry = self.entries[check_id] = Entry(check_id, interval, offset, first)
        self.slots_per_second += SECOND / interval
        self._begin(entry, at)
        return entry

    def change_grid(self, entry: Entry, *, interval: Micros, at: Instant) -> None:
        """Expect slots at another interval, after ``at``, and one probe soon, since those may be far off."""
        self.slots_per_second += SECOND / interval - SECOND / entry.interval
        entry.interval, entry.offset = interval, offset_of(entry.check_id, interval)
        entry.next_slot = first_slot_after(at, interval=interval, offset=entry.offset)
        entry.version += 1
        self._begin(entry, at)
        self._keep_small()

    def expect(self, entry: Entry, slot: Instant) -> None:
        """Its next slot is this one."""
        entry.next_slot = slot
        self._push(slot, entry, Trigger.SCHEDULE)

    def remove(self, entry: Entry) -> None:
        del self.entries[entry.check_id]
        self.slots_per_second -= SECOND / entry.interval
        entry.version += 1
        self._keep_small()

    def size(self) -> int:
        """How many instants are kept, with those that count no more."""
        return len(self._heap)

    def earliest(self) -> Instant | None:
        """No slot is due before this."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: Instant) -> tuple[Entry, Trigger] | None:
        """The earliest that is due; after a slot the caller says which is the next one."""
        while self._heap and self._heap[0][0] <= now:
            _, _, entry, version, trigger = heappop(self._heap)
            if version == entry.version:
                return entry, trigger
        return None

    def pass_over(self, now: Instant) -> Mapping[str, int]:
        """Leave only the newest due slot of each check; how many were left out, by check."""
        left_out = {}
        for entry in self.entries.values():
            if entry.next_slot <= now:
                newest = entry.newest_slot(now)
                left_out[entry.check_id] = (newest - entry.next_slot) // entry.interval
                entry.next_slot = newest
                entry.version += 1
        self._drop_stale()
        due = (self.entries[check_id] for check_id in left_out)
        self._heap += [self._item(entry.next_slot, entry, Trigger.SCHEDULE) for entry in due]
        heapify(self._heap)
        return left_out

    def _begin(self, entry: Entry, at: Instant) -> None:
        soon = at + entry.offset % min(entry.interval, FIRST_PROBE_WITHIN)
        self._push(soon, entry, Trigger.REGISTERED)
        self._push(entry.next_slot, entry, Trigger.SCHEDULE)

    def _keep_small(self) -> None:
        """What is stale goes when it falls due, which may be in hours; many reloads must not pile it up."""
        if len(self._heap) > 4 * len(self.entries) + STALE_KEPT:
            self._drop_stale()
            heapify(self._heap)

    def _drop_stale(self) -> None:
        self._heap = [item for item in self._heap if item[3] == item[2].version]

    def _push(self, due: Instant, entry: Entry, trigger: Trigger) -> None:
        heappush(self._heap, self._item(due, entry, trigger))

    def _item(self, due: Instant, entry: Entry, trigger: Trigger) -> Item:
        return due, next(self._order), entry, entry.version, trigger
