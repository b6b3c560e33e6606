"""A checkpoint that is cut short is undone at the next opening."""

from __future__ import annotations

import errno
import shutil
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from structlog.testing import capture_logs

from tests.crash.numbered import Seen, group, instant, look, registrations
from watchbill.domain.history import Batch
from watchbill.storage import duckdb_checkpoint
from watchbill.storage.duckdb import DuckDbStorage, open_duckdb
from watchbill.storage.duckdb_examination import examine

pytestmark = pytest.mark.anyio

BLOCK, HEAD = 262_144, 12_288
GROUPS = 6


def batch(number: int) -> Batch:
    declared = [] if number else registrations(instant(0), 0)
    return Batch((*declared, *group(number)), instant(number + 1) + 1)


async def seen_in(path: Path) -> Seen:
    store = await open_duckdb(str(path), location="")
    try:
        return await store._questions.answer(look)
    finally:
        await store.close()


async def written(store: DuckDbStorage, first: int, last: int) -> None:
    for number in range(first, last):
        await store.commit(batch(number))


def copied(folder: Path, to: str) -> Path:
    shutil.copytree(folder, folder.with_name(to))
    return folder.with_name(to)


@pytest.fixture
async def checkpoint(tmp_path: Path) -> tuple[Path, Path]:
    """(a folder as it was when its second checkpoint began, the same when that was done but for its tidying up)"""
    folder = tmp_path / "store"
    folder.mkdir()
    store = await open_duckdb(str(folder / "h.duckdb"), location="")
    try:
        await written(store, 0, GROUPS // 2)
        await store._in_writer(store._checkpoint)
        await written(store, GROUPS // 2, GROUPS)
        await store._in_writer(lambda: store._checkpoints._save(store._ready()[0]))
        begun = copied(folder, "begun")
        await store._in_writer(store._ready()[0].checkpoint)
        return begun, copied(folder, "done")
    finally:
        await store.close()


def half_written(begun: Path, done: Path) -> Path:
    """The first block of the metadata is half new, as a kill in the middle of writing it leaves it."""
    new = (done / "h.duckdb").read_bytes()[HEAD : HEAD + BLOCK]
    old = (begun / "h.duckdb").read_bytes()[HEAD : HEAD + BLOCK]
    differing = next(at for at in range(8, BLOCK) if new[at] != old[at])
    with (begun / "h.duckdb").open("r+b") as file:
        file.seek(HEAD + 8)
        file.write(new[8 : differing + 1])
    return begun / "h.duckdb"


async def test_a_checkpoint_cut_short_loses_nothing(checkpoint: tuple[Path, Path]) -> None:
    path = half_written(*checkpoint)
    with pytest.raises(duckdb.Error, match="Corrupt database file"):
        duckdb.connect(str(copied(path.parent, "plain") / "h.duckdb"))
    with capture_logs() as logs:
        seen = await seen_in(path)
    assert (seen.newest, seen.problems) == (GROUPS - 1, [])
    assert [line["event"] for line in logs] == ["history.checkpoint_undone"]
    assert not path.with_name("h.duckdb.blocks").exists()


@pytest.mark.parametrize("repair", [False, True])
async def test_a_checkpoint_cut_short_is_no_damage_for_the_doctor(
    checkpoint: tuple[Path, Path], repair: bool
) -> None:
    path = half_written(*checkpoint)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    found = examine(str(path), repair=repair)
    assert (found.findings, found.mended, found.salvaged) == ([], [], None)
    assert [note.kind for note in found.notes] == ["checkpoint_undone"]
    if repair:
        assert not path.with_name("h.duckdb.blocks").exists()
    else:
        after = {file.name: file.read_bytes() for file in path.parent.iterdir()}
        assert {**after, "h.duckdb.lock": b""} == {**before, "h.duckdb.lock": b""}
    seen = await seen_in(path)
    assert (seen.newest, seen.problems) == (GROUPS - 1, [])


async def test_a_checkpoint_that_was_done_is_not_undone(checkpoint: tuple[Path, Path]) -> None:
    _, done = checkpoint
    with capture_logs() as logs:
        seen = await seen_in(done / "h.duckdb")
    assert (seen.newest, seen.problems) == (GROUPS - 1, [])
    assert logs == []
    assert not (done / "h.duckdb.blocks").exists()


async def test_blocks_that_were_not_saved_whole_are_not_put_back(checkpoint: tuple[Path, Path]) -> None:
    begun, _ = checkpoint
    saved = begun / "h.duckdb.blocks"
    saved.write_bytes(saved.read_bytes()[:-1] + b"?")
    before = (begun / "h.duckdb").read_bytes()
    with capture_logs() as logs:
        seen = await seen_in(begun / "h.duckdb")
    assert (seen.newest, seen.problems) == (GROUPS - 1, [])
    assert logs == []
    assert len((begun / "h.duckdb").read_bytes()) >= len(before)


async def test_a_large_log_goes_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_checkpoint, "LOG_BYTES", 20_000)
    path = tmp_path / "h.duckdb"
    store = await open_duckdb(str(path), location="")
    sizes = []
    try:
        for number in range(20):
            await store.commit(batch(number))
            sizes.append(path.with_name("h.duckdb.wal").stat().st_size)
    finally:
        await store.close()
    assert max(sizes) < 40_000
    assert not path.with_name("h.duckdb.wal").exists()
    assert not path.with_name("h.duckdb.blocks").exists()
    seen = await seen_in(path)
    assert (seen.newest, seen.problems) == (19, [])


async def test_a_log_of_many_commits_goes_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_checkpoint, "LOG_COMMITS", 5)
    store = await open_duckdb(str(tmp_path / "h.duckdb"), location="")
    sizes = []
    try:
        for number in range(20):
            await store.commit(batch(number))
            sizes.append((tmp_path / "h.duckdb.wal").stat().st_size)
    finally:
        await store.close()
    shrunk = [number for number, (before, after) in enumerate(pairwise(sizes), 1) if after < before]
    assert shrunk == [5, 10, 15]
    seen = await seen_in(tmp_path / "h.duckdb")
    assert (seen.newest, seen.problems) == (19, [])


async def test_a_log_that_another_process_left_is_not_replayed_a_second_time(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole" / "h.duckdb", tmp_path / "h.duckdb"
    whole.parent.mkdir()
    store = await open_duckdb(str(whole), location="")
    try:
        await written(store, 0, 20)
        for name in ("h.duckdb", "h.duckdb.wal", "h.duckdb.seq"):
            shutil.copy(whole.with_name(name), tmp_path / name)
    finally:
        await store.close()
    left = path.with_name("h.duckdb.wal").stat().st_size
    store = await open_duckdb(str(path), location="")
    try:
        await store.commit(batch(20))
        assert path.with_name("h.duckdb.wal").stat().st_size < left / 2
    finally:
        await store.close()
    seen = await seen_in(path)
    assert (seen.newest, seen.problems) == (20, [])


async def test_where_there_is_no_room_for_a_checkpoint_commits_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(duckdb_checkpoint, "LOG_BYTES", 20_000)
    monkeypatch.setattr(duckdb_checkpoint.Checkpoints, "_save", full)
    path = tmp_path / "h.duckdb"
    with capture_logs() as logs:
        store = await open_duckdb(str(path), location="")
        await written(store, 0, 30)
        await store.close()
    put_off = [line for line in logs if line["event"] == "history.checkpoint_put_off"]
    assert 1 < len(put_off) < 10
    monkeypatch.undo()
    seen = await seen_in(path)
    assert (seen.newest, seen.problems) == (29, [])
