"""What the simulation proves, and how often it tried."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.proof import Claim
from tests.sim.planted import PLANTED
from tests.sim.search import TRIO_EVERY, Tally, find, run_seeds, shrunk
from tests.sim.shrink import described
from tests.sim.world import Size
from watchbill.domain.results import GapReason

ROOT = Path(__file__).parents[2]
FRESH_PROCESSES = 5
WANTED_SPEED = 1_000
WANTED_PLANTS = 10


@dataclass(frozen=True)
class Effort:
    """``plants``: how many of the planted bugs are looked for, and within how many ``plant_seeds``."""

    seeds: int
    size: Size
    hashed: Size
    plants: tuple[str, ...]
    plant_size: Size
    plant_seeds: int = 1_000
    jobs: int = 1
    speed: float = WANTED_SPEED


FULL = Effort(
    seeds=1_000,
    size=Size(),
    hashed=Size(),
    plants=tuple(PLANTED),
    plant_size=Size(),
    jobs=2,
)
QUICK = Effort(
    seeds=8,
    size=Size(checks=20, seconds=400),
    hashed=Size(checks=5, seconds=120),
    plants=(
        "lost_wake_up",
        "acknowledged_before_the_commit",
        "counters_reset_at_reload",
        "slot_hidden_in_a_gap",
        "row_dropped_for_nothing",
    ),
    plant_size=Size(checks=20, seconds=600),
    speed=0,  # others run beside it, and a start counts for much of it
)


def prove(folder: Path, *, full: bool) -> list[Claim]:
    """Failing seeds are made small and printed."""
    effort = FULL if full else QUICK
    tally = _search(effort)
    return [
        _no_promise_broken(tally, effort),
        _speed(tally, effort),
        _same_hash(effort),
        _plants_found(effort),
    ]


# --- the claims ---------------------------------------------------------------------------------------


def _no_promise_broken(tally: Tally, effort: Effort) -> Claim:
    did = tally.happened
    missed = {reason: did[f"missed: {reason}"] for reason in GapReason}
    something = min(did["rows"], did["slots"], did["edits"], did["kills"], did["scrapes"], tally.on_trio) > 0
    something = something and (any if effort is QUICK else all)(missed.values())
    return Claim(
        what="The whole application keeps every promise under faults drawn from a seed",
        tried=(
            f"{tally.seeds:,} seeds ({tally.on_trio:,} of them on trio) of {effort.size.seconds:,.0f} s with "
            f"{effort.size.checks} checks: {did['slots']:,} slots, {did['rows']:,} rows, {did['lives']:,} processes "
            f"({did['kills']:,} killed), {did['edits']:,} edits, {did['mistakes']:,} mistakes in the file, "
            f"{did['stalls']:,} stalls, {did['clock']:,} clocks set, {did['gaps']:,} gaps; "
            f"missed were {', '.join(f'{slots:,} ({reason})' for reason, slots in missed.items())}"
        ),
        found=f"{len(tally.broken)} promises broken",
        wanted="0",
        holds=something and tally.seeds >= effort.seeds and not tally.broken,
    )


def _speed(tally: Tally, effort: Effort) -> Claim:
    return Claim(
        what="A simulated hour takes seconds",
        tried=f"{tally.simulated_seconds / 3600:,.1f} hours in {tally.cpu_seconds:,.0f} s of processor time",
        found=f"{tally.speed:,.0f} times real time on a core",
        wanted=f">= {effort.speed:,.0f}",
        holds=tally.speed >= effort.speed and tally.seeds > 0,
    )


def _same_hash(effort: Effort) -> Claim:
    """Each in a process of its own, whose addresses differ, and with them the order of sets."""
    stories = Counter(_stories(effort.hashed) for _ in range(FRESH_PROCESSES))
    (first, *_) = stories
    told = " and ".join(f"{digest} ({backend})" for digest, backend in first)
    return Claim(
        what="The same seed is the same run",
        tried=f"a seed on asyncio and one on trio, in {FRESH_PROCESSES} fresh processes",
        found=f"{len(stories)} pair of stories: {told}",
        wanted="1 pair, of two that differ",
        holds=len(stories) == 1 and len({digest for digest, _ in first}) == 2,
    )


def _plants_found(effort: Effort) -> Claim:
    found: dict[str, int] = {}
    missing = []
    for name in effort.plants:
        told = find(name, range(effort.plant_seeds), effort.plant_size, mixed=True)
        if told is None:
            missing.append(name)
        else:
            found[name] = told.seed
    seeds = ", ".join(f"{name} {seed}" for name, seed in found.items())
    return Claim(
        what="A bug planted in the application is found",
        tried=f"{len(effort.plants)} bugs, one at a time",
        found=f"{len(found)} within {effort.plant_seeds:,} seeds (name and first seed: {seeds})"
        + (f"; not found: {', '.join(missing)}" if missing else ""),
        wanted=f"all of them, within {effort.plant_seeds:,} seeds",
        holds=not missing and bool(found) and (effort is QUICK or len(found) >= WANTED_PLANTS),
    )


# --- how ----------------------------------------------------------------------------------------------


def _search(effort: Effort) -> Tally:
    tally = Tally()
    for told in run_seeds(range(effort.seeds), size=effort.size, mixed=True, jobs=effort.jobs):
        tally.add(told)
        if told.broken is not None:
            print(described(shrunk(told)), file=sys.stderr, flush=True)
    return tally


def _stories(size: Size) -> tuple[tuple[str, str], ...]:
    """What the stories of two seeds hash to, and on which loop each ran, told by a process of its own."""
    options = ["--first", str(TRIO_EVERY - 2), "--seeds", "2", "--digest", "--backend", "mixed"]
    options += ["--checks", str(size.checks), "--seconds", str(size.seconds)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    said = subprocess.run(
        [sys.executable, "-m", "tests.sim", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    lines = [line.split() for line in said.stdout.splitlines()[:2]]
    return tuple((digest, backend) for _, backend, digest in lines)
