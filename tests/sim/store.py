"""A store that is slow and fails, that keeps nothing more once the process is dead, and that looks at all it is given."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import anyio

from tests.sim.account import Account
from tests.sim.lost import LostTime
from tests.sim.pending import ROWS, BrokenError, Pending
from watchbill.domain.errors import StorageError
from watchbill.domain.history import Batch
from watchbill.domain.messages import (
    CheckDeleted,
    CheckRegistered,
    SlotsMissed,
)
from watchbill.domain.opening import Opening
from watchbill.domain.results import Trigger
from watchbill.domain.schedule import first_slot_after
from watchbill.domain.units import Instant
from watchbill.storage.ledger import SpanRecord
from watchbill.storage.memory import MemoryStorage
from watchbill.storage.rows import Row

SLOWNESS = (0.0, 0.0, 0.01, 0.3, 2.0)
LOST_AT_ONCE = 0.7
"""Of the commits that fail, how many leave nothing; the others were applied before they raised."""


class Store(MemoryStorage):
    """``fails``: the share of commits that raise. ``frozen``: the process is dead, so nothing it still does is kept."""

    def __init__(self, random: Random, now: Callable[[], float], lost: LostTime) -> None:
        super().__init__()
        self.random = random
        self.now = now
        self.well_since = 0.0
        """Since when no commit has failed, on the loop's clock."""
        self.opened = Opening()
        self._known: list[tuple[str, SpanRecord, set[Instant]]] = []
        """When it was opened: what each check was called, its span, and the slots that had rows already."""
        self.frozen = False
        self.fails = 0.0
        self.invalid = False
        """After a fatal error nothing works until it is opened again."""
        self.rows = 0
        self.batches = 0
        self.account = Account(lost, self._names_of)
        self.pending = Pending(0, set())
        """What the process that lives now has to store."""

    def serves(self, pending: Pending) -> None:
        """A process begins."""
        self.frozen, self.opened, self.pending = False, Opening(), pending

    def process_ended(self) -> None:
        """What it had not stored by then went with it."""
        self.account.process_ended(self.pending.left())

    async def commit(self, batch: Batch) -> None:
        if not self.frozen:
            self.pending.given(batch)
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
                error = self._error()
                if batch is self._last and not error.retryable:
                    error = StorageError("the disk is full")  # of what is in there no row is refused
                if not error.retryable:
                    self.pending.refused()
                raise error
        if batch is not self._last:
            await self._take_in(batch)
        if failing:
            raise StorageError("the answer of the disk got lost")
        self.pending.acknowledged()

    async def reopen(self) -> None:
        await anyio.sleep(self.random.choice((0, 0.05, 1)))
        if not self.frozen and self.random.random() < self.fails:
            self.well_since = self.now()
            raise StorageError("the disk is still full")
        self.invalid = False

    async def opening(self, location: str) -> Opening:
        self.opened = await super().opening(location)
        self._known = [
            (
                self._ledger.name_of(span.key),
                span,
                {slot for slot, key in self.account.rows if key == span.key},
            )
            for span in self._ledger.open_spans(location)
        ]
        return self.opened

    def missed_since(self, at: Instant) -> dict[str, int]:
        """How many slots of each check nobody ran from where accounting had come to when it was opened."""
        missed = {}
        for name, span, rows in self._known:
            since = max(span.opened_at, (self.opened.accounted_until or 0) - 1)
            first = first_slot_after(since, interval=span.interval, offset=span.offset)
            missed[name] = sum(slot not in rows for slot in range(first, at + 1, span.interval))
        return missed

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
        for event in batch.events:
            if isinstance(event, SlotsMissed):
                self.account.gap(event, self._counted(event))
        await super().commit(Batch((), batch.accounted_until))
        self._last = batch
        self.account.close_until(self.accounted_until)

    def _judge(self, batch: Batch) -> None:
        known = self.accounted_until
        self.batches += 1
        for event in batch.events:
            if isinstance(event, CheckRegistered | CheckDeleted) and event.at < known:
                raise BrokenError(f"{event} changes what was accounted for")
            self.rows += isinstance(event, ROWS)

    def _counted(self, gap: SlotsMissed) -> list[tuple[int, int]]:
        counts = gap.counts.items()
        return [(self._ledger.locate(name, gap.end - 1)[0], number) for name, number in counts if number]

    def _names_of(self, key: int) -> set[str]:
        return {identity.check_id for identity in self._ledger._by_key[key]}

    def _append(self, row: Row) -> None:
        if row.trigger == Trigger.SCHEDULE:
            if row.slot < self.accounted_until:
                raise BrokenError(f"slot {row.slot} of {row.check_id} ended after it was accounted for")
            self.account.rows[row.slot, self._ledger.locate(row.check_id, row.slot)[0]] += 1
        super()._append(row)
