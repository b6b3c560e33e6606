"""A copy of a history that is being written: one moment of it, and nothing left behind."""

from __future__ import annotations

import os
import threading
from collections import namedtuple
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio
import duckdb
import pytest

from tests.storage.batches import ROWS, numbered
from watchbill.domain.errors import StorageError
from watchbill.ports import Copies
from watchbill.storage import duckdb_copy, open_storage
from watchbill.storage.duckdb_connection import connect
from watchbill.storage.duckdb_copy import make_copy
from watchbill.storage.duckdb_examination import examine

pytestmark = pytest.mark.anyio


async def received(store: Copies, path: Path) -> int:
    with path.open("wb") as file:
        async with store.copied() as copy:
            async for chunk in copy.chunks:
                file.write(chunk)
            assert file.tell() == copy.size_bytes
            return copy.rows


async def test_a_copy_under_load_holds_what_was_acknowledged_before_it(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / "it's.duckdb", 0
    async with open_storage(str(path)) as store, anyio.create_task_group() as writing:

        async def write() -> None:
            nonlocal acknowledged
            while True:
                await store.commit(numbered(acknowledged))
                acknowledged += 1

        writing.start_soon(write)
        for number in range(3):
            while acknowledged < 5 * (number + 1):
                await anyio.lowlevel.checkpoint()
            before, copy = acknowledged, tmp_path / f"copy-{number}"
            rows = await received(store, copy)
            found = examine(str(copy))
            assert (found.findings, found.rows) == ([], rows)
            assert before * ROWS <= rows <= (acknowledged + 1) * ROWS
            assert rows % ROWS == 0, "a batch is in it whole or not at all"
        writing.cancel_scope.cancel()
    assert not path.with_name(path.name + ".copying").exists()
    async with open_storage(str(tmp_path / "copy-2")) as restored:
        await restored.commit(numbered(rows // ROWS))
        assert len(await restored.results("shop", since=0, until=2**60, limit=10**6)) == rows + ROWS


async def test_a_copy_is_read_by_older_versions_of_duckdb(tmp_path: Path) -> None:
    async with open_storage(str(tmp_path / "history.duckdb")) as store:
        await received(store, tmp_path / "copy")
    assert int.from_bytes((tmp_path / "copy").read_bytes()[12:20], "little") == 67


async def test_what_a_kill_left_of_a_copy_is_gone_after_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "history.duckdb.copying"
    left.mkdir()
    (left / "copy.duckdb").write_bytes(b"half")
    async with open_storage(str(tmp_path / "history.duckdb")):
        assert not left.exists()


async def test_without_room_no_copy_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1, 1, 1 << 20))
    async with open_storage(str(tmp_path / "history.duckdb")) as store:
        with pytest.raises(StorageError, match="1 MB are free; make room"):
            await received(store, tmp_path / "copy")
        await store.commit(numbered(0))
    assert not (tmp_path / "history.duckdb.copying").exists()


async def test_closing_does_not_wait_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = anyio.Event()

    def endless(cursor: duckdb.DuckDBPyConnection, _: Path) -> int:
        anyio.from_thread.run_sync(begun.set)
        cursor.execute("SELECT count(*) FROM range(1000000000) a, range(1000000000) b").fetchall()
        raise AssertionError("it is interrupted")

    monkeypatch.setattr(duckdb_copy, "_filled", endless)
    async with anyio.create_task_group() as asking, open_storage(str(tmp_path / "history.duckdb")) as store:

        async def ask() -> None:
            with pytest.raises(StorageError, match="before the file was closed"):
                await received(store, tmp_path / "copy")

        asking.start_soon(ask)
        await begun.wait()
    assert not (tmp_path / "history.duckdb.copying").exists()


async def test_history_in_memory_is_not_copied(tmp_path: Path) -> None:
    async with open_storage("memory:") as store:
        with pytest.raises(StorageError, match="nothing to copy"):
            await received(store, tmp_path / "copy")


async def test_an_open_copy_costs_one_descriptor_and_no_name(tmp_path: Path) -> None:
    async with open_storage(str(tmp_path / "history.duckdb")) as store:
        before = len(os.listdir("/proc/self/fd"))
        async with store.copied():
            assert len(os.listdir("/proc/self/fd")) == before + 1
            assert not (tmp_path / "history.duckdb.copying").exists()
        assert len(os.listdir("/proc/self/fd")) == before


async def test_a_copy_that_is_given_up_as_it_is_done_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, given_up = anyio.Event(), threading.Event()

    def filled(_: duckdb.DuckDBPyConnection, target: Path) -> int:
        target.touch()
        anyio.from_thread.run_sync(begun.set)
        given_up.wait()
        return 0

    monkeypatch.setattr(duckdb_copy, "_filled", filled)
    async with open_storage(str(tmp_path / "history.duckdb")) as store:
        before = len(os.listdir("/proc/self/fd"))
        async with anyio.create_task_group() as asking:
            asking.start_soon(received, store, tmp_path / "copy")
            await begun.wait()
            asking.cancel_scope.cancel()
            given_up.set()
        assert len(os.listdir("/proc/self/fd")) == before


@dataclass
class Interrupted:
    """A cursor that is interrupted while it copies, and once in each step of the cleaning up after that."""

    cursor: duckdb.DuckDBPyConnection
    waiting: list[str] = field(default_factory=lambda: ["COPY", "ROLLBACK", "DETACH"])

    def execute(self, statement: str) -> duckdb.DuckDBPyConnection:
        if self.waiting and statement.startswith(self.waiting[0]):
            del self.waiting[0]
            raise duckdb.InterruptException("Interrupted!")
        return self.cursor.execute(statement)

    def begin(self) -> None:
        self.cursor.begin()

    def rollback(self) -> None:
        self.execute("ROLLBACK")


async def test_an_interrupted_copy_leaves_the_next_one_its_place(tmp_path: Path) -> None:
    path = tmp_path / "history.duckdb"
    async with open_storage(str(path)) as store:
        await store.commit(numbered(0))
    with connect(path) as database, ExitStack() as closing:
        cursor = Interrupted(database.cursor())
        cursor.begin()
        with pytest.raises(duckdb.InterruptException):
            make_copy(cast("duckdb.DuckDBPyConnection", cursor), path, closing)
        assert cursor.waiting == []
        cursor.begin()
        assert make_copy(cursor.cursor, path, closing).rows == ROWS


async def test_a_history_is_copied_whatever_its_name(tmp_path: Path) -> None:
    for number, name in enumerate(("watchbill_copy.duckdb", "copy", "temp.duckdb", "a:b;'\"")):
        async with open_storage(str(tmp_path / name)) as store:
            await store.commit(numbered(0))
            assert await received(store, tmp_path / f"{number}.copied") == ROWS
