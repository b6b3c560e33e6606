"""The longest log that a kill may leave: as many commits as one holds, of as many rows as ten thousand checks give a second."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import anyio
import duckdb

from tests.crash import fresh
from tests.crash.fresh import Reopening
from tests.proof import Claim
from tests.storage.events import batch, registered, slots, success
from watchbill.storage import duckdb_checkpoint, open_storage

ROWS = 333
OPENINGS = 25
LONGEST_REOPENING_SECONDS = 0.25


def claim(folder: Path) -> Claim:
    openings = reopened(folder)
    longest = max(opening.seconds for opening in openings)
    return Claim(
        "So does the longest log that there may be",
        f"{len(openings)} openings of a log of {openings[0].log_bytes / 1e6:.1f} MB, commits of {ROWS} rows, timed as above",
        f"{longest * 1000:.0f} ms at most",
        f"below {LONGEST_REOPENING_SECONDS * 1000:.0f} ms",
        longest < LONGEST_REOPENING_SECONDS
        and openings[0].log_bytes > duckdb_checkpoint.LOG_BYTES * 0.8
        and len(openings) == OPENINGS,
    )


def reopened(folder: Path) -> list[Reopening]:
    """Each of a copy of the same files, in a process of its own."""
    killed = folder / "killed"
    killed.mkdir(parents=True)
    process = fresh.forkserver().Process(target=_write, args=(str(killed / "history.duckdb"),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    openings = []
    for number in range(OPENINGS):
        copy = folder / f"copy-{number}"
        shutil.copytree(killed, copy)
        looked = fresh.look(copy / "history.duckdb", _rows)
        assert looked.found == (duckdb_checkpoint.LOG_COMMITS - 1) * ROWS
        openings.append(looked.opening)
        shutil.rmtree(copy)
    return openings


def _write(path: str) -> None:
    anyio.run(_commit_all, path)


async def _commit_all(path: str) -> None:
    commits = duckdb_checkpoint.LOG_COMMITS - 1
    grid = {name: slots(name, commits) for name in (f"check-{number}" for number in range(ROWS))}
    async with open_storage(path) as store:
        for number in range(commits):
            declared = [] if number else [registered(name) for name in grid]
            rows = [
                success(name, mine[number], facts={"number": number // 50}) for name, mine in grid.items()
            ]
            last = max(mine[number] for mine in grid.values())
            await store.commit(batch(*declared, *rows, until=last + 1))
        os.kill(os.getpid(), signal.SIGKILL)


def _rows(cursor: duckdb.DuckDBPyConnection) -> int:
    [(rows,)] = cursor.execute("SELECT count(*) FROM result").fetchall()
    return int(rows)
