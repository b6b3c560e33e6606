"""A real exporter on a disk of 6 MB, which is filled and emptied while it probes.

Its disk is a mount of its own, which goes with it; a descriptor of the folder keeps the files to look at afterwards.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb

from tests import small_disk
from tests.crash import fresh
from tests.crash.exporters import Row, Stored, stored
from tests.exporter import Exporter, exporter, free_port
from tests.proof import Claim
from watchbill.domain.errors import StorageError
from watchbill.domain.units import to_instant

CHECKS = 50
FULL_FOR_SECONDS = (3.0, 8.0)
LONGEST_RESUMING_SECONDS = 5.0
READ_AT_ONCE = 10
PROBED = ("success", "failure", "error")
COVERED = "SELECT sum(expected), sum(missed), sum(skipped), sum(unaccounted) FROM coverage"


@dataclass
class Findings:
    """What the fillings showed; ``problems`` must stay empty."""

    fillings: int = 0
    failed_commits: int = 0
    probed_while_full: int = 0
    acknowledged: set[Row] = field(default_factory=set)
    """What a reader saw."""
    rows: int = 0
    resuming_seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def tried(self) -> str:
        return (
            f"{self.fillings} fillings, each for 3 s and more, {self.failed_commits} commits failed; {CHECKS} checks a second, "
            f"{self.probed_while_full} probes while the disk was full; {len(self.acknowledged)} results seen by a reader"
        )

    def found(self) -> str:
        slowest = max(self.resuming_seconds, default=float("nan"))
        return (
            f"{self.rows} rows stored, 0 lost, dropped, doubled or unaccounted, no slot missed or skipped; "
            f"history resumed within {slowest:.1f} s of space each time"
        )


def claim(folder: Path, times: int) -> Claim:
    found = run(folder, times, seed=1)
    return Claim(
        "The disk of a real exporter is filled and emptied",
        found.tried(),
        "; ".join(found.problems[:3]) or found.found(),
        "each slot probed and stored, 0 acknowledged lost, history resumes within 5 s",
        not found.problems and found.fillings == len(found.resuming_seconds) == times,
    )


def run(folder: Path, times: int, *, seed: int) -> Findings:
    chance, found = random.Random(seed), Findings()
    if reason := small_disk.unavailable():
        found.problems.append(f"nothing was tried: {reason}")
        return found
    disk = folder / "disk"
    disk.mkdir(parents=True)
    with exporter(_config(folder), disk, prefix=small_disk.under(disk)) as running, _kept(running) as kept:
        for number in range(times):
            problems = _fill_once(running, chance.uniform(*FULL_FOR_SECONDS), found)
            found.problems += [f"filling {number} of seed {seed}: {problem}" for problem in problems]
        _read(running, found)
        counted, dropped = _rows(running), running.total("watchbill_history_dropped_rows_total")
        if dropped:
            found.problems.append(f"{dropped:.0f} rows dropped")
        if running.stop() != 0:
            found.problems.append("it did not end with 0")
        shutil.copytree(kept, folder / "left")
    found.problems += _judged(folder / "left" / running.storage.name, found, round(counted))
    return found


def _config(folder: Path) -> Path:
    config = folder / "checks.yaml"
    check = f"{{type: tcp, host: 127.0.0.1, port: {free_port()}, interval: 1s, timeout: 500ms}}"
    config.write_text(
        "version: 1\nchecks:\n" + "".join(f"  c{number}: {check}\n" for number in range(CHECKS))
    )
    return config


@contextmanager
def _kept(running: Exporter) -> Iterator[Path]:
    """The folder of its history, which stays when its mount is gone."""
    path = f"/proc/{running.process.pid}/root{running.storage.parent}"
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _fill_once(running: Exporter, seconds: float, found: Findings) -> list[str]:
    rows = _rows(running)
    running.until("rows are written", lambda: _rows(running) > rows)
    _read(running, found)
    failures = _failures(running)

    def fails_again() -> bool:
        """What a failing commit frees is taken at once."""
        small_disk.fill(small_disk.filler(running))
        return _failures(running) > failures

    running.until("commits fail", fails_again)
    found.fillings += 1
    probed, began = _probed(running), time.monotonic()
    while (left := began + seconds - time.monotonic()) > 0:
        small_disk.fill(small_disk.filler(running))
        time.sleep(min(left, 0.05))
    found.failed_commits += round(_failures(running) - failures)
    failures = _failures(running)
    running.until("commits fail still", fails_again)
    probed, took = _probed(running) - probed, time.monotonic() - began
    found.probed_while_full += round(probed)
    small_disk.filler(running).unlink()
    emptied, rows = time.monotonic(), _rows(running)
    running.until("history resumes", lambda: _rows(running) > rows)
    found.resuming_seconds.append(time.monotonic() - emptied)
    problems = []
    if probed < CHECKS * (took - 1):
        problems.append(f"{probed:.0f} probes in {took:.1f} s of {CHECKS} checks a second")
    if found.resuming_seconds[-1] > LONGEST_RESUMING_SECONDS:
        problems.append(f"history resumed after {found.resuming_seconds[-1]:.1f} s")
    return problems


def _read(running: Exporter, found: Findings) -> None:
    """As a reader would: what was read was acknowledged."""
    for number in range(READ_AT_ONCE):
        answer = running.request(f"/api/v1/checks/c{number}/results?limit=20").json()
        found.acknowledged |= {
            (f"c{number}", to_instant(datetime.fromisoformat(row["slot"])))
            for row in answer["results"]
            if row["trigger"] == "schedule"
        }


def _judged(storage: Path, found: Findings, counted: int) -> list[str]:
    """What is wrong with the history that it left, by what a reader saw and by every slot that there was."""
    try:
        (held, (expected, missed, skipped, unaccounted)) = fresh.look(storage, _held).found
    except StorageError as error:
        return [f"it does not open afterwards: {error}"]
    found.rows = held.rows
    lost = found.acknowledged - set(held.times)
    problems = [f"{len(lost)} results that a reader had seen are lost"] if lost else []
    problems += [f"{row} is there {count} times" for row, count in held.times.items() if count > 1][:3]
    if held.rows < counted or not found.acknowledged or not expected:
        problems.append(
            f"{held.rows} rows of {expected} slots, {counted} counted, {len(found.acknowledged)} seen"
        )
    if missed or skipped or unaccounted:
        problems.append(f"of {expected} slots {missed} missed, {skipped} skipped, {unaccounted} unaccounted")
    return problems


def _held(cursor: duckdb.DuckDBPyConnection) -> tuple[Stored, tuple[int, int, int, int]]:
    [covered] = cursor.execute(COVERED).fetchall()
    return stored(cursor), covered


def _rows(running: Exporter) -> float:
    return running.total("watchbill_history_rows_total")


def _failures(running: Exporter) -> float:
    return running.total("watchbill_history_commit_failures_total")


def _probed(running: Exporter) -> float:
    return sum(running.total("watchbill_check_slots_total", f'outcome="{outcome}"') for outcome in PROBED)
