"""A log that is mended is the old one or the mended one, wherever a kill comes between."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import duckdb
import pytest
from structlog.testing import capture_logs

import watchbill.storage
from tests.storage.batches import ROWS
from tests.storage.events import slots
from tests.storage.test_duckdb_file import killed_with_a_log, slots_stored
from watchbill.domain.errors import StorageError, StorageStarvedError
from watchbill.storage import duckdb_connection, duckdb_file, duckdb_log
from watchbill.storage.duckdb_file import DuckDbFile
from watchbill.storage.duckdb_marks import Mark, Marks

pytestmark = pytest.mark.anyio

SOURCES = str(Path(watchbill.storage.__file__).parent)
STORED = 12
Spoil = Callable[[bytearray], object]
Image = dict[str, bytes]


def flipped(place: float) -> Spoil:
    def flip(log: bytearray) -> None:
        log[int(place) if place >= 1 or not place else int(len(log) * place)] ^= 0xFF

    return flip


def renamed(log: bytearray) -> None:
    log[9] ^= 1


def halved(log: bytearray) -> None:
    del log[len(log) // 2 :]


SPOILT = pytest.mark.parametrize(
    ("spoil", "whole"),
    [
        pytest.param(flipped(0), True, id="a head that DuckDB passes over"),
        pytest.param(flipped(4), True, id="a head that cannot be read"),
        pytest.param(renamed, True, id="a bit of the database's name"),
        pytest.param(flipped(0.9), False, id="a torn end"),
        pytest.param(halved, False, id="an end that is gone"),
    ],
)


def image(folder: Path) -> Image:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith(".lock")}


def seen_while(work: Callable[[], object], folder: Path) -> list[Image]:
    """What a kill would leave before each line of the store that ``work`` comes to, each once."""
    seen: list[Image] = []

    def look(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        now = image(folder)
        if now not in seen[-1:]:
            seen.append(now)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        work()
    finally:
        sys.settrace(before)
    return [*seen, image(folder)]


def opened_and_closed(path: Path) -> Callable[[], None]:
    def work() -> None:
        file = DuckDbFile(str(path), quiet=True)
        file.lock()
        file.open().close()
        file.unlock()

    return work


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, int]:
    path = tmp_path / "killed" / "history.duckdb"
    path.parent.mkdir()
    return path, killed_with_a_log(path, STORED)


@SPOILT
async def test_a_kill_while_a_log_is_mended_loses_nothing_more(
    killed: tuple[Path, int], tmp_path: Path, spoil: Spoil, whole: bool
) -> None:
    path, acknowledged = killed
    wal = path.with_name("history.duckdb.wal")
    content = bytearray(wal.read_bytes())
    spoil(content)
    wal.write_bytes(content)
    images = seen_while(opened_and_closed(path), path.parent)
    undisturbed = await slots_stored(path)
    assert len(undisturbed) >= acknowledged * ROWS if whole else undisturbed
    assert undisturbed == slots("shop", len(undisturbed))
    assert len(images) > 3
    for number, left in enumerate(images):
        again = tmp_path / str(number)
        again.mkdir()
        for name, data in left.items():
            (again / name).write_bytes(data)
        with capture_logs() as logs:
            assert await slots_stored(again / "history.duckdb") == undisturbed, sorted(left)
        told = sum(line["batches"] for line in logs if line["event"] == "history.batches_lost")
        before = Marks(again / "history.duckdb.seq").losses()
        assert told == max(0, acknowledged - len(undisturbed) // ROWS) or before, sorted(left)
        assert [name for name in image(again) if ".mending" in name] == []
        evidence = [data for name, data in image(again).items() if ".wal" in name and data == bytes(content)]
        assert evidence, "what was damaged is kept"
        shutil.rmtree(again)


@pytest.mark.parametrize(
    "said", ["Out of Memory Error: could not allocate block", "failed to pin block of size 256.0 KiB"]
)
async def test_a_log_that_memory_does_not_suffice_for_is_left_as_it_is(
    killed: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    path, acknowledged = killed
    before = image(path.parent)

    def starving(*_: object) -> duckdb.DuckDBPyConnection:
        raise duckdb.TransactionException(f'Failure while replaying WAL file "{path}.wal": {said}')

    monkeypatch.setattr(duckdb_log, "connect", starving)
    with pytest.raises(
        StorageStarvedError, match="its log cannot be replayed now; free memory or space"
    ) as caught:
        await slots_stored(path)
    assert caught.value.retryable
    left = image(path.parent)
    assert {name: left[name] for name in before} == before
    monkeypatch.undo()
    assert len(await slots_stored(path)) >= acknowledged * ROWS


async def test_what_duckdb_says_when_memory_does_not_suffice_is_known(
    killed: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = killed
    monkeypatch.setitem(duckdb_connection.CONFIG, "memory_limit", "1MB")
    with pytest.raises(StorageStarvedError):
        await slots_stored(path)


async def test_where_files_have_one_name_only_a_log_is_mended_all_the_same(
    killed: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, acknowledged = killed
    wal = path.with_name("history.duckdb.wal")
    content = bytearray(wal.read_bytes())
    content[0] ^= 0xFF
    wal.write_bytes(content)
    monkeypatch.setattr(os, "link", unknown)
    assert len(await slots_stored(path)) >= acknowledged * ROWS
    assert wal.with_name("history.duckdb.wal.corrupt-1").read_bytes() == content


@pytest.mark.parametrize("linking", [True, False])
async def test_starts_on_a_full_disk_do_not_fill_it_further(
    killed: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, linking: bool
) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:1_000])
        raise OSError(28, "No space left on device")

    path, _ = killed
    wal = path.with_name("history.duckdb.wal")
    content = bytearray(wal.read_bytes())
    content[len(content) * 9 // 10] ^= 0xFF
    wal.write_bytes(content)
    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(Path, "write_bytes", _no_room)
    if not linking:
        monkeypatch.setattr(os, "link", unknown)
    for _ in range(3):
        with pytest.raises(StorageError, match="No space left"):
            await slots_stored(path)
    monkeypatch.undo()
    assert wal.read_bytes() == content
    assert len([name for name in image(path.parent) if ".corrupt-" in name or ".part" in name]) <= linking


def unknown(*_: object, **__: object) -> None:
    """Of a file system that knows no second names."""
    raise OSError(95, "Operation not supported")


def _no_room(path: Path, _: bytes) -> int:
    path.touch()
    raise OSError(28, "No space left on device")


async def test_first_starts_that_fail_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise duckdb.IOException('Could not write file "x": No space left on device')

    path = tmp_path / "history.duckdb"
    monkeypatch.setattr(duckdb_file, "migrate", failing)
    for _ in range(3):
        with pytest.raises(StorageError, match="the disk is full"):
            await slots_stored(path)
    assert list(image(tmp_path)) == []


async def test_first_starts_that_are_killed_leave_one_half_made_file(tmp_path: Path) -> None:
    path = tmp_path / "history.duckdb"
    for number in range(3):
        path.with_name("history.duckdb.new").write_bytes(b"half %d" % number)
        path.unlink(missing_ok=True)
        with capture_logs() as logs:
            assert await slots_stored(path) == []
        path.with_name("history.duckdb.seq").unlink(missing_ok=True)
        assert [line["event"] for line in logs] == ["history.half_made"] * (number == 0)
    assert path.with_name("history.duckdb.new.corrupt-1").read_bytes() == b"half 0"
    assert [name for name in image(tmp_path) if ".new" in name] == ["history.duckdb.new.corrupt-1"]


async def test_the_name_of_a_new_mark_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def sync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    marks = Marks(tmp_path / "history.duckdb.seq")
    marks.set("", Mark(1))
    marks.set("", Mark(2))
    marks.close()
    assert synced == [str(tmp_path)]
