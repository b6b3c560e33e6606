"""``doctor``: what it finds in a history file, what it leaves alone, and what it saves."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from structlog.testing import capture_logs

from tests.storage.batches import ROWS, numbered
from tests.storage.events import batch, flipped, missed, registered, slots, success
from tests.storage.test_duckdb_file import killed_with_a_log
from watchbill.domain.errors import StorageError, StorageLockedError, StorageOutOfReachError
from watchbill.domain.status import Status
from watchbill.storage import duckdb_log, duckdb_salvage, open_storage
from watchbill.storage.duckdb_examination import Examination, Finding, examine
from watchbill.storage.duckdb_marks import Mark, Marks

pytestmark = pytest.mark.anyio

BLOCK = 256 << 10
FIRST_BLOCK = 12_288
MANY = 2_500


@pytest.fixture
async def history(tmp_path: Path) -> Path:
    """A whole history of two checks, of several blocks."""
    path = tmp_path / "history.duckdb"
    chance = random.Random(5)
    due = {name: slots(name, MANY) for name in ("shop", "till")}
    rows = [
        success(name, slot, duration_seconds=chance.random(), phases={"connect": chance.random()}, facts={"name": name})
        for name in due
        for slot in due[name]
    ]  # fmt: skip
    until = max(due["shop"][-1], due["till"][-1]) + 1
    async with open_storage(str(path)) as store:
        await store.commit(batch(registered("shop"), registered("till"), *rows, until=until))
        await store.commit(
            batch(flipped("shop", until, Status.UNKNOWN, Status.UP), missed(until, until + 9), until=until)
        )
    return path


def kinds(found: Examination) -> set[str]:
    return {finding.kind for finding in found.findings}


def change(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_a_whole_history_is_healthy_and_is_not_touched(history: Path) -> None:
    before = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in history.parent.iterdir()}
    found = examine(str(history))
    assert found.findings == []
    assert (found.rows, found.checks, found.batches, found.schema) == (2 * MANY, 2, {"": 2}, 3)
    after = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in history.parent.iterdir()}
    assert {name: digest for name, digest in after.items() if not name.endswith(".lock")} == {
        name: digest for name, digest in before.items() if not name.endswith(".lock")
    }


async def test_a_history_is_as_whole_under_any_name_and_beside_tables_of_others(history: Path) -> None:
    change(
        history,
        'CREATE TABLE "o""dd; drop" ("a""b" INTEGER)',
        "CREATE SCHEMA notes",
        "CREATE TABLE notes.page (text VARCHAR)",
    )
    named = history.rename(history.with_name("we\"i'rd.duckdb"))
    Path(f"{history}.seq").rename(f"{named}.seq")
    assert examine(str(named)).findings == []
    change(named, "INSERT INTO result FROM result WHERE rowid < 3")
    found = examine(str(named), repair=True)
    assert found.salvaged is not None
    assert examine(str(found.salvaged.path)).findings == []


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("doubled", "INSERT INTO result FROM result WHERE rowid < 3"),
        ("off_grid", "UPDATE result SET slot = slot + INTERVAL 1 SECOND WHERE rowid = 7"),
        ("nameless", "DELETE FROM check_identity WHERE check_id = 'till'"),
        ("nameless", "DELETE FROM check_revision"),
        ("unaccounted", "DELETE FROM result WHERE rowid BETWEEN 5 AND 9"),
        ("backward", "INSERT INTO gap VALUES ('', now(), now() - INTERVAL 1 SECOND, 'stall')"),
        ("ambiguous", "UPDATE check_identity SET check_id = 'shop'"),
    ],
)
async def test_what_must_hold_of_a_history_is_looked_at(history: Path, kind: str, statement: str) -> None:
    change(history, statement)
    assert kind in kinds(examine(str(history)))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO result FROM result WHERE rowid < 3",
        "UPDATE result SET slot = slot + INTERVAL 1 SECOND WHERE rowid = 7",
        "DELETE FROM check_identity WHERE check_id = 'till'",
        "DELETE FROM check_revision",
        "DELETE FROM result WHERE rowid BETWEEN 5 AND 9",
        "DELETE FROM span",
        "DELETE FROM writer_state",
    ],
)
async def test_what_is_saved_is_whole_again(history: Path, statement: str) -> None:
    change(history, statement)
    before = history.read_bytes()
    found = examine(str(history), repair=True)
    if found.salvaged is None:  # without how far it has come, the file only looks new
        assert "writer_state" in statement
        return
    assert history.read_bytes() == before
    assert examine(str(found.salvaged.path)).findings == []


async def test_every_block_can_be_lost_and_the_rest_is_saved(history: Path) -> None:
    """Whatever is damaged is told; what is saved is a history again, with a row or a gap for every slot."""
    whole, saved_rows = history.read_bytes(), []
    for place in range(FIRST_BLOCK, len(whole), BLOCK):
        content = bytearray(whole)
        content[place + 1_000] ^= 0xFF
        history.write_bytes(content)
        found = examine(str(history), repair=True)
        if found.salvaged is None:
            assert kinds(found) <= {"unusable"}  # its catalogue is gone, or nothing of it is in use
            continue
        assert kinds(found) == {"damaged"}
        after = examine(str(found.salvaged.path))
        assert after.findings == []
        assert after.rows + found.salvaged.left.get("result", 0) == 2 * MANY
        saved_rows.append(after.rows)
        async with open_storage(str(found.salvaged.path)) as store:
            await store.commit(numbered(1_000))
        found.salvaged.path.unlink()
    assert len(saved_rows) >= 5
    assert 2 * MANY in saved_rows
    assert any(rows < 2 * MANY for rows in saved_rows)


async def test_batches_that_are_gone_are_told_beside_damage(history: Path) -> None:
    marks = Marks(history.with_name("history.duckdb.seq"))
    marks.set("", Mark(7))
    marks.close()
    whole, told = history.read_bytes(), []
    for place in range(FIRST_BLOCK, len(whole), BLOCK):
        content = bytearray(whole)
        content[place + 1_000] ^= 0xFF
        history.write_bytes(content)
        found = examine(str(history))
        if any(
            each.kind == "damaged" and not each.message.startswith("writer_state") for each in found.findings
        ):
            told.append("lost" in kinds(found))
    assert told
    assert all(told)


async def test_a_log_is_looked_at_by_a_copy_and_mended_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "history.duckdb"
    acknowledged = killed_with_a_log(path)
    assert examine(str(path)).findings == []
    wal = path.with_name("history.duckdb.wal")
    content = bytearray(wal.read_bytes())
    content[len(content) // 2] ^= 0xFF
    wal.write_bytes(content)
    looked = examine(str(path))
    assert kinds(looked) == {"log_cut", "batches_lost"}
    assert wal.read_bytes() == content
    mended = examine(str(path), repair=True)
    assert (mended.findings, {each.kind for each in mended.mended}) == ([], {"log_cut", "batches_lost"})
    assert mended.rows == looked.rows < acknowledged * ROWS
    after = examine(str(path))
    assert after.healthy, "it was told"
    [earlier] = after.notes
    assert (earlier.kind, earlier.lost) == ("lost_earlier", True)
    assert f"to {acknowledged} " in earlier.message


async def test_what_the_doctor_found_missing_is_counted_by_the_next_start_once(history: Path) -> None:
    marks = Marks(history.with_name("history.duckdb.seq"))
    marks.set("", Mark(7))
    marks.close()
    mended = examine(str(history), repair=True)
    assert {each.kind for each in mended.mended} == {"batches_lost"}
    assert examine(str(history), repair=True).mended == []
    counted = []
    with capture_logs() as logs:
        for _ in range(2):
            async with open_storage(str(history)) as store:
                counted.append(store.statistics().lost_batches)
    assert counted == [5, 0]
    assert [line["event"] for line in logs] == ["history.batches_lost"]
    assert len(examine(str(history)).notes) == 1


async def test_a_history_in_use_is_not_examined(history: Path) -> None:
    async with open_storage(str(history)):
        with pytest.raises(StorageLockedError):
            examine(str(history))
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(history)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StorageLockedError) as caught:
            examine(str(history))
        other.stdin.close()
    assert caught.value.pid == str(other.pid)


@pytest.mark.parametrize("repair", [False, True])
async def test_a_history_that_another_program_writes_to_is_neither_copied_nor_touched(
    history: Path, repair: bool
) -> None:
    beside = {name: history.with_name(f"history.duckdb.{name}") for name in ("wal", "blocks", "doctor")}
    write = """import duckdb, sys
connection = duckdb.connect(sys.argv[1])
connection.execute("CREATE TABLE note AS SELECT 1")
print('written', flush=True)
sys.stdin.read()"""
    with subprocess.Popen(
        [sys.executable, "-c", write, str(history)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        assert beside["wal"].exists()
        beside["blocks"].write_bytes(b"of a checkpoint that was cut short")
        with pytest.raises(StorageLockedError) as caught:
            examine(str(history), repair=repair)
        assert beside["blocks"].exists()
        with pytest.raises(StorageLockedError):
            async with open_storage(str(history)):
                pass
        assert beside["blocks"].exists()
        other.stdin.close()
    assert caught.value.pid == str(other.pid)
    assert not beside["doctor"].exists()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.write_bytes(b""), "unusable"),
        (lambda path: path.write_text("checks: {}\n" * 99), "unusable"),
        (lambda path: duckdb.connect(str(path)).close(), "empty"),
        (lambda path: change(path, "CREATE TABLE somebody_elses (value INTEGER)"), "unusable"),
    ],
)
async def test_what_is_no_history_is_said_to_be_none(
    tmp_path: Path, make: Callable[[Path], object], kind: str
) -> None:
    make(tmp_path / "file")
    found = examine(str(tmp_path / "file"))
    assert kinds(found) == {kind}
    assert found.findings[0].message
    assert examine(str(tmp_path / "file"), repair=True).salvaged is None


async def test_what_was_saved_before_is_not_overwritten(history: Path) -> None:
    change(history, "DELETE FROM result WHERE rowid BETWEEN 5 AND 9")
    examine(str(history), repair=True)
    saved = history.with_name("history.duckdb.salvaged")
    before = saved.read_bytes()
    again = examine(str(history), repair=True)
    assert (again.salvaged, kinds(again)) == (None, {"unaccounted"})
    assert [str(each) for each in again.unexamined] == [
        str(Finding("not_saved", f"{saved}: exists; move it away first"))
    ]
    assert saved.read_bytes() == before


async def test_a_loss_is_told_also_where_nothing_can_be_saved(history: Path) -> None:
    marks = Marks(history.with_name("history.duckdb.seq"))
    marks.set("", Mark(7))
    marks.close()
    change(history, "DELETE FROM result WHERE rowid BETWEEN 5 AND 9")
    history.with_name("history.duckdb.salvaged").touch()
    found = examine(str(history), repair=True)
    assert [each.kind for each in found.mended] == ["batches_lost"]
    assert [each.kind for each in found.unexamined] == ["not_saved"]


async def test_nothing_is_left_of_what_could_not_be_saved(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(history, "DELETE FROM result WHERE rowid BETWEEN 5 AND 9")
    before = {file.name for file in history.parent.iterdir()}

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(duckdb_salvage, "sync", full)
    [failed] = examine(str(history), repair=True).unexamined
    assert failed.message.endswith("salvaged: No space left on device; make room or mend the folder")
    assert {file.name for file in history.parent.iterdir()} == before | {"history.duckdb.lock"}


@pytest.mark.parametrize("repair", [True, False])
async def test_a_disk_that_is_full_says_nothing_of_a_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repair: bool
) -> None:
    path = tmp_path / "history.duckdb"
    killed_with_a_log(path)
    wal = path.with_name("history.duckdb.wal")
    content = bytearray(wal.read_bytes())
    content[len(content) // 2] ^= 0xFF
    wal.write_bytes(content)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(duckdb_log, "put", full)
    found = examine(str(path), repair=repair)
    assert found.findings == []
    [not_examined] = found.unexamined
    assert "No space left on device" in not_examined.message


async def test_a_history_of_a_newer_version_is_not_said_to_be_lost(history: Path) -> None:
    change(history, "INSERT INTO schema_migration VALUES (99, now())")
    for repair in (False, True):
        with pytest.raises(
            StorageOutOfReachError, match=r"written by a newer watchbill .* upgrade watchbill"
        ):
            examine(str(history), repair=repair)


@pytest.mark.parametrize("of", ["file", "folder"])
async def test_a_history_that_this_user_may_not_read_is_not_said_to_be_lost(
    history: Path, tmp_path: Path, of: str
) -> None:
    examine(str(history))  # what it takes is imported
    place = tmp_path / "place"
    place.mkdir()
    for name in ("history.duckdb", "history.duckdb.seq"):
        history.with_name(name).rename(place / name)
    place.chmod(0o755)
    (place / "history.duckdb" if of == "file" else place).chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
            folder.chmod(folder.stat().st_mode | 0o011)
        os.seteuid(65_534)
    try:
        with pytest.raises(
            StorageError, match=r"history\.duckdb: (no permission; make|Permission denied; make)"
        ):
            examine(str(place / "history.duckdb"))
    finally:
        os.seteuid(user)
        place.chmod(0o755)


async def test_where_there_is_no_file_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        examine(str(tmp_path / "nothing"))
    assert list(tmp_path.iterdir()) == []
