"""What happens to the file: killed, locked, damaged, full."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from structlog.testing import capture_logs

from tests.storage.batches import ROWS, numbered
from tests.storage.conftest import Open
from tests.storage.events import START, batch, check, registered, slots, success
from watchbill.domain.checks import Check
from watchbill.domain.discovery import TargetGroup
from watchbill.domain.errors import StorageError, StorageLockedError
from watchbill.domain.messages import TargetsFound
from watchbill.domain.stalls import STALLED
from watchbill.domain.units import Instant, isoformat
from watchbill.storage import open_storage
from watchbill.storage.duckdb_marks import PLACE_BYTES, Mark, Marks

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
EVER: Instant = 2 * START


def start_writing(path: Path, first: int, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.batches", str(path), str(first), *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


def kill_after(process: subprocess.Popen[str], acknowledgements: int, *, first: int) -> int:
    """SIGKILL once so many batches were acknowledged; how many were (those still in the pipe among them)."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(acknowledgements)]
    process.kill()
    said += process.stdout.readlines()
    process.wait(30)
    process.stdout.close()
    numbers = [int(line) for line in said if line.strip().isdigit()]
    assert numbers == list(range(first, first + len(numbers)))
    return len(numbers)


async def slots_stored(path: Path) -> list[Instant]:
    async with open_storage(str(path)) as store:
        return sorted(row.slot for row in await store.results("shop", since=0, until=EVER, limit=1_000_000))


def mark(path: Path, sequence: int) -> None:
    marks = Marks(path.with_name(path.name + ".seq"))
    marks.set("", Mark(sequence, None))
    marks.close()


def killed_with_a_log(path: Path, acknowledgements: int = 20) -> int:
    """A file whose newest batches are only in its write-ahead log, as a kill leaves it."""
    acknowledged = kill_after(start_writing(path, 0), acknowledgements, first=0)
    assert path.with_name(path.name + ".wal").stat().st_size > 0
    return acknowledged


async def test_a_killed_writer_loses_nothing_that_was_acknowledged_and_doubles_nothing(
    duckdb_path: Path,
) -> None:
    chance, stored = random.Random(7), 0
    for _ in range(3):
        acknowledged = kill_after(start_writing(duckdb_path, stored), chance.randint(3, 30), first=stored)
        assert acknowledged > 0
        found = await slots_stored(duckdb_path)
        assert len(found) % ROWS == 0, "a batch is there whole or not at all"
        assert stored + acknowledged <= len(found) // ROWS <= stored + acknowledged + 1
        stored = len(found) // ROWS
        assert found == slots("shop", stored * ROWS)


async def test_a_full_disk_fails_the_commit_and_heals_once_there_is_room(duckdb_path: Path) -> None:
    async with open_storage(str(duckdb_path)):
        pass
    process = start_writing(duckdb_path, 0, f"limit:{duckdb_path.stat().st_size + 100_000}")
    said = process.communicate(timeout=120)[0].splitlines()
    assert "the disk is full" in said[-2]
    assert said[-1].startswith("healed ")
    acknowledged = int(said[-1].split()[1]) + 1
    assert acknowledged > 1
    assert await slots_stored(duckdb_path) == slots("shop", acknowledged * ROWS)


async def test_a_second_process_is_told_who_holds_the_file(duckdb_path: Path) -> None:
    process = start_writing(duckdb_path, 0)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(StorageLockedError) as caught:
        async with open_storage(str(duckdb_path)):
            pass
    kill_after(process, 1, first=1)
    assert str(caught.value) == (
        f"{duckdb_path}: in use by process {process.pid}; stop that process, or give this one another file with --storage"
    )
    assert not caught.value.retryable


async def test_the_same_file_is_not_opened_twice_in_one_process(open_duckdb: Open) -> None:
    async with open_duckdb():
        with pytest.raises(StorageLockedError, match=f"in use by process {os.getpid()};"):
            async with open_duckdb():
                pass
    async with open_duckdb():
        pass


async def test_a_file_held_by_another_program_is_locked_too(duckdb_path: Path) -> None:
    async with open_storage(str(duckdb_path)):
        pass
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(duckdb_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with pytest.raises(StorageLockedError, match=f"in use by process {other.pid};"):
            async with open_storage(str(duckdb_path)):
                pass
        other.stdin.close()


async def test_a_history_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "watchbill.duckdb"
    first, second = slots("shop", 2)
    async with open_storage(str(path)) as store:
        await store.commit(batch(registered("shop"), success("shop", first), until=first + 1))
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE result DROP COLUMN stalled_micros")
        connection.execute("DROP TABLE discovered_group")
        connection.execute("DELETE FROM schema_migration WHERE version > 1")
    async with open_storage(str(path)) as store:
        group = TargetGroup("hosts.json:0", ({"__address__": "a:1"},), {})
        found = TargetsFound("hosts", (group,), (), second)
        await store.commit(batch(success("shop", second), found, until=second + 1))
        assert (await store.opening("")).targets == {"hosts": (group,)}
        assert [row.slot for row in await store.results("shop", since=0, until=EVER, limit=9)] == [
            second,
            first,
        ]
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT count(*), count(stalled_seconds) FROM results").fetchone() == (2, 0)


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4_100:4_200] = bytes(100)
    content[8_200:8_300] = bytes(100)
    path.write_bytes(content)


def _newer(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO schema_migration VALUES (99, now())")


def _foreign(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE somebody_elses (value INTEGER)")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b""), "not a DuckDB database; move it away, or give --storage another path"),
        (lambda path: path.write_text("checks: {}\n" * 99), "not a DuckDB database; move it away"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(5_000)), "not a DuckDB database; move it away"),
        (_truncated, "the file is cut short; restore a backup, or move it away to start anew"),
        (_flipped, "the file is damaged; save what can be read with watchbill doctor --repair, restore a backup"),
        (_newer, "written by a newer watchbill (schema 99); upgrade watchbill"),
        (_foreign, "a DuckDB database, but not a history of watchbill; give --storage another path"),
    ],
)  # fmt: skip
async def test_a_file_that_cannot_be_used_is_refused_with_the_remedy(
    duckdb_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    async with open_storage(str(duckdb_path)) as store:
        rows = [success("shop", slot) for slot in slots("shop", 20_000)]
        await store.commit(batch(registered("shop"), *rows))
    spoil(duckdb_path)
    with pytest.raises(StorageError) as caught:
        async with open_storage(str(duckdb_path)):
            pass
    message = str(caught.value)
    assert message.startswith(f"{duckdb_path}: {said}")
    assert "\n" not in message
    assert not caught.value.retryable


async def test_an_older_copy_restored_under_a_newer_log_is_not_given_that_log(duckdb_path: Path) -> None:
    """The log's batches do not follow on the copy's: the ones between would be gone without a word."""
    backup = duckdb_path.with_name("backup")
    for first in (0, 5):
        async with open_storage(str(duckdb_path)) as store:
            for number in range(first, first + 5):
                await store.commit(numbered(number))
        if not first:
            shutil.copy(duckdb_path, backup)
    acknowledged = 10 + kill_after(start_writing(duckdb_path, 10), 10, first=10)
    mark(duckdb_path, acknowledged)
    backup.rename(duckdb_path)
    with capture_logs() as logs:
        assert await slots_stored(duckdb_path) == slots("shop", 5 * ROWS)
    said = {line["event"]: line for line in logs}
    assert (duckdb_path.parent / said["history.log_of_another_file"]["kept_as"]).stat().st_size > 0
    assert said["history.batches_lost"]["batches"] == acknowledged - 5
    assert "history.log_rebuilt" not in said


async def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    volume, here = tmp_path / "volume", tmp_path / "here"
    volume.mkdir()
    here.mkdir()
    (here / "history.duckdb").symlink_to(volume / "real.duckdb")
    async with open_storage(str(here / "history.duckdb")) as store:
        await store.commit(numbered(0))
        with pytest.raises(StorageLockedError):
            async with open_storage(str(volume / "real.duckdb")):
                pass
    assert (here / "history.duckdb").is_symlink()
    assert await slots_stored(volume / "real.duckdb") == slots("shop", ROWS)
    assert [file.name for file in here.iterdir()] == ["history.duckdb"]


async def test_a_folder_or_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(StorageError, match=f"^{path}: not a file; give --storage another path$"):
            async with open_storage(str(path)):
                pass
    assert not (tmp_path / "pipe.lock").exists()


async def test_a_log_left_without_its_file_is_kept_and_said(duckdb_path: Path) -> None:
    killed_with_a_log(duckdb_path)
    duckdb_path.unlink()
    with capture_logs() as logs:
        assert await slots_stored(duckdb_path) == []
    [left] = [line for line in logs if line["event"] == "history.log_without_file"]
    assert (duckdb_path.parent / left["kept_as"]).stat().st_size > 0


def _checked(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x} {text}"


@pytest.mark.parametrize(
    "content",
    [
        "", "\x00", "deadbeef {}", _checked("[]"), _checked("{"), _checked("{}"), _checked("[" * 100_000),
        _checked('{"number": 1, "marks": {"": "x"}, "lost": []}'),
        _checked('{"number": 1e999, "marks": {"": [9]}, "lost": []}'),
    ],
)  # fmt: skip
async def test_a_spoiled_mark_promises_nothing(duckdb_path: Path, content: str) -> None:
    async with open_storage(str(duckdb_path)) as store:
        await store.commit(numbered(0))
    duckdb_path.with_name("history.duckdb.seq").write_text(content)
    with capture_logs() as logs:
        assert await slots_stored(duckdb_path) == slots("shop", ROWS)
    assert logs == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "the history needs a file"),
        ("duckdb:", "the history needs a file"),
        ("mysql://db/watchbill", "mysql: is no kind of history store"),
        ("/nowhere/at/all/history.duckdb", "make the folder /nowhere/at/all exist and writable"),
    ],
)
async def test_an_address_that_leads_nowhere_is_refused(url: str, said: str) -> None:
    with pytest.raises(StorageError, match=said):
        async with open_storage(url):
            pass


async def test_a_torn_end_of_the_log_is_cut_off_and_kept(duckdb_path: Path) -> None:
    acknowledged = killed_with_a_log(duckdb_path)
    wal = duckdb_path.with_name("history.duckdb.wal")
    content = bytearray(wal.read_bytes())
    content[len(content) * 9 // 10] ^= 0xFF
    wal.write_bytes(content)
    with capture_logs() as logs:
        found = await slots_stored(duckdb_path)
    assert 0 < len(found) // ROWS <= acknowledged
    assert found == slots("shop", len(found))
    [cut] = [line for line in logs if line["event"] == "history.log_cut"]
    assert (duckdb_path.parent / cut["kept_as"]).read_bytes() == content


@pytest.mark.parametrize("place", [0, 4, 8, 16, 24])
async def test_a_log_with_a_damaged_head_gets_a_new_one(duckdb_path: Path, place: int) -> None:
    acknowledged = killed_with_a_log(duckdb_path)
    mark(duckdb_path, acknowledged)
    wal = duckdb_path.with_name("history.duckdb.wal")
    content = bytearray(wal.read_bytes())
    content[place] ^= 0xFF
    wal.write_bytes(content)
    with capture_logs() as logs:
        found = await slots_stored(duckdb_path)
    assert len(found) // ROWS >= acknowledged
    assert found == slots("shop", len(found))
    assert "history.log_rebuilt" in [line["event"] for line in logs]
    assert "history.batches_lost" not in [line["event"] for line in logs]


@pytest.mark.parametrize(
    ("place", "bits"), [(0, 0xFF), (9, 0x01)], ids=["passed over by DuckDB", "another database's by its name"]
)
async def test_a_log_with_a_damaged_head_is_known_again_without_a_mark(
    duckdb_path: Path, place: int, bits: int
) -> None:
    acknowledged = killed_with_a_log(duckdb_path)
    duckdb_path.with_name("history.duckdb.seq").unlink()
    wal = duckdb_path.with_name("history.duckdb.wal")
    content = bytearray(wal.read_bytes())
    content[place] ^= bits
    wal.write_bytes(content)
    with capture_logs() as logs:
        found = await slots_stored(duckdb_path)
    assert len(found) // ROWS >= acknowledged
    assert [line["event"] for line in logs] == ["history.log_rebuilt"]


async def test_a_log_that_lost_batches_is_kept(duckdb_path: Path) -> None:
    acknowledged = killed_with_a_log(duckdb_path)
    wal = duckdb_path.with_name("history.duckdb.wal")
    content = bytearray(wal.read_bytes())[: wal.stat().st_size // 2]
    wal.write_bytes(content)
    with capture_logs() as logs:
        found = await slots_stored(duckdb_path)
    [lost] = [line for line in logs if line["event"] == "history.batches_lost"]
    assert lost["batches"] == acknowledged - len(found) // ROWS
    assert (lost["slots_since"], lost["slots_until"]) == tuple(
        isoformat(numbered(number).accounted_until) for number in (len(found) // ROWS - 1, acknowledged - 1)
    )
    assert (duckdb_path.parent / lost["kept_as"]).read_bytes() == content


async def test_a_log_whose_tail_is_gone_is_not_replayed_twice(duckdb_path: Path) -> None:
    acknowledged = killed_with_a_log(duckdb_path)
    mark(duckdb_path, acknowledged)
    wal = duckdb_path.with_name("history.duckdb.wal")
    os.truncate(wal, wal.stat().st_size // 2)
    with capture_logs() as logs:
        found = await slots_stored(duckdb_path)
    assert 0 < len(found) // ROWS < acknowledged
    assert found == slots("shop", len(found))
    [lost] = [line["batches"] for line in logs if line["event"] == "history.batches_lost"]
    assert lost == acknowledged - len(found) // ROWS


async def test_batches_that_are_gone_are_counted_aloud(open_duckdb: Open, duckdb_path: Path) -> None:
    async with open_storage(str(duckdb_path)) as store:
        await store.commit(numbered(0))
    mark(duckdb_path, 5)
    with capture_logs() as logs:
        async with open_duckdb() as store:
            assert store.statistics().lost_batches == 4
    [lost] = [line for line in logs if line["event"] == "history.batches_lost"]
    assert (lost["batches"], lost["first"], lost["last"]) == (4, 2, 5)
    with capture_logs() as logs:
        assert len(await slots_stored(duckdb_path)) == ROWS
    assert logs == [], "it is told once"
    [loss] = Marks(duckdb_path.with_name("history.duckdb.seq")).losses()
    assert (loss.first, loss.last) == (2, 5)


async def test_the_high_water_mark_is_set_before_a_commit_is_acknowledged(
    open_duckdb: Open, duckdb_path: Path
) -> None:
    marks = Marks(duckdb_path.with_name("history.duckdb.seq"))
    async with open_duckdb() as store:
        for number in range(3):
            await store.commit(numbered(number))
            assert marks.read() == {"": Mark(number + 1, numbered(number).accounted_until)}


async def test_a_mark_that_was_torn_leaves_the_one_before(duckdb_path: Path) -> None:
    marks = Marks(duckdb_path)
    for sequence in range(1, 4):
        marks.set("", Mark(sequence, sequence))
    marks.close()
    content = bytearray(duckdb_path.read_bytes())
    content[PLACE_BYTES + 20] ^= 0xFF  # where the third stands
    duckdb_path.write_bytes(content)
    assert marks.read() == {"": Mark(2, 2)}
    marks.set("", Mark(4, 4))
    marks.set("", Mark(5, 5))
    assert marks.read() == {"": Mark(5, 5)}


async def test_a_disk_that_is_full_leaves_the_mark_before(duckdb_path: Path) -> None:
    marks, limits = Marks(duckdb_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    marks.set("", Mark(1, 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
    try:
        marks.set("", Mark(123_456, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert marks.read() == {"": Mark(1, 1)}
    marks.set("", Mark(123_457, 1))
    assert marks.read() == {"": Mark(123_457, 1)}


@pytest.mark.parametrize("locations", [["x" * 9_000], [f"site-{number}" for number in range(500)]])
async def test_marks_that_take_too_much_room_give_way_the_oldest_first(
    duckdb_path: Path, locations: list[str]
) -> None:
    marks = Marks(duckdb_path)
    for location in [*locations, "here"]:
        marks.set(location, Mark(7, 7))
    assert marks.read()["here"] == Mark(7, 7)
    assert duckdb_path.stat().st_size <= 2 * PLACE_BYTES


async def test_results_over_stalls_share_the_facts_of_the_others(
    open_duckdb: Open, duckdb_path: Path
) -> None:
    async with open_duckdb() as store:
        await store.commit(batch(registered("shop")))
        for number, slot in enumerate(slots("shop", 6)):
            stalled = {STALLED: number / 10} if number % 2 else {}
            await store.commit(batch(success("shop", slot, facts={"ssl": True, **stalled})))
    with duckdb.connect(str(duckdb_path)) as connection:
        assert connection.execute("SELECT facts FROM facts").fetchall() == [('{"ssl":true}',)]


async def test_a_half_made_file_is_made_anew(open_duckdb: Open, duckdb_path: Path) -> None:
    duckdb_path.with_name("history.duckdb.new").write_bytes(b"half")
    duckdb_path.with_name("history.duckdb.new.wal").write_bytes(b"half a log")
    with capture_logs() as logs:
        async with open_duckdb() as store:
            await store.commit(batch(registered("shop")))
            assert store.statistics().repairs == 2
    assert not duckdb_path.with_name("history.duckdb.new").exists()
    kept = [line["kept_as"] for line in logs if line["event"] == "history.half_made"]
    assert [(duckdb_path.parent / name).read_bytes() for name in kept] == [b"half a log", b"half"]


async def test_no_secret_is_in_the_file_and_a_rotated_one_is_a_new_revision(
    open_duckdb: Open, duckdb_path: Path
) -> None:
    def guarded(token: str) -> Check:
        return check("shop", auth={"bearer": token})

    async with open_duckdb() as store:
        await store.commit(batch(registered(guarded("correct-horse"))))
        await store.commit(batch(registered(guarded("correct-horse"), START + 1)))
        await store.commit(batch(registered(guarded("battery-staple"), START + 2)))
    assert b"correct-horse" not in duckdb_path.read_bytes()
    with duckdb.connect(str(duckdb_path)) as connection:
        rows = connection.execute("SELECT digest, spec, valid_to IS NULL FROM check_revision").fetchall()
    assert [row[2] for row in rows] == [False, True]
    assert rows[0][0] != rows[1][0]
    assert all("hmac-sha256:" in row[1] and "horse" not in row[1] for row in rows)


async def test_a_file_of_today_is_read_by_older_versions_of_duckdb(
    open_duckdb: Open, duckdb_path: Path
) -> None:
    async with open_duckdb():
        pass
    # Bytes 12 to 20 of the file hold the storage version; 2.0 writes a number of its own unless told otherwise.
    assert int.from_bytes(duckdb_path.read_bytes()[12:20], "little") == 67


async def test_what_history_takes_is_told_on_disk_and_in_memory(open_duckdb: Open, duckdb_path: Path) -> None:
    async with open_duckdb() as store:
        told = []
        for number in range(21):
            await store.commit(numbered(number))
            told.append(store.statistics())
        assert told[-1].size_bytes == sum(
            file.stat().st_size for file in (duckdb_path, duckdb_path.with_name("history.duckdb.wal"))
        )
    at_hand = [each.memory_bytes for each in told if each.memory_bytes is not None]
    assert len(at_hand) == len(told)
    assert 0 < at_hand[0] < at_hand[-1], "rows that are in the log alone are kept in memory"
