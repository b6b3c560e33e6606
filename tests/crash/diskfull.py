"""Disks that take nothing more: every k-th write of the store fails, or its k-th sync; and a small disk fills up.

The writing process is :mod:`tests.crash.writing`, to which strace answers its k-th write (ENOSPC) or sync (EIO) and the
next few as a full or failing disk would. The small disk is :mod:`tests.crash.smalldisk`.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import anyio

from tests.crash import smalldisk, traced
from tests.crash.lines import Lines
from tests.crash.promises import Promises, seen_by_watchbill
from tests.proof import Claim
from watchbill.domain.errors import StorageError

NAME = "history.duckdb"
FILES = ("", ".wal", ".wal.prev", ".seq", ".blocks", ".blocks.new", ".new", ".new.wal", ".lock")
GROUPS, PACE_SECONDS, LOG_BYTES = 160, 0.01, 15_000
LONGEST_RESUMING_SECONDS = 5.0
LONGEST_PAUSE_OF_PROBING_SECONDS = 1.0
FULL_WRITES, FULL_SYNCS, FULL_FILLINGS = 200, 50, 8
QUICK_WRITES, QUICK_SYNCS = 4, 1
GROUPS_A_CALL = 3
"""Enough for each call to come, also where a busy machine puts several groups into one commit."""
MANY = (1, 2, 4, 6)
WANTED = "probing never stops, 0 acknowledged lost, history resumes within 5 s"
_INJECTED = re.compile(r"^\d+ +([\d.]+) .*\(INJECTED\)")


@dataclass(frozen=True)
class Point:
    """From its ``first`` call on, ``many`` fail. An odd one meets a store that was killed, an even one none."""

    first: int
    many: int
    calls: str
    error: str

    @property
    def fresh(self) -> bool:
        return self.first % 2 == 0

    @property
    def groups(self) -> int:
        return max(GROUPS, GROUPS_A_CALL * self.first)

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
    """Of the points at which something was left to be acknowledged after the last failure."""
    problems: list[str] = field(default_factory=list)

    def tried(self) -> str:
        return (
            f"{self.points} points, {self.failed_calls} calls failed at {self.hit} of them; {self.batches} batches "
            f"acknowledged, {self.refused} processes refused to make a new file"
        )

    def resumed(self) -> str:
        slowest = max(self.resuming_seconds, default=float("nan"))
        return f"history resumed at {len(self.resuming_seconds)} points, within {slowest:.1f} s"

    def summary(self) -> str:
        return f"{self.tried()}; {self.resumed()}; {len(self.problems)} problems"

    def add(self, other: Findings) -> None:
        self.points += other.points
        self.hit += other.hit
        self.failed_calls += other.failed_calls
        self.refused += other.refused
        self.batches += other.batches
        self.resuming_seconds += other.resuming_seconds
        self.problems += other.problems


def run(folder: Path, points: int, *, seed: int) -> Findings:
    """Writes at ``points`` places and a quarter as many syncs."""
    found = attack(folder / "writes", full_disk(points, seed), timed=True)
    found.add(attack(folder / "syncs", failing_disk(max(1, points // 4), seed), timed=True))
    return found


def full_disk(points: int, seed: int) -> list[Point]:
    """There is no space from the k-th write on: each k up to 200, or a sample of them."""
    return [
        Point(first, MANY[first // 2 % 4], "write,pwrite64", "ENOSPC")
        for first in _firsts(points, FULL_WRITES, seed)
    ]


def failing_disk(points: int, seed: int) -> list[Point]:
    """The k-th sync fails. DuckDB syncs by fdatasync; fsync alone is of what we write beside it, once a commit is done."""
    return [
        Point((number + 1) // 2, MANY[number // 4 % 4], "fsync" if number % 2 else "fdatasync,fsync", "EIO")
        for number in _firsts(points, FULL_SYNCS, seed)
    ]


def _firsts(points: int, most: int, seed: int) -> list[int]:
    every = range(1, most + 1)
    return list(every) if points >= most else sorted(random.Random(seed).sample(every, points))


def attack(folder: Path, points: list[Point], *, timed: bool) -> Findings:
    """``timed``: that something took too long is a problem, too."""
    found = Findings()
    if reason := traced.unavailable():
        found.problems.append(f"nothing was tried: {reason}")
        return found
    killed = folder / "killed"
    killed.mkdir(parents=True)
    before = _leave_killed(killed)
    with ThreadPoolExecutor(2) as threads:
        tried = [
            threads.submit(_try, folder / f"point-{number}", point, killed, before, timed=timed)
            for number, point in enumerate(points)
        ]
        for one in tried:
            found.add(one.result())
    if found.hit < found.points or not found.resuming_seconds:
        found.problems.append(
            f"{found.hit} of {found.points} points were hit, {len(found.resuming_seconds)} resumed from: "
            "less was proven than was meant to be"
        )
    return found


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


def _try(folder: Path, point: Point, killed: Path, before: list[str], *, timed: bool) -> Findings:
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
        found.problems += _looked_at(said, failures, found, groups=point.groups, timed=timed)
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
    command += [
        "--groups",
        str(point.groups),
        "--pace-seconds",
        str(PACE_SECONDS),
        "--log-bytes",
        str(LOG_BYTES),
    ]
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


def _looked_at(
    said: list[tuple[float, str]], failures: list[float], found: Findings, *, groups: int, timed: bool
) -> list[str]:
    problems = []
    puts = [at for at, line in said if line.startswith("put")]
    longest = max((after - before for before, after in pairwise(puts)), default=0.0)
    if len(puts) != groups or (timed and longest > LONGEST_PAUSE_OF_PROBING_SECONDS):
        problems.append(f"probing stopped: {len(puts)} groups of {groups}, {longest:.2f} s between two")
    if said[-1][1] != "closed":
        problems.append(f"it ended with {said[-1][1]!r}")
    acks = [(at, int(line.split()[2])) for at, line in said if line.startswith("ack")]
    put = max((int(line.split()[1]) for _, line in said if line.startswith("put")), default=-1)
    acknowledged = max((last for _, last in acks), default=-1)
    if acknowledged != put:
        problems.append(
            f"history did not resume: group {put} was put, {acknowledged} is the last acknowledged"
        )
    if failures and (after := [at - failures[-1] for at, _ in acks if at > failures[-1]]):
        found.resuming_seconds.append(after[0])
        if timed and after[0] > LONGEST_RESUMING_SECONDS:
            problems.append(f"history resumed after {after[0]:.1f} s")
    return problems


def prove(folder: Path, *, full: bool) -> list[Claim]:
    writes = full_disk(FULL_WRITES if full else QUICK_WRITES, seed=1)
    syncs = failing_disk(FULL_SYNCS if full else QUICK_SYNCS, seed=1)
    claims = [
        _claim("The disk is full from its k-th write on, for one to six of them", folder / "writes", writes, full),
        _claim("The disk fails its k-th sync, and the next ones, up to six", folder / "syncs", syncs, full),
    ]  # fmt: skip
    return claims + ([smalldisk.claim(folder / "small", FULL_FILLINGS)] if full else [])


def _claim(what: str, folder: Path, points: list[Point], full: bool) -> Claim:
    found = attack(folder, points, timed=full)
    told = "; ".join(found.problems[:3]) or f"probing never stopped, 0 acknowledged lost, {found.resumed()}"
    return Claim(what, found.tried(), told, WANTED, bool(found.points) and not found.problems)
