"""A store that is slow and fails, that keeps nothing more once the process is dead, and that counts every slot by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

import anyio

from watchbill.domain.errors import StorageError
from watchbill.domain.history import Batch
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckSucceeded,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.opening import Opening
from watchbill.domain.results import Trigger
from watchbill.domain.schedule import first_slot_after
from watchbill.domain.units import Instant
from watchbill.storage.ledger import SpanRecord
from watchbill.storage.memory import MemoryStorage
from watchbill.storage.rows import Row

ROWS = (CheckSucceeded, CheckFailed, CheckErrored, SlotSkipped)
SLOWNESS = (0.0, 0.0, 0.01, 0.3, 2.0)
LOST_AT_ONCE = 0.7
"""Of the commits that fail, how many leave nothing; the others were applied before they raised."""


class BrokenError(Exception):
    """A promise was not kept; the text says which."""


@dataclass
class Account:
    """Follows each span slot by slot, as far as accounting has come: each is one row, or lies in a gap."""

    rows: Counter[tuple[Instant, int]] = field(default_factory=Counter)
    """(slot, key of the check) of those that have not been looked at."""
    gaps: list[SlotsMissed] = field(default_factory=list)
    looked_at: int = 0
    missed: int = 0
    _due: list[tuple[Instant, int, int, SpanRecord]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)

    def opened(self, span: SpanRecord) -> None:
        first = first_slot_after(span.opened_at, interval=span.interval, offset=span.offset)
        heappush(self._due, (first, next(self._order), span.key, span))

    def close_until(self, until: Instant) -> None:
        """:raises BrokenError: a slot before that is not exactly one row, nor in a gap, or a row is of no slot."""
        while self._due and self._due[0][0] < until:
            slot, _, key, span = heappop(self._due)
            if span.closed_at is not None and slot > span.closed_at:
                continue
            self._look_at(slot, key)
            heappush(self._due, (slot + span.interval, next(self._order), key, span))
        stray = [row for row in self.rows if row[0] < until]
        if stray:
            raise BrokenError(f"rows of no slot that was expected: {stray[:3]}")

    def _look_at(self, slot: Instant, key: int) -> None:
        rows = self.rows.pop((slot, key), 0)
        self.looked_at += 1
        if rows > 1:
            raise BrokenError(f"slot {slot} of check {key} has {rows} rows")
        if rows == 0:
            self.missed += 1
            if not any(gap.start <= slot < gap.end for gap in reversed(self.gaps)):
                raise BrokenError(f"slot {slot} of check {key} is unaccounted")


class Store(MemoryStorage):
    """``fails``: the share of commits that raise. ``frozen``: the process is dead, so nothing it still does is kept."""

    def __init__(self, random: Random, now: Callable[[], float]) -> None:
        super().__init__()
        self.random = random
        self.now = now
        self.well_since = 0.0
        """Since when no commit has failed, on the loop's clock."""
        self.opened = Opening()
        self.frozen = False
        self.fails = 0.0
        self.invalid = False
        """After a fatal error nothing works until it is opened again."""
        self.rows = 0
        self.batches = 0
        self.account = Account()

    async def commit(self, batch: Batch) -> None:
        if not self.frozen:
            await anyio.sleep(self.random.choice(SLOWNESS))
        await self._apply(batch)

    async def _apply(self, batch: Batch) -> None:
        """Like a commit that a kill makes undone, what comes from the dead is kept by nobody."""
        if self.frozen:
            return
        failing = self.invalid or self.random.random() < self.fails
        if failing:
            self.well_since = self.now()
            if self.invalid or self.random.random() < LOST_AT_ONCE:
                raise self._error()
        if batch is not self._last:
            await self._take_in(batch)
        if failing:
            raise StorageError("the answer of the disk got lost")

    async def reopen(self) -> None:
        await anyio.sleep(self.random.choice((0, 0.05, 1)))
        if not self.frozen and self.random.random() < self.fails:
            self.well_since = self.now()
            raise StorageError("the disk is still full")
        self.invalid = False

    async def opening(self, location: str) -> Opening:
        self.opened = await super().opening(location)
        return self.opened

    @property
    def accounted_until(self) -> Instant:
        return self._accounted.get("", 0)

    def expected_now(self) -> dict[str, tuple[int, int]]:
        """(interval, offset) by the name of each check whose slots are expected now."""
        spans = self._ledger.open_spans("")
        return {self._ledger.name_of(span.key): (span.interval, span.offset) for span in spans}

    def _error(self) -> StorageError:
        match self.random.randrange(8):
            case 0:
                self.invalid = True
                return StorageError("the database was invalidated by a fatal error")
            case 1:
                return StorageError("no such row can be stored", retryable=False)
            case 2 | 3:
                return StorageError("the file is locked")
            case _:
                return StorageError("the disk is full")

    async def _take_in(self, batch: Batch) -> None:
        self._judge(batch)
        for event in batch.events:
            self._take(event)
        for span in self._ledger.changes.spans:
            self.account.opened(span)
        await super().commit(Batch((), batch.accounted_until))
        self._last = batch
        self.account.close_until(self.accounted_until)

    def _judge(self, batch: Batch) -> None:
        known = self.accounted_until
        self.batches += 1
        for event in batch.events:
            if isinstance(event, CheckRegistered | CheckDeleted) and event.at < known:
                raise BrokenError(f"{event} changes what was accounted for")
            if isinstance(event, SlotsMissed):
                self.account.gaps.append(event)
            self.rows += isinstance(event, ROWS)

    def _append(self, row: Row) -> None:
        if row.trigger == Trigger.SCHEDULE:
            if row.slot < self.accounted_until:
                raise BrokenError(f"slot {row.slot} of {row.check_id} ended after it was accounted for")
            self.account.rows[row.slot, self._ledger.locate(row.check_id, row.slot)[0]] += 1
        super()._append(row)
