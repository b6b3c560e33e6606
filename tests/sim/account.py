"""Every slot, one by one, as far as accounting has come: it is one row, or nobody could run it and its gap says why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from tests.sim.lost import LostTime
from tests.sim.pending import BrokenError, Slot, slot_of
from watchbill.domain.messages import CheckDeleted, CheckRegistered, ConfigReloaded, Event, SlotsMissed
from watchbill.domain.results import GapReason
from watchbill.domain.schedule import first_slot_after
from watchbill.domain.units import Instant
from watchbill.storage.ledger import SpanRecord

_OF_TIME = frozenset({GapReason.STALL, GapReason.CLOCK})


@dataclass
class Missed:
    """Of one check: how many slots gaps said were missed over stalls and jumps, and how many were.

    ``perhaps``: how many more may have been, of which a process that died could not tell, or which a later one had before it again.
    """

    said: int = 0
    were: int = 0
    perhaps: int = 0


@dataclass
class Forgotten:
    """A change that went with its process: history expects the slots of before, until the next process says what is declared.

    ``names``: whom it concerns, or, of a whole configuration, whom it does not.
    """

    since: Instant
    names: Collection[str]
    others: bool = False
    until: Instant | None = None

    def explains(self, slot: Instant, names: Collection[str]) -> bool:
        concerned = any(name in self.names for name in names) is not self.others
        return concerned and self.until is not None and self.since <= slot <= self.until


@dataclass
class Account:
    """Follows each span slot by slot."""

    lost: LostTime
    names_of: Callable[[int], Collection[str]]
    """What a check is and was called, by its key."""
    rows: Counter[tuple[Instant, int]] = field(default_factory=Counter)
    """(slot, key of the check) of those that have not been looked at."""
    looked_at: int = 0
    missed: Counter[GapReason] = field(default_factory=Counter)
    dropped: set[Slot] = field(default_factory=set)
    """Rows for which there was no room."""
    died: set[Slot] = field(default_factory=set)
    """Rows that were not stored when their process died."""
    _forgotten: list[Forgotten] = field(default_factory=list)
    _gaps: list[SlotsMissed] = field(default_factory=list)
    """Those that still matter."""
    _anew: list[tuple[SlotsMissed, Instant]] = field(default_factory=list)
    """What one told, and the instant before its end at which a clock that was set back let a later process begin: it runs them, or misses them once more."""
    _counts: dict[int, Missed] = field(default_factory=lambda: defaultdict(Missed))
    _due: list[tuple[Instant, int, int, SpanRecord]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)

    def born(self, at: Instant) -> None:
        """A process begins there, and runs what lies after it, also where the one before had run it."""
        self.lost.born(at)
        self._anew += [(gap, at) for gap in self._gaps if gap.reason in _OF_TIME and at < gap.end]
        for change in self._forgotten:
            change.until = at if change.until is None else change.until
        for rows in (self.dropped, self.died):
            rows -= {row for row in rows if row[1] > at}

    def process_ended(self, left: Iterable[Event]) -> None:
        """``left``: what it had not stored."""
        for event in left:
            match event:
                case CheckRegistered() | CheckDeleted():
                    self._forgotten.append(Forgotten(event.at, {event.check.id}))
                case ConfigReloaded():
                    self._forgotten.append(
                        Forgotten(event.at, event.loaded.config.checks.keys(), others=True)
                    )
                case _ if (slot := slot_of(event)) is not None:
                    self.died.add(slot)

    def opened(self, span: SpanRecord) -> None:
        first = first_slot_after(span.opened_at, interval=span.interval, offset=span.offset)
        heappush(self._due, (first, next(self._order), span.key, span))

    def gap(self, gap: SlotsMissed, counts: Iterable[tuple[int, int]]) -> None:
        """``counts``: (key of the check, how many of its slots)."""
        self._gaps.append(gap)
        for key, number in counts:
            self._counts[key].said += number

    def close_until(self, until: Instant) -> None:
        """:raises BrokenError: a slot before that is not exactly one row nor rightly in a gap, or a row is of no slot."""
        while self._due and self._due[0][0] < until:
            slot, _, key, span = heappop(self._due)
            if span.closed_at is not None and slot > span.closed_at:
                continue
            self._look_at(slot, key, span)
            heappush(self._due, (slot + span.interval, next(self._order), key, span))
        stray = [row for row in self.rows if row[0] < until]
        if stray:
            raise BrokenError(f"rows of no slot that was expected: {stray[:3]}")
        if self._gaps:
            self._forget_gaps(until)

    def _forget_gaps(self, until: Instant) -> None:
        kept = [gap for gap in self._gaps if gap.end > until]
        if not any(gap.reason in _OF_TIME for gap in kept):
            self._compare_counts()
        self._gaps = kept
        self._anew = [(gap, at) for gap, at in self._anew if gap.end > until]

    def _compare_counts(self) -> None:
        for key, missed in self._counts.items():
            if not missed.were <= missed.said <= missed.were + missed.perhaps:
                raise BrokenError(
                    f"{missed.said} slots of check {key} are said to be missed over a gap, {missed.were} were"
                )
        self._counts.clear()

    def _look_at(self, slot: Instant, key: int, span: SpanRecord) -> None:
        rows = self.rows.pop((slot, key), 0)
        self.looked_at += 1
        if rows > 1:
            raise BrokenError(f"slot {slot} of check {key} has {rows} rows")
        if rows == 0:
            self._look_at_missed(slot, key, span)
        if self._anew:
            told = sum(gap.start <= slot < gap.end and at < slot for gap, at in self._anew)
            self._counts[key].perhaps += told

    def _look_at_missed(self, slot: Instant, key: int, span: SpanRecord) -> None:
        said = {gap.reason for gap in self._gaps if gap.start <= slot < gap.end}
        if not said:
            raise BrokenError(f"slot {slot} of check {key} is unaccounted")
        names = self.names_of(key)
        why = self._why(slot, names, said, span)
        if why is None:
            raise BrokenError(
                f"slot {slot} of check {key} ({', '.join(sorted(names))}) was missed ({', '.join(sorted(said))}), "
                "and nothing kept it from being run"
            )
        self.missed[why] += 1
        if why in _OF_TIME:
            self._counts[key].were += GapReason.RESTART not in said
            self._counts[key].perhaps += GapReason.RESTART in said

    def _why(
        self, slot: Instant, names: Collection[str], said: set[GapReason], span: SpanRecord
    ) -> GapReason | None:
        """The reason that is given and holds."""
        if any((name, slot) in self.dropped for name in names):
            return GapReason.DROPPED if said & {GapReason.DROPPED, GapReason.RESTART} else None
        restarted = GapReason.RESTART in said
        if any((name, slot) in self.died for name in names):
            return GapReason.RESTART if restarted else None
        if self.lost.passed_over(names, slot, span.interval) and (of_time := said & _OF_TIME):
            return min(of_time)
        if restarted and (
            any(change.explains(slot, names) for change in self._forgotten)
            or self.lost.went_with_a_process(names, slot, span.interval)
            or self.lost.passed_over(names, slot, span.interval)
        ):
            return GapReason.RESTART
        return None
