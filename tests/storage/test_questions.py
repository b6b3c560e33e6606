"""A question to the file that nobody waits for any more, or that somebody must not wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.from_thread
import duckdb
import pytest

from tests.storage.batches import ROWS, numbered
from tests.storage.conftest import Open
from tests.storage.events import START, slots
from watchbill.domain.errors import StorageError
from watchbill.storage import duckdb_connection, duckdb_questions, open_storage
from watchbill.storage.duckdb import DuckDbStorage, open_duckdb
from watchbill.storage.duckdb_questions import READERS

pytestmark = pytest.mark.anyio

HOURS = "SELECT count(*) FROM range(1_000_000) a, range(1_000_000) b WHERE (a.range * b.range) % 7 = 3"
HANG_GUARD_SECONDS = 60


@pytest.fixture
async def store(duckdb_path: Path) -> AsyncIterator[DuckDbStorage]:
    opened = await open_duckdb(str(duckdb_path), location="")
    yield opened
    await opened.close()


class Slow:
    """Questions that take hours; ``asked`` is set once as many run as can run at once."""

    def __init__(self, store: DuckDbStorage) -> None:
        self._store = store
        self._running = 0
        self.asked = anyio.Event()
        self.refused: list[str] = []

    async def ask(self) -> None:
        try:
            await self._store._questions.answer(self._work)
        except StorageError as error:
            self.refused.append(str(error))

    def _work(self, cursor: duckdb.DuckDBPyConnection) -> object:
        self._running += 1
        if self._running == READERS:
            anyio.from_thread.run_sync(self.asked.set)
        return cursor.execute(HOURS).fetchall()


async def test_a_question_is_interrupted_when_its_asker_goes_away(store: DuckDbStorage) -> None:
    with anyio.fail_after(HANG_GUARD_SECONDS):
        slow = Slow(store)
        async with anyio.create_task_group() as tasks:
            for _ in range(READERS + 1):
                tasks.start_soon(slow.ask)
            await slow.asked.wait()
            tasks.cancel_scope.cancel()
        assert slow.refused == []
        await store.commit(numbered(0))
        assert len(await store.results("shop", since=0, until=2 * START, limit=ROWS)) == ROWS


async def test_opening_anew_and_closing_do_not_wait_for_slow_questions(store: DuckDbStorage) -> None:
    with anyio.fail_after(HANG_GUARD_SECONDS):
        for stop in (store.reopen, store.close):
            slow = Slow(store)
            async with anyio.create_task_group() as tasks:
                for _ in range(READERS + 1):
                    tasks.start_soon(slow.ask)
                await slow.asked.wait()
                await stop()
            assert len(slow.refused) == READERS + 1


async def test_a_question_that_takes_too_long_is_given_up(
    store: DuckDbStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_questions, "LONGEST_QUESTION_SECONDS", 0.2)
    with anyio.fail_after(HANG_GUARD_SECONDS):
        slow = Slow(store)
        await slow.ask()
        [said] = slow.refused
        assert "ask for a shorter period" in said
        assert await store.coverage(since=0, until=START) == []


async def test_a_question_that_needs_too_much_memory_is_told_what_to_do(
    duckdb_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(duckdb_connection.CONFIG, "memory_limit", "64MB")
    store = await open_duckdb(str(duckdb_path), location="")
    try:
        with pytest.raises(
            StorageError, match=r"more than the 64MB of memory .* ask for a shorter period"
        ) as caught:
            await store._questions.answer(
                lambda cursor: cursor.execute("SELECT len(list(n)) FROM range(30_000_000) t(n)").fetchall()
            )
        assert caught.value.retryable
        await store.commit(numbered(0))
    finally:
        await store.close()


async def test_commits_go_on_beside_slow_questions(store: DuckDbStorage) -> None:
    with anyio.fail_after(HANG_GUARD_SECONDS):
        slow = Slow(store)
        async with anyio.create_task_group() as tasks:
            for _ in range(READERS + 1):
                tasks.start_soon(slow.ask)
            await slow.asked.wait()
            await store.commit(numbered(0))
            assert not slow.refused
            tasks.cancel_scope.cancel()


async def test_a_store_whose_user_is_cancelled_is_closed(open_duckdb: Open, duckdb_path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with open_duckdb() as store:
            await store.commit(numbered(0))
            scope.cancel()
            await anyio.sleep_forever()
    async with open_storage(str(duckdb_path)) as store:
        rows = await store.results("shop", since=0, until=2 * START, limit=1_000)
    assert sorted(row.slot for row in rows) == slots("shop", ROWS)
