"""Kills processes that write history, at random moments, and looks at what they had been promised.

Most are :mod:`tests.crash.writing`, whose commits follow one another; some are real exporters
(:mod:`tests.crash.exporters`). A third is killed while the store is being opened, now and then twice in a row, so
that the second kill falls into the mending after the first.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import anyio

from tests.crash import exporters
from tests.crash.lines import Lines
from tests.crash.promises import Promises, seen_by_watchbill
from tests.crash.writing import Plan
from tests.crash.writing import run as write
from tests.proof import Claim
from watchbill.domain.errors import StorageError

HANG_GUARD_SECONDS = 60.0
MOMENTS = "rrsrrrssr"
"""r: killed while it writes, s: while it opens the store. A third, and one chain in nine."""
MOST_BATCHES = 110
LONGEST_WRITING_SECONDS = (
    0.03  # after the last of them: a commit or two, so that the kill falls anywhere in one
)
LONGEST_OPENING_SECONDS = 0.08
LOG_BYTES = (16_000_000, 60_000, 300_000)
FULL_WRITERS, FULL_EXPORTERS = 170, 30
FULL_BATCHES = 5_000
LONGEST_REOPENING_SECONDS = 0.25


@dataclass
class Findings:
    """What a run of kills showed; ``problems`` must stay empty."""

    kills: int = 0
    in_start_up: int = 0
    looks: int = 0
    promises: Promises = field(default_factory=Promises)
    looking_seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def batches(self) -> int:
        return self.promises.batches

    @property
    def reopening_p99(self) -> float:
        took = sorted(self.promises.opening_seconds)
        return took[min(len(took) - 1, int(len(took) * 0.99))] if took else float("inf")

    def summary(self) -> str:
        return (
            f"{self.kills} kills ({self.in_start_up} during start-up), {self.batches} batches acknowledged, "
            f"{self.promises.newest + 1} groups, {self.looks} looks, "
            f"reopening p99 {self.reopening_p99 * 1000:.0f} ms, {len(self.problems)} problems"
        )


def run(folder: Path, kills: int, *, seed: int) -> Findings:
    """Kill ``kills`` writing processes on one store; half the time a look at it comes between, else the next process is
    the first to open what was left."""
    chance = random.Random(seed)
    path = folder / "store" / "history.duckdb"
    path.parent.mkdir(parents=True)
    found = Findings()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([write.__module__, seen_by_watchbill.__module__])
    for number in range(kills):
        in_start_up = MOMENTS[number % len(MOMENTS)] == "s"
        plan = Plan(
            str(path),
            pace_seconds=chance.choice((0.0, 0.0, 0.001)),
            log_bytes=chance.choice(LOG_BYTES),
            prune_every=chance.choice((0, 0, 30)),
        )
        _kill_one(context, plan, in_start_up, chance, found)
        if chance.random() < 0.5 or number == kills - 1:
            _look(path, found, f"kill {number} of seed {seed}")
    if not found.batches:
        found.problems.append("nothing was acknowledged, so nothing was proven")
    return found


def _kill_one(
    context: ForkServerContext, plan: Plan, in_start_up: bool, chance: random.Random, found: Findings
) -> None:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_write, args=(plan, theirs))
    process.start()
    theirs.close()
    lines = Lines(ours.fileno())
    try:
        if in_start_up:
            lines.until("opening")
        else:
            for _ in range(chance.randint(1, MOST_BATCHES)):
                lines.until("ack")
        lines.during(chance.uniform(0.0, LONGEST_OPENING_SECONDS if in_start_up else LONGEST_WRITING_SECONDS))
    finally:
        process.kill()
        process.join()
    lines.during(HANG_GUARD_SECONDS)  # to the end: what was said before the kill counts
    ours.close()
    found.promises.hear_all(lines.heard)
    found.kills += 1
    found.in_start_up += in_start_up


def _write(plan: Plan, said: Connection) -> None:
    write(plan, said.fileno())


def _look(path: Path, found: Findings, when: str) -> None:
    began = time.monotonic()
    try:
        seen = anyio.run(seen_by_watchbill, path)
    except StorageError as error:
        found.problems.append(f"{when}: it does not open: {error}")
        return
    found.looks += 1
    found.looking_seconds.append(time.monotonic() - began)
    found.problems += [f"{when}: {problem}" for problem in found.promises.broken_by(seen)]
    found.promises.settle(seen)


def prove(folder: Path, *, full: bool) -> list[Claim]:
    found = run(folder, FULL_WRITERS if full else 12, seed=1)
    claims = [
        Claim(
            "A process that writes history is killed at any moment: what was acknowledged is there, whole and once",
            f"{found.kills} SIGKILLs ({found.in_start_up} while opening the store), {found.batches} batches acknowledged",
            "; ".join(found.problems[:3]) or "0 lost, torn or doubled",
            "0 lost, torn or doubled",
            not found.problems and found.in_start_up > 0,
        )
    ]
    if not full:
        return claims
    real = exporters.run(folder / "exporters", FULL_EXPORTERS, seed=2)
    claims.append(
        Claim(
            "A real exporter under load is killed at any moment: what a reader had seen is there, once",
            f"{real.kills} SIGKILLs ({real.in_start_up} during start-up), {real.batches} batches counted, "
            f"{len(real.acknowledged)} results seen",
            "; ".join(real.problems[:3]) or "0 lost, torn, doubled or unaccounted",
            "0 lost, torn, doubled or unaccounted",
            not real.problems,
        )
    )
    p99 = max(found.reopening_p99, real.reopening_p99)
    claims.append(
        Claim(
            "What a kill has left opens at once",
            f"{len(found.promises.opening_seconds) + len(real.reopening_seconds)} openings by Watchbill's store",
            f"p99 {p99 * 1000:.0f} ms",
            f"p99 below {LONGEST_REOPENING_SECONDS * 1000:.0f} ms",
            p99 < LONGEST_REOPENING_SECONDS,
        )
    )
    kills, batches = found.kills + real.kills, found.batches + real.batches
    claims.append(
        Claim(
            "There was enough to lose",
            f"{kills} kills",
            f"{batches} batches acknowledged",
            f"at least {FULL_BATCHES}",
            batches >= FULL_BATCHES,
        )
    )
    return claims
