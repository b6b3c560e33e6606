"""Disks that take nothing more: every k-th write of the store fails, and a small disk fills up and is emptied.

The writing process is :mod:`tests.crash.writing`, to which strace answers its k-th write (or sync) and the next few as a
full or failing disk would. The real exporter runs on a small disk of its own.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from tests import small_disk
from tests.crash import traced
from tests.crash.lines import Lines
from tests.crash.promises import Promises, seen_by_watchbill
from tests.exporter import Exporter, exporter, free_port
from tests.proof import Claim
from watchbill.domain.errors import StorageError

NAME = "history.duckdb"
FILES = ("", ".wal", ".wal.prev", ".seq", ".blocks", ".blocks.new", ".new", ".new.wal", ".lock")
GROUPS, PACE_SECONDS, LOG_BYTES = 220, 0.01, 15_000
LONGEST_RESUMING_SECONDS = 5.0
LONGEST_PAUSE_OF_PROBING_SECONDS = 1.0
FULL_POINTS, FULL_FILLINGS = 200, 8
CHECKS = 50
_INJECTED = re.compile(r"^\d+ +([\d.]+) .*\(INJECTED\)")


@dataclass(frozen=True)
class Point:
    """From its ``first`` write on, ``many`` calls fail. An odd one meets a store that was killed, an even one none."""

    first: int
    many: int
    calls: str
    error: str

    @property
    def fresh(self) -> bool:
        return self.first % 2 == 0

    def __str__(self) -> str:
        return f"{self.calls} {self.first} to {self.first + self.many - 1} fail with {self.error}"


@dataclass
class Findings:
    """What the points showed; ``problems`` must stay empty."""

    points: int = 0
    hit: int = 0
    """Points at which something did fail."""
    failed_calls: int = 0
    refused: int = 0
    """New files that could not be made, and the process said so."""
    batches: int = 0
    resuming_seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        slowest = max(self.resuming_seconds, default=float("nan"))
        return (
            f"{self.points} points, {self.failed_calls} calls failed at {self.hit} of them, {self.batches} batches "
            f"acknowledged, {self.refused} refused to make a new file, history resumed within {slowest:.1f} s; "
            f"{len(self.problems)} problems"
        )


def run(folder: Path, points: int, *, seed: int) -> Findings:
    """Points 1 to ``points`` where there are two hundred of them, else as many of those."""
    if reason := traced.unavailable():
        pytest.skip(reason)
    chance = random.Random(seed)
    firsts = (
        range(1, points + 1) if points >= FULL_POINTS else chance.sample(range(1, FULL_POINTS + 1), points)
    )
    found = Findings()
    killed = folder / "killed"
    killed.mkdir(parents=True)
    before = _leave_killed(killed)
    with ThreadPoolExecutor(2) as threads:
        tried = [
            threads.submit(_try, folder / f"point-{first}", _point(first), killed, before) for first in firsts
        ]
        for one in tried:
            _add(found, one.result())
    if found.hit < 0.9 * found.points or not found.batches:
        found.problems.append(f"only {found.hit} of {found.points} points were hit: little was proven")
    return found


def _point(first: int) -> Point:
    many = (1, 2, 4, 6)[first // 2 % 4]
    if (
        first % 8 == 1
    ):  # DuckDB syncs by fdatasync; these are of what we write beside it, once a commit is done
        return Point(first // 8 + 1, many, "fsync", "EIO")
    if first % 8 == 5:
        return Point(first // 8 + 1, many, "fdatasync,fsync", "EIO")
    return Point(first, many, "write,pwrite64", "ENOSPC")


def _add(found: Findings, other: Findings) -> None:
    found.points += other.points
    found.hit += other.hit
    found.failed_calls += other.failed_calls
    found.refused += other.refused
    found.batches += other.batches
    found.resuming_seconds += other.resuming_seconds
    found.problems += other.problems


def _leave_killed(folder: Path) -> list[str]:
    """A store as a kill leaves it, with a log; what was said."""
    command = [
        sys.executable,
        "-m",
        "tests.crash.writing",
        str(folder / NAME),
        "--groups",
        "20",
        "--end",
        "kill",
    ]
    said = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    return said.splitlines()


def _try(folder: Path, point: Point, killed: Path, before: list[str]) -> Findings:
    folder.mkdir()
    if not point.fresh:
        shutil.copytree(killed, folder, dirs_exist_ok=True)
    promises = Promises().hear_all([] if point.fresh else before)
    batches = promises.batches
    said, trace = _run(folder, point)
    promises.hear_all(line for _, line in said)
    failures = [float(m[1]) for line in trace.read_text().splitlines() if (m := _INJECTED.match(line))]
    found = Findings(
        points=1, hit=bool(failures), failed_calls=len(failures), batches=promises.batches - batches
    )
    refused = not any(line.startswith("opened") for _, line in said)
    found.refused = refused and point.fresh
    if refused and not point.fresh:
        found.problems.append("a file that was there did not open")
    if not refused:
        found.problems += _looked_at(said, failures, found)
    try:
        found.problems += promises.broken_by(anyio.run(seen_by_watchbill, folder / NAME))
    except StorageError as error:
        found.problems.append(f"it does not open afterwards: {error}")
    found.problems = [
        f"{point}, {'a new file' if point.fresh else 'a killed one'}: {one}" for one in found.problems
    ]
    if not found.problems:
        shutil.rmtree(folder)
    return found


def _run(folder: Path, point: Point) -> tuple[list[tuple[float, str]], Path]:
    """What the writing process said, each line with the time at which it was heard, and the trace."""
    trace = folder.with_suffix(".trace")
    strace = ["strace", "-f", "-ttt", "--seccomp-bpf", "-o", str(trace), "-e", f"trace={point.calls}"]
    for path in (folder, *(folder / (NAME + suffix) for suffix in FILES)):
        strace += ["-P", str(path)]
    strace += [
        "-e",
        f"inject={point.calls}:error={point.error}:when={point.first}..{point.first + point.many - 1}",
    ]
    command = [sys.executable, "-m", "tests.crash.writing", str(folder / NAME), "--end", "close"]
    command += ["--groups", str(GROUPS), "--pace-seconds", str(PACE_SECONDS), "--log-bytes", str(LOG_BYTES)]
    process = subprocess.Popen([*strace, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    lines = Lines(process.stdout.fileno())
    said: list[tuple[float, str]] = []
    while not lines.ended:
        lines.next(seconds=60)
        said += [(time.time(), line) for line in lines.heard[len(said) :]]
    process.wait(60)
    process.stdout.close()
    return said, trace


def _looked_at(said: list[tuple[float, str]], failures: list[float], found: Findings) -> list[str]:
    problems = []
    puts = [at for at, line in said if line.startswith("put")]
    longest = max((after - before for before, after in pairwise(puts)), default=0.0)
    if len(puts) != GROUPS or longest > LONGEST_PAUSE_OF_PROBING_SECONDS:
        problems.append(f"probing stopped: {len(puts)} groups of {GROUPS}, {longest:.2f} s between two")
    if said[-1][1] != "closed":
        problems.append(f"it ended with {said[-1][1]!r}")
    if failures:
        after = [at - failures[-1] for at, line in said if line.startswith("ack") and at > failures[-1]]
        if after:
            found.resuming_seconds.append(after[0])
        if after and after[0] > LONGEST_RESUMING_SECONDS:
            problems.append(f"history resumed after {after[0]:.1f} s")
    return problems


# --- a small disk -------------------------------------------------------------------------------------


def fill_and_empty(folder: Path, times: int, *, seed: int) -> Findings:
    """A real exporter on a disk of 6 MB, which is filled and emptied."""
    if reason := small_disk.unavailable():
        pytest.skip(reason)
    chance, found = random.Random(seed), Findings()
    (folder / "disk").mkdir(parents=True)
    config = folder / "checks.yaml"
    check = f"{{type: tcp, host: 127.0.0.1, port: {free_port()}, interval: 1s, timeout: 500ms}}"
    config.write_text(
        "version: 1\nchecks:\n" + "".join(f"  c{number}: {check}\n" for number in range(CHECKS))
    )
    with exporter(config, folder / "disk", prefix=small_disk.under(folder / "disk")) as running:
        for number in range(times):
            found.points += 1
            problems = _fill_once(running, chance.uniform(0.5, 8.0), found)
            found.problems += [f"filling {number} of seed {seed}: {problem}" for problem in problems]
        found.batches = round(running.total("watchbill_history_commit_seconds_count"))
        stored, dropped = _rows(running), running.total("watchbill_history_dropped_rows_total")
        if dropped or not stored:
            found.problems.append(f"{dropped:.0f} rows dropped, {stored:.0f} stored")
        if running.stop() != 0:
            found.problems.append("it did not end with 0")
    return found


def _fill_once(running: Exporter, seconds: float, found: Findings) -> list[str]:
    rows = _rows(running)
    running.until("rows are written", lambda: _rows(running) > rows)
    failures = running.total("watchbill_history_commit_failures_total")

    def is_full() -> bool:
        small_disk.fill(small_disk.filler(running))
        return running.total("watchbill_history_commit_failures_total") > failures

    running.until("commits fail", is_full)
    found.hit += 1
    slots, until = running.total("watchbill_check_slots_total"), time.monotonic() + seconds
    running.until("the time has passed", lambda: time.monotonic() > until)
    probed = running.total("watchbill_check_slots_total") - slots
    rows = _rows(running)
    found.failed_calls += round(running.total("watchbill_history_commit_failures_total") - failures)
    small_disk.filler(running).unlink()
    emptied = time.monotonic()
    running.until("history resumes", lambda: _rows(running) > rows)
    found.resuming_seconds.append(time.monotonic() - emptied)
    problems = []
    if probed < CHECKS * (seconds - 2):
        problems.append(f"{probed:.0f} slots in {seconds:.1f} s of {CHECKS} checks a second")
    if found.resuming_seconds[-1] > LONGEST_RESUMING_SECONDS:
        problems.append(f"history resumed after {found.resuming_seconds[-1]:.1f} s")
    return problems


def _rows(running: Exporter) -> float:
    return running.total("watchbill_history_rows_total")


def prove(folder: Path, *, full: bool) -> list[Claim]:
    wanted = "probing never stops, 0 acknowledged lost, history resumes within 5 s"
    attacks: list[tuple[str, Callable[[], Findings]]] = [
        (
            "From its k-th write or sync on the disk takes nothing for a while",
            lambda: run(folder / "points", FULL_POINTS if full else 4, seed=1),
        )
    ]
    if full:
        attacks.append(
            (
                "The disk of a real exporter is filled and emptied",
                lambda: fill_and_empty(folder / "small", FULL_FILLINGS, seed=1),
            )
        )
    claims = []
    for what, attack in attacks:
        found = attack()
        tried = found.summary().rpartition(";")[0]
        claims.append(Claim(what, tried, "; ".join(found.problems[:3]) or wanted, wanted, not found.problems))
    return claims
