"""History in one DuckDB file: one writer thread, two readers, each with a cursor of its own.

A connection refuses a second thread, so whoever works holds a limiter and a cursor. What goes wrong in the file is a
:class:`~watchbill.domain.errors.StorageError`; after a fatal one (a disk that filled up during a checkpoint) every
statement fails until :meth:`DuckDbStorage.reopen`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import anyio.to_thread
import duckdb
import structlog

from watchbill.domain.errors import StorageError
from watchbill.domain.history import Batch, Coverage, StoredResult
from watchbill.domain.opening import Opening
from watchbill.domain.schedule import Span
from watchbill.domain.units import SECOND, Instant, Micros
from watchbill.ports import HistoryCopy, StorageStatistics
from watchbill.storage import duckdb_answers as answers
from watchbill.storage import duckdb_queries as sql
from watchbill.storage.duckdb_batch import Writing, write_batch
from watchbill.storage.duckdb_copy import LONGEST_COPY_SECONDS, make_copy
from watchbill.storage.duckdb_file import DuckDbFile
from watchbill.storage.duckdb_marks import Mark
from watchbill.storage.duckdb_questions import Questions

T = TypeVar("T")
PRUNED_AT_ONCE: Micros = 3_600 * SECOND
COMMITS_A_LOOK = 10
"""Commits from one look at the memory in use to the next: it takes 0.6 ms."""

log = structlog.get_logger()


async def open_duckdb(path: str, *, location: str) -> DuckDbStorage:
    """Lock, create or mend, migrate and load the file.

    :raises StorageLockedError: another process holds it.
    :raises StorageError: it cannot be used.
    """
    store = DuckDbStorage(DuckDbFile(path), location=location)
    try:
        await store.reopen()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await store.close()
        raise
    return store


class DuckDbStorage:
    """A :class:`~watchbill.ports.Storage` over one file. Made by :func:`open_duckdb`."""

    def __init__(self, file: DuckDbFile, *, location: str) -> None:
        self._file = file
        self._checkpoints = file.checkpoints
        self._location = location
        self._writer = anyio.CapacityLimiter(1)
        self._questions = Questions(file)
        self._database: duckdb.DuckDBPyConnection | None = None
        self._write_cursor: duckdb.DuckDBPyConnection | None = None
        self._writing: Writing | None = None
        self._attempted: tuple[Batch, int] | None = None
        self._size_bytes: int | None = None
        self._memory_bytes: int | None = None
        self._commits = 0

    # --- writing ------------------------------------------------------------------------------------

    async def commit(self, batch: Batch) -> None:
        await self._in_writer(partial(self._commit, batch))

    async def prune(self, before: Instant) -> int:
        """An hour of slots a transaction, so that no commit has to wait long for its turn."""
        gone = 0
        while True:
            deleted, done = await self._in_writer(partial(self._prune_slice, before))
            gone += deleted
            if done:
                break
        if gone:
            await self._in_writer(self._checkpoint)
        return gone

    async def reopen(self) -> None:
        async with self._questions.nobody_asking():
            await self._in_writer(self._reopen)

    async def close(self) -> None:
        async with self._questions.nobody_asking():
            await self._in_writer(self._close)

    def statistics(self) -> StorageStatistics:
        repairs = self._file.repairs
        return StorageStatistics(
            str(self._file.path), self._size_bytes, self._memory_bytes, repairs.mended, repairs.lost_batches
        )

    # --- reading ------------------------------------------------------------------------------------

    async def opening(self, location: str) -> Opening:
        return await self._questions.answer(partial(answers.opening, location=location))

    async def spans(self, check_id: str) -> Sequence[Span]:
        return await self._questions.answer(partial(answers.spans, check_id=check_id))

    async def results(
        self, check_id: str, *, since: Instant, until: Instant, limit: int
    ) -> Sequence[StoredResult]:
        asked = partial(answers.results, check_id=check_id, since=since, until=until, limit=limit)
        return await self._questions.answer(asked)

    async def coverage(self, *, since: Instant, until: Instant) -> Sequence[Coverage]:
        return await self._questions.answer(partial(answers.coverage, since=since, until=until))

    @asynccontextmanager
    async def copied(self) -> AsyncIterator[HistoryCopy]:
        """Made by a reader, beside the writer; nobody waits for it."""
        with ExitStack() as closing:
            work = partial(make_copy, path=self._file.path, closing=closing)
            yield await self._questions.answer(work, seconds=LONGEST_COPY_SECONDS)

    # --- in the writer's thread ---------------------------------------------------------------------

    def _commit(self, batch: Batch) -> None:
        cursor, writing = self._ready()
        last = writing.sequences.get(self._location, 0)
        if self._attempted is not None and self._attempted[0] is batch and last >= self._attempted[1]:
            # Its last commit did not say whether it was applied; the number it was to get does.
            self._file.log.acknowledge(self._location, Mark(last, batch.accounted_until))
            return
        self._checkpoint_if_due(cursor)
        self._attempted = batch, last + 1
        # Until the commit is known to have succeeded, what was loaded is taken to be out of step.
        self._writing = None
        try:
            write_batch(cursor, writing, batch, self._location)
        except duckdb.Error as error:
            raise self._file.error(error) from error
        finally:
            _roll_back(cursor)
        self._writing = writing
        self._checkpoints.committed()
        self._file.log.acknowledge(self._location, Mark(last + 1, batch.accounted_until))
        self._size_bytes = self._file.size_bytes()
        if self._commits % COMMITS_A_LOOK == 0:
            self._look_at_memory(cursor)
        self._commits += 1

    def _look_at_memory(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with suppress(duckdb.Error):  # what was to be written is written
            [(self._memory_bytes,)] = cursor.execute(sql.MEMORY_BYTES).fetchall()

    def _prune_slice(self, before: Instant) -> tuple[int, bool]:
        """Delete the oldest hour that is old enough: (rows deleted, nothing is left to delete)."""
        cursor, _ = self._ready()
        try:
            [(oldest,)] = cursor.execute(sql.OLDEST_SLOT).fetchall()
            until = before if oldest is None else min(before, oldest + PRUNED_AT_ONCE)
            cursor.begin()
            [(deleted,)] = cursor.execute(sql.PRUNE_RESULTS, [until]).fetchall()
            cursor.execute(sql.KEEP_SINCE, [until])
            if until == before:
                self._prune_rest(cursor, before)
            cursor.commit()
        except duckdb.Error as error:
            _roll_back(cursor)
            raise self._file.error(error) from error
        return int(deleted), until == before

    def _prune_rest(self, cursor: duckdb.DuckDBPyConnection, before: Instant) -> None:
        for statement in sql.PRUNE_OLD:
            cursor.execute(statement, [before])
        [(forgotten,)] = cursor.execute(sql.FORGET_CHECKS, [before]).fetchall()
        for statement in sql.PRUNE_ORPHANS:
            cursor.execute(statement, [before] if "$1" in statement else None)
        if forgotten:  # loading what the writer knows anew takes a while with thousands of checks
            self._writing = None

    def _checkpoint(self) -> None:
        cursor, _ = self._ready()
        try:
            self._checkpoints.run(cursor)
        except duckdb.Error as error:
            raise self._file.error(error) from error
        self._file.log.checkpointed()

    def _checkpoint_if_due(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Before the batch, whose commit then fails for nothing but itself."""
        if not self._checkpoints.is_due():
            return
        try:
            self._checkpoints.run(cursor)
            self._file.log.checkpointed()
        except OSError as error:
            log.warning("history.checkpoint_put_off", path=str(self._file.path), error=error.strerror)
        except duckdb.Error as error:
            self._writing = None
            raise self._file.error(error) from error

    def _reopen(self) -> None:
        self._close_database()
        self._file.lock()
        database = self._file.open()
        self._database = database
        self._size_bytes = self._file.size_bytes()
        self._write_cursor = database.cursor()
        self._questions.open(database)
        self._ready()  # what a commit has to know is read now: damage there is a reason not to start

    def _close(self) -> None:
        if self._write_cursor is not None:
            with suppress(StorageError, OSError):  # what is in the log stays in the log
                self._checkpoint()
        self._close_database()
        self._file.unlock()

    def _close_database(self) -> None:
        self._questions.close()
        for connection in (self._write_cursor, self._database):
            if connection is not None:
                with suppress(duckdb.Error):
                    connection.close()
        self._database = self._write_cursor = self._writing = None

    def _ready(self) -> tuple[duckdb.DuckDBPyConnection, Writing]:
        cursor = self._write_cursor
        if cursor is None:
            raise StorageError(f"{self._file.path}: closed; open it again")
        if self._writing is None:
            try:
                self._writing = Writing.load(lambda query: cursor.execute(query).fetchall())
            except duckdb.Error as error:
                raise self._file.error(error) from error
        return cursor, self._writing

    # --- whose turn it is ---------------------------------------------------------------------------

    async def _in_writer(self, work: Callable[[], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._writer)
        except OSError as error:
            # Beside DuckDB's own file there are the kept log, the mark and the lock: their disk is as full.
            reason = error.strerror or type(error).__name__
            raise StorageError(f"{self._file.path}: {reason}; free some space or mend the folder") from error
        except (
            duckdb.Error
        ) as error:  # while mending at an opening; a store that fails must not end the process
            raise self._file.error(error) from error


def _roll_back(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # a failed commit has ended its transaction already
        cursor.rollback()
