"""Questions about a DuckDB file that is being written: two at a time, each over a cursor of its own, and interrupted
when nobody waits for the answer any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import anyio.to_thread
import duckdb

from watchbill.domain.errors import StorageError
from watchbill.storage.duckdb_connection import roll_back
from watchbill.storage.duckdb_file import DuckDbFile

T = TypeVar("T")
READERS = 2
LONGEST_QUESTION_SECONDS = 60.0
INTERRUPTED_EVERY_SECONDS = 0.05  # DuckDB forgets an interruption that comes between two statements


class Questions:
    """Of one file, while it is open."""

    def __init__(self, file: DuckDbFile) -> None:
        self._file = file
        self._readers = anyio.CapacityLimiter(READERS)
        self._reading_threads = anyio.CapacityLimiter(READERS)
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._asking: set[anyio.CancelScope] = set()

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        self._cursors = [database.cursor() for _ in range(READERS)]

    def close(self) -> None:
        for cursor in self._cursors:
            with suppress(duckdb.Error):
                cursor.close()
        self._cursors = []

    async def answer(
        self, question: Callable[[duckdb.DuckDBPyConnection], T], *, seconds: float | None = None
    ) -> T:
        """The answer, in one read-only transaction; a question that is given up is interrupted.

        :raises StorageError: it took too long, or the store had to be opened anew or closed meanwhile.
        """
        allowed = LONGEST_QUESTION_SECONDS if seconds is None else seconds
        with anyio.move_on_after(allowed) as asking:
            self._asking.add(asking)
            try:
                async with self._readers:
                    return await self._answered(question)
            finally:
                self._asking.discard(asking)
        raise StorageError(
            f"{self._file.path}: no answer within {allowed:.0f} s or before the file was closed; "
            "ask for a shorter period, or again"
        )

    async def _answered(self, question: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        if not self._cursors:
            raise StorageError(f"{self._file.path}: closed; open it again")
        cursor = self._cursors.pop()
        done = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_interrupt_if_cancelled, cursor, done, name="history question")
                with anyio.CancelScope(shield=True):
                    found = await anyio.to_thread.run_sync(
                        self._ask, cursor, question, limiter=self._reading_threads
                    )
                    done.set()
        finally:
            self._cursors.append(cursor)
        if isinstance(found, StorageError):
            raise found
        return found

    def _ask(
        self, cursor: duckdb.DuckDBPyConnection, question: Callable[[duckdb.DuckDBPyConnection], T]
    ) -> T | StorageError:
        """An error is returned, since a task group would wrap what is raised."""
        try:
            cursor.execute("BEGIN TRANSACTION READ ONLY")
            return question(cursor)
        except StorageError as error:
            return error
        except OSError as error:
            return StorageError(f"{self._file.path}: {error.strerror}; free some space or mend the folder")
        except duckdb.Error as error:
            return self._file.error(error)
        finally:
            roll_back(cursor)

    @asynccontextmanager
    async def nobody_asking(self) -> AsyncIterator[None]:
        """Who asks is interrupted: a slow question must not hold up a store that has to be healed or closed."""
        for asking in self._asking:
            asking.cancel()
        borrowers = [object() for _ in range(READERS)]
        held = []
        try:
            for borrower in borrowers:
                await self._readers.acquire_on_behalf_of(borrower)
                held.append(borrower)
            yield
        finally:
            for borrower in held:
                self._readers.release_on_behalf_of(borrower)


async def _interrupt_if_cancelled(cursor: duckdb.DuckDBPyConnection, done: anyio.Event) -> None:
    try:
        await done.wait()
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            while not done.is_set():
                cursor.interrupt()
                with anyio.move_on_after(INTERRUPTED_EVERY_SECONDS):
                    await done.wait()
        raise
