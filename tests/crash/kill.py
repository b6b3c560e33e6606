"""Kills processes that write history, at random moments, and looks at what they had been promised.

Most are :mod:`tests.crash.writing`, whose commits follow one another; some are real exporters
(:mod:`tests.crash.exporters`). A third and more are killed while the store is being opened, at any instant of it, now and
then twice in a row, so that the second kill falls into the mending after the first.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from tests.crash import exporters, fresh, longest
from tests.crash.fresh import Reopening, log_bytes
from tests.crash.lines import Lines
from tests.crash.numbered import look
from tests.crash.promises import Promises
from tests.crash.writing import Plan
from tests.crash.writing import run as write
from tests.proof import Claim
from watchbill.domain.errors import StorageError

HANG_GUARD_SECONDS = 60.0
MOMENTS = "rsrrssrrs"
"""r: killed while it writes, s: while it opens the store; some of those turn out to have opened it already."""
MOST_BATCHES = (5, 150, 300)
QUICK_KILLS, QUICK_BATCHES = 12, (2, 10, 40)
LONGEST_WRITING_SECONDS = (
    0.03  # after the last of them: a commit or two, so that the kill falls anywhere in one
)
FIRST_OPENING_SECONDS = 0.1  # of a process that nobody has seen opening
LOG_BYTES = (8_000_000, 60_000, 300_000)
FULL_WRITERS, FULL_EXPORTERS = 170, 30
FULL_BATCHES = 5_000
LONGEST_REOPENING_SECONDS = 0.25
NOTHING_BROKEN = "0 lost, torn or doubled"


@dataclass
class Findings:
    """What a run of kills showed; ``problems`` must stay empty."""

    kills: int = 0
    in_start_up: int = 0
    """Of processes that had not yet said that the store was open."""
    quarters: Counter[int] = field(default_factory=Counter)
    """The kills in start-up by when they came, in quarters of the time that an opening took lately."""
    looks: int = 0
    promises: Promises = field(default_factory=Promises)
    reopenings: list[Reopening] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def batches(self) -> int:
        return self.promises.batches

    def spread(self) -> str:
        return "/".join(str(self.quarters[quarter]) for quarter in range(4))

    def summary(self) -> str:
        return (
            f"{self.kills} kills ({self.in_start_up} during start-up, {self.spread()} in its quarters), "
            f"{self.batches} batches acknowledged, {self.promises.newest + 1} groups, {self.looks} looks, "
            f"{len(self.reopenings)} logs reopened, p99 {fresh.p99(self.reopenings) * 1000:.0f} ms, "
            f"{len(self.problems)} problems"
        )


def run(folder: Path, kills: int, *, seed: int, most: tuple[int, ...] = MOST_BATCHES) -> Findings:
    """Kill ``kills`` writing processes on one store; half the time a look at it comes between, else the next process is
    the first to open what was left. One that is not killed in start-up is killed after so many batches at ``most``."""
    chance = random.Random(seed)
    path = folder / "store" / "history.duckdb"
    path.parent.mkdir(parents=True)
    found = Findings()
    for number in range(kills):
        plan = Plan(
            str(path),
            pace_seconds=chance.choice((0.0, 0.0, 0.001)),
            log_bytes=chance.choice(LOG_BYTES),
            prune_every=chance.choice((0, 0, 30)),
        )
        when = f"kill {number} of seed {seed}"
        batches = 0 if MOMENTS[number % len(MOMENTS)] == "s" else chance.randint(1, chance.choice(most))
        _kill_one(plan, batches, chance, found, when)
        if chance.random() < 0.5 or number == kills - 1:
            _look(path, found, when)
    if not found.batches:
        found.problems.append("nothing was acknowledged, so nothing was proven")
    return found


def _kill_one(plan: Plan, batches: int, chance: random.Random, found: Findings, when: str) -> None:
    """After so many acknowledged batches; without any, while it opens the store."""
    left = log_bytes(Path(plan.path))
    ours, theirs = fresh.forkserver().Pipe(duplex=False)
    process = fresh.forkserver().Process(target=_write, args=(plan, theirs))
    process.start()
    theirs.close()
    lines = Lines(ours.fileno())
    share = chance.random()
    try:
        if batches:
            for _ in range(batches):
                lines.until("ack")
            lines.during(chance.uniform(0.0, LONGEST_WRITING_SECONDS))
        else:
            lines.until("opening")
            lines.during(share * _opening_seconds(found))
    finally:
        process.kill()
        process.join()
    lines.during(HANG_GUARD_SECONDS)  # to the end: what was said before the kill counts
    ours.close()
    if process.exitcode != -signal.SIGKILL:
        found.problems.append(f"{when}: it had ended by itself, with {process.exitcode}")
    _heard(lines.heard, left, share, found)


def _heard(said: list[str], left: int, share: float, found: Findings) -> None:
    found.kills += 1
    found.promises.hear_all(said)
    opened = [float(line.split()[1]) for line in said if line.startswith("opened")]
    if not opened:
        found.in_start_up += 1
        found.quarters[int(share * 4)] += 1
    elif left:
        found.reopenings.append(Reopening(left, opened[0]))


def _opening_seconds(found: Findings) -> float:
    """What an opening takes, by the newest that were seen."""
    return median([opening.seconds for opening in found.reopenings[-9:]] or [FIRST_OPENING_SECONDS])


def _write(plan: Plan, said: Connection) -> None:
    write(plan, said.fileno())


def _look(path: Path, found: Findings, when: str) -> None:
    try:
        looked = fresh.look(path, look)
    except StorageError as error:
        found.problems.append(f"{when}: it does not open: {error}")
        return
    found.looks += 1
    if looked.opening.log_bytes:
        found.reopenings.append(looked.opening)
    found.problems += [f"{when}: {problem}" for problem in found.promises.broken_by(looked.found)]
    found.promises.settle(looked.found)


def prove(folder: Path, *, full: bool) -> list[Claim]:
    found = (
        run(folder, FULL_WRITERS, seed=1) if full else run(folder, QUICK_KILLS, seed=1, most=QUICK_BATCHES)
    )
    claims = [
        Claim(
            "A process that writes history is killed at any moment: what was acknowledged is there, whole and once",
            f"{found.kills} SIGKILLs ({found.in_start_up} while opening the store: {found.spread()} in the four "
            f"quarters of the time that takes), {found.batches} batches acknowledged",
            "; ".join(found.problems[:3]) or NOTHING_BROKEN,
            NOTHING_BROKEN,
            not found.problems and found.in_start_up > 0,
        )
    ]
    if not full:
        return claims
    real = exporters.run(folder / "exporters", FULL_EXPORTERS, seed=2)
    wanted = "0 lost, torn, doubled or unaccounted"
    claims += [
        Claim(
            "A real exporter under load is killed at any moment: what a reader had seen is there, once",
            f"{real.kills} SIGKILLs ({real.in_start_up} before it was ready), {real.batches} batches counted, "
            f"{len(real.acknowledged)} results seen",
            "; ".join(real.problems[:3]) or wanted,
            wanted,
            not real.problems and real.in_start_up > 0,
        ),
        _at_once([*found.reopenings, *real.reopenings]),
        longest.claim(folder / "longest"),
        _enough(found, real),
    ]
    return claims


def _at_once(openings: list[Reopening]) -> Claim:
    took = fresh.p99(openings)
    largest = max((opening.log_bytes for opening in openings), default=0)
    return Claim(
        "What a kill has left opens at once",
        f"{len(openings)} openings of a file with a log that a kill left (up to {largest / 1000:,.0f} KB), each by "
        "Watchbill's store in a process of its own, timed there from the call to the first answer, without imports",
        f"p99 {took * 1000:.0f} ms",
        f"p99 below {LONGEST_REOPENING_SECONDS * 1000:.0f} ms, of a hundred or more",
        took < LONGEST_REOPENING_SECONDS and len(openings) >= 100,
    )


def _enough(found: Findings, real: exporters.Findings) -> Claim:
    kills, batches = found.kills + real.kills, found.batches + real.batches
    in_start_up = found.in_start_up + real.in_start_up
    return Claim(
        "There was enough to lose, and a third of the kills came while it started",
        f"{kills} kills",
        f"{batches} batches acknowledged, {in_start_up} kills in start-up",
        f"{FULL_BATCHES} batches, a third of 200 kills, some in each quarter",
        batches >= FULL_BATCHES
        and kills >= 200
        and 3 * in_start_up >= kills
        and all(found.quarters[quarter] for quarter in range(4)),
    )
