"""``watchbill backup`` of a running exporter, ``watchbill doctor`` on what it wrote, and a restore."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from pathlib import Path

import anyio
import duckdb
import pytest

from tests.cli.support import Exporter as Answering
from tests.cli.support import Run
from tests.exporter import Exporter, exporter, free_port
from tests.storage.batches import ROWS, numbered
from watchbill.cli.backup import _problem
from watchbill.storage import duckdb_examination, open_storage

CHECKS = 20
CONFIG = "version: 1\nchecks:\n" + "".join(
    f"  c{number}: {{type: tcp, host: 127.0.0.1, port: 9, interval: 1s, timeout: 500ms}}\n"
    for number in range(CHECKS)
)


def acknowledged(running: Exporter) -> set[tuple[str, str]]:
    """What the exporter says is stored."""
    return {
        (f"c{number}", row["started_at"])
        for number in range(CHECKS)
        for row in running.request(f"/api/v1/checks/c{number}/results?limit=1000").json()["results"]
    }


@pytest.mark.e2e
def test_a_backup_taken_under_load_restores_all_that_had_been_acknowledged(tmp_path: Path, run: Run) -> None:
    config, port = tmp_path / "checks.yaml", free_port()
    config.write_text(CONFIG)
    with exporter(config, tmp_path / "first", port=port) as running:
        running.until("rows", lambda: running.total("watchbill_history_rows_total") > 3 * CHECKS)
        before = acknowledged(running)
        done = run("backup", "copy.duckdb", "--server", running.url)
        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout.startswith("copy.duckdb: ")
        assert f" of {CHECKS} checks, " in done.stdout
        busy = run("doctor", str(running.storage))
        assert busy.exit_code == 3
        assert f"in use by process {running.process.pid}; stop it, or look at a copy" in busy.stderr
        again = run("backup", "copy.duckdb", "--server", running.url)
        assert (again.exit_code, "add --force" in again.stderr) == (1, True)
        assert run("backup", "copy.duckdb", "--server", running.url, "--force").exit_code == 0
        Path("link.duckdb").symlink_to(running.storage)
        for own in (str(running.storage), "link.duckdb"):
            refused = run("backup", own, "--server", running.url, "--force")
            assert (refused.exit_code, refused.stdout) == (1, "")
            assert (
                f"in use by process {running.process.pid}, whose history it is; name another file"
                in refused.stderr
            )
        Path("link.duckdb").unlink()
    copy = Path("copy.duckdb")
    assert copy.stat().st_mode & 0o077 == 0
    assert [path.name for path in Path().glob("copy.duckdb*")] == ["copy.duckdb"]
    assert run("doctor", "copy.duckdb").exit_code == 0
    restored = tmp_path / "second"
    restored.mkdir()
    copy.rename(restored / "history.duckdb")
    with exporter(config, restored, port=port) as running:
        running.until("rows", lambda: running.total("watchbill_history_rows_total") > CHECKS)
        assert before
        assert before <= acknowledged(running)
        assert running.total("watchbill_history_lost_batches_total") == 0
        report = json.loads(run("report", "--server", running.url, "--format", "json").stdout)
        assert running.stop() == 0
    assert sum(row["unaccounted"] for row in report["rows"]) == 0
    assert run("doctor", str(restored / "history.duckdb")).exit_code == 0


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (403, {"error": "backups over HTTP are off"}, "answered 403: backups over HTTP are off"),
        (503, {"error": "another backup is being taken"}, "answered 503: another backup is being taken"),
        (200, {"no": "header"}, "not as a Watchbill exporter of this version does"),
    ],
)
def test_a_backup_that_is_refused_leaves_nothing(
    run: Run, exporter: Answering, status: int, answer: object, said: str
) -> None:
    exporter.answers["POST /api/v1/backup"] = (status, answer)
    done = run("backup", "copy.duckdb", "--server", exporter.url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr
    assert list(Path().iterdir()) == []


def test_without_an_exporter_there_is_no_backup(run: Run) -> None:
    done = run("backup", "copy.duckdb", "--server", f"http://127.0.0.1:{free_port()}")
    assert (done.exit_code, "no exporter answers" in done.stderr) == (1, True)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("beside", [".wal", ".blocks"])
@pytest.mark.parametrize("target", [True, False])
def test_what_lies_beside_a_target_is_not_taken_for_the_copys(
    run: Run, exporter: Answering, beside: str, target: bool
) -> None:
    left = Path(f"copy.duckdb{beside}")
    left.write_bytes(b"another history's")
    if target:
        Path("copy.duckdb").write_bytes(b"another history")
    done = run("backup", "copy.duckdb", "--server", exporter.url, "--force")
    assert (done.exit_code, exporter.asked) == (1, [])
    assert f"{left}: belongs to another history, and would be taken for this one's" in done.stderr
    assert left.read_bytes() == b"another history's"
    assert sorted(path.name for path in Path().iterdir()) == ["copy.duckdb"] * target + [left.name]


def test_a_folder_is_no_target(run: Run, exporter: Answering) -> None:
    Path("folder").mkdir()
    done = run("backup", "folder", "--force", "--server", exporter.url)
    assert (done.exit_code, done.stderr) == (
        1,
        "watchbill: folder: exists; name another file, or add --force to replace a file\n",
    )


def test_doctor_says_what_is_wrong_and_saves_the_rest(run: Run) -> None:
    async def fill() -> None:
        async with open_storage("history.duckdb") as store:
            await store.commit(numbered(0))

    anyio.run(fill)
    assert run("doctor", "history.duckdb").stdout.startswith(
        f"{Path.cwd()}/history.duckdb: healthy\nholds: {ROWS} rows of 1 check "
    )
    with duckdb.connect("history.duckdb") as connection:
        connection.execute("DELETE FROM result WHERE rowid = 7")
    found = run("doctor", "history.duckdb")
    assert found.exit_code == 1
    assert "history.duckdb: 1 problem\n  unaccounted  1 slots are unaccounted for" in found.stdout
    assert "watchbill doctor --repair" in found.stdout
    Path("history.duckdb").rename("it's\nmine.duckdb")
    odd = run("doctor", "it's\nmine.duckdb", "--repair").stdout.splitlines()
    assert odd[-1].startswith(f"look at it, then: mv '{Path.cwd()}/it'\"'\"'s\\nmine.duckdb' ")
    Path("it's\nmine.duckdb").rename("history.duckdb")
    saved = run("doctor", "history.duckdb", "--repair")
    assert saved.exit_code == 1
    assert (
        f"history.duckdb.salvaged: {ROWS - 1} rows, 0 lost\n  1 slots without a row, missed now\n"
        in saved.stdout
    )
    answer = json.loads(run("doctor", "history.duckdb.salvaged", "--format", "json").stdout)
    assert (answer["healthy"], answer["rows"], answer["findings"]) == (True, ROWS - 1, [])


def test_memory_that_does_not_suffice_throws_no_backup_away_and_finds_no_loss(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starving(*_: object) -> None:
        raise duckdb.OutOfMemoryException("failed to allocate data of size 16.0 MiB")

    async def fill() -> None:
        async with open_storage("history.duckdb") as store:
            await store.commit(numbered(0))

    anyio.run(fill)
    monkeypatch.setattr(duckdb_examination, "broken", starving)
    done = run("doctor", "history.duckdb")
    assert done.exit_code == 3
    assert "history.duckdb: not examined to the end\n  not_examined  " in done.stdout
    assert _problem(duckdb_examination.examine("history.duckdb"), ROWS) is None
    answer = json.loads(run("doctor", "history.duckdb", "--format", "json").stdout)
    assert ([each["kind"] for each in answer["not_examined"]], answer["findings"]) == (["not_examined"], [])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder", "folder: not a file; "),
        ("a" * 252, ": File name too long; "),
        (os.fsdecode(b"\xff.duckdb"), "a path that is not UTF-8; give it another name"),
    ],
)
def test_doctor_of_what_it_cannot_open_ends_with_three(run: Run, name: str, said: str) -> None:
    Path("folder").mkdir()
    if name != "folder":
        Path(name).touch()
    done = run("doctor", name)
    assert (done.exit_code, done.stdout) == (3, "")
    assert said in done.stderr


def test_ctrl_c_ends_an_examination_wherever_it_comes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fill() -> None:
        async with open_storage("history.duckdb") as store:
            await store.commit(numbered(0))

    def endless(connection: duckdb.DuckDBPyConnection) -> None:
        begun = threading.Event()

        def press() -> None:
            begun.wait()
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=press).start()
        begun.set()  # who waits gets its turn when the query lets go of the interpreter
        connection.execute("SELECT count(*) FROM range(1000000000) a, range(1000000000) b").fetchall()

    anyio.run(fill)
    monkeypatch.setattr(duckdb_examination, "broken", endless)
    # It is ignored where the tests run in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = run("doctor", "history.duckdb")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_a_name_that_begins_with_a_tilde_is_one(run: Run) -> None:
    duckdb.connect(str(Path.cwd() / "~old.duckdb")).close()
    assert run("doctor", "~old.duckdb").stdout.startswith(f"{Path.cwd()}/~old.duckdb: 1 problem\n  empty ")
    refused = run("backup", "~old.duckdb")
    assert (refused.exit_code, "~old.duckdb: exists" in refused.stderr) == (1, True)


def test_a_backup_that_finds_no_room_names_its_file_and_leaves_nothing(
    run: Run, exporter: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.modules["watchbill.cli.backup"], "_sent", full)
    done = run("backup", "copy.duckdb", "--server", exporter.url)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "watchbill: copy.duckdb: No space left on device; make room, or name another file\n"
    assert list(Path().iterdir()) == []


def test_doctor_of_nothing_ends_with_three(run: Run) -> None:
    done = run("doctor", "nothing.duckdb")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.endswith("nothing.duckdb: no such file\n")
