"""From the bus to the store: events wait in a bounded buffer and are committed in batches, aside of every probe.

A result is acknowledged once its batch is committed, at most a second after it came. While the store fails the batch
is kept and tried again; events that come meanwhile wait, and when too many do, the oldest rows are dropped and
counted. Nothing here ever delays or fails whoever published an event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import structlog
from anyio.abc import TaskStatus

from watchbill.board import Histogram
from watchbill.clock import Clock
from watchbill.domain.errors import StorageError
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
from watchbill.domain.units import Instant, to_micros
from watchbill.ports import Storage
from watchbill.storage.buffer import Buffer, rows_in

HISTORY_EVENTS = (
    CheckRegistered,
    CheckDeleted,
    CheckSucceeded,
    CheckFailed,
    CheckErrored,
    SlotSkipped,
    SlotsMissed,
    HeartbeatReceived,
    CheckStatusChanged,
    ConfigReloaded,
)
"""What :meth:`HistoryWriter.accept` wants to be told."""

CAPACITY = 100_000
FLUSH_ROWS = 2_500  # a commit costs 7 ms before its first row
FLUSH_SECONDS = 0.9  # of the second in which a result is promised to be committed: to wait, and for a commit as long as the last
LONGEST_FORESEEN_SECONDS = 0.5  # so that a slow store is not given many small batches
LARGEST_BATCH = 5_000  # events; so a backlog of 100,000 never holds the writer's thread for long
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 3.0  # history is to go on within 5 s of there being room again
GIVE_UP_ROWS_AFTER = 3  # commits refused for what is in them, not for the state of the store
COMMIT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0)
PRUNE_EVERY = timedelta(hours=1)
FIRST_PRUNE_AFTER = timedelta(minutes=1)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """``rows`` results and skips committed; ``pending`` events not committed yet; ``failures`` of commits.

    ``healthy`` is false from a failed commit to the next that works.
    """

    rows: int
    dropped_rows: int
    pending: int
    failures: int
    healthy: bool
    commit_seconds: Histogram = field(default_factory=lambda: Histogram.over(COMMIT_BOUNDS))


class HistoryWriter:
    """The only one that writes to the store.

    ``accounted_until`` says which slot is the earliest still open, at the very instant it is asked; ``keep`` how
    long history is kept; ``on_committed`` is told of every batch once it is durable.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        clock: Clock,
        accounted_until: Callable[[], Instant],
        keep: Callable[[], timedelta] = lambda: timedelta(days=30),
        capacity: int = CAPACITY,
        on_committed: Callable[[Batch], None] | None = None,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._accounted_until = accounted_until
        self._keep = keep
        self._on_committed = on_committed
        self._buffer = Buffer(capacity)
        self._batch: Batch | None = None
        self._behind = False
        self._turn = anyio.Lock()
        self._some = anyio.Event()
        self._plenty = anyio.Event()
        self._commits = Histogram.over(COMMIT_BOUNDS)
        self._since = 0.0
        self._last_took = 0.0
        self._rows = 0
        self._failures = 0
        self._healthy = True

    def accept(self, event: Event) -> None:
        """Take an event in, to be written soon."""
        self._buffer.put(event)
        if not self._some.is_set():
            self._since = self._clock.monotonic()
            self._some.set()
        if self._buffer.rows >= FLUSH_ROWS:
            self._plenty.set()

    def statistics(self) -> WriterStatistics:
        in_flight = 0 if self._batch is None else len(self._batch.events)
        return WriterStatistics(
            rows=self._rows,
            dropped_rows=self._buffer.dropped_rows,
            pending=len(self._buffer) + in_flight,
            failures=self._failures,
            healthy=self._healthy,
            commit_seconds=self._commits,
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write for as long as it is not cancelled; :meth:`drain` writes what is left then."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write_batches, name="history writer")
            tasks.start_soon(self._prune_by_age, name="history pruner")
            task_status.started()

    async def drain(self, deadline_seconds: float) -> bool:
        """Commit all that is left and how far accounting has come; whether that was done in time."""
        with anyio.move_on_after(deadline_seconds, shield=True):
            async with self._turn:
                await self._finish()
                while not self._buffer.empty:
                    await self._next_batch()
                await self._next_batch()
                return True
        log.error("history.not_drained", pending=self.statistics().pending, deadline_seconds=deadline_seconds)
        return False

    # --- inside -------------------------------------------------------------------------------------

    async def _write_batches(self) -> None:
        while True:
            await self._some.wait()
            if not self._behind:
                with anyio.move_on_after(self._patience()):
                    await self._plenty.wait()
            async with self._turn:
                await self._finish()
                await self._next_batch()

    def _patience(self) -> float:
        """How long the first event that waits, which may have come during the last commit, can wait for more."""
        waited = self._clock.monotonic() - self._since
        return max(0.0, FLUSH_SECONDS - min(self._last_took, LONGEST_FORESEEN_SECONDS) - waited)

    async def _next_batch(self) -> None:
        # One synchronous step: what is pending, and how far accounting has come with exactly that.
        self._batch = self._buffer.take(LARGEST_BATCH, self._accounted_until())
        self._behind = not self._buffer.empty
        if not self._behind:
            self._some = anyio.Event()
        if self._buffer.rows < FLUSH_ROWS:
            self._plenty = anyio.Event()
        await self._finish()

    async def _finish(self) -> None:
        """Commit the batch in hand, however often that takes. It stays in hand when this is cancelled."""
        pause, refused = FIRST_PAUSE_SECONDS, 0
        while self._batch is not None:
            try:
                await self._commit(self._batch)
            except StorageError as error:
                self._failed(error)
                refused += not error.retryable
                if refused == GIVE_UP_ROWS_AFTER and not error.retryable:
                    # Something in these rows is what no store takes; without them the rest may go through.
                    self._batch = self._buffer.without_rows(self._batch)
                    log.exception("history.rows_refused")
                pause = await self._heal(pause)

    async def _heal(self, pause: float) -> float:
        """Wait, then open the store anew, until that works; the pause before the next time."""
        while True:
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            try:
                await self._storage.reopen()
            except StorageError as error:
                self._failed(error)
            else:
                return pause

    async def _commit(self, batch: Batch) -> None:
        started = self._clock.monotonic()
        await self._storage.commit(batch)
        self._batch = None
        self._last_took = self._clock.monotonic() - started
        self._commits.observe(self._last_took)
        self._rows += rows_in(batch.events)
        if not self._healthy:
            self._healthy = True
            log.warning("history.store_recovered", failures=self._failures, pending=len(self._buffer))
        if self._on_committed is not None:
            self._on_committed(batch)

    def _failed(self, error: StorageError) -> None:
        self._failures += 1
        if self._healthy:
            self._healthy = False
            log.error("history.store_failed", error=str(error), pending=self.statistics().pending)

    async def _prune_by_age(self) -> None:
        due = self._clock.now() + to_micros(FIRST_PRUNE_AFTER)
        while True:
            await self._clock.sleep_until(due)
            due = self._clock.now() + to_micros(PRUNE_EVERY)
            try:
                rows = await self._storage.prune(self._clock.now() - to_micros(self._keep()))
            except StorageError as error:
                log.warning("history.not_pruned", error=str(error))
            else:
                log.info("history.pruned", rows=rows)
