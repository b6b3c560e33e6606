"""Many seeds, in two processes if asked to: which of them break a promise, and what they did altogether."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from tests.sim.loops import Backend
from tests.sim.planted import PLANTED
from tests.sim.seeds import Told, simulate
from tests.sim.shrink import shrink
from tests.sim.world import Size

TRIO_EVERY = 8
"""One seed of so many runs on trio, in an order of tasks of its own; the others on asyncio, which is twice as fast."""

UNFIT = ("raised AttributeError", "raised TypeError")
"""What a planted bug comes to that no longer fits the sources: it fails by itself, and nobody has found it."""


def backend_of(seed: int) -> Backend:
    return "trio" if seed % TRIO_EVERY == TRIO_EVERY - 1 else "asyncio"


def run_seed(seed: int, *, size: Size, mixed: bool, plant: str | None = None) -> Told:
    """``mixed``: on the loop that is this seed's."""
    return planted(plant, seed, replace(size, backend=backend_of(seed)) if mixed else size)


def planted(name: str | None, seed: int, size: Size) -> Told:
    """One seed, with that bug in it."""
    if name is None:
        return simulate(seed, size)
    with pytest.MonkeyPatch.context() as patch:
        PLANTED[name](patch)
        return simulate(seed, size)


def run_seeds(seeds: Iterable[int], *, size: Size, mixed: bool, jobs: int = 1) -> Iterator[Told]:
    """In order; what one tells does not depend on how many run."""
    one = partial(run_seed, size=size, mixed=mixed)
    if jobs == 1:
        yield from map(one, seeds)
        return
    # Unlike a pool of multiprocessing, which waits for ever for what a process that was killed had in hand.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as processes:
        yield from processes.map(one, seeds)


def find(name: str, seeds: Iterable[int], size: Size, *, mixed: bool) -> Told | None:
    """The first seed that finds a planted bug."""
    told = (run_seed(seed, size=size, mixed=mixed, plant=name) for seed in seeds)
    return next((one for one in told if one.broken is not None and not one.broken.startswith(UNFIT)), None)


def shrunk(told: Told, *, plant: str | None = None) -> Told:
    return shrink(told, partial(planted, plant))


@dataclass
class Tally:
    """What many seeds did. ``cpu_seconds``: of processor time."""

    seeds: int = 0
    simulated_seconds: float = 0.0
    cpu_seconds: float = 0.0
    on_trio: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    broken: list[Told] = field(default_factory=list)

    def add(self, told: Told) -> None:
        self.seeds += 1
        self.simulated_seconds += told.size.seconds
        self.cpu_seconds += told.seconds
        self.on_trio += told.size.backend == "trio"
        self.happened += told.happened
        if told.broken is not None:
            self.broken.append(told)

    @property
    def speed(self) -> float:
        """How many times as fast as real time, on one core."""
        return self.simulated_seconds / self.cpu_seconds if self.cpu_seconds else 0.0

    def __str__(self) -> str:
        did = self.happened
        return (
            f"{self.seeds:,} seeds ({self.on_trio:,} on trio): {did['slots']:,} slots, {did['probes']:,} probes, "
            f"{did['lives']:,} processes ({did['kills']:,} killed), {did['edits'] + did['mistakes'] + did['asks']:,} "
            f"reloads; {self.speed:,.0f} times real time on a core; {len(self.broken)} broken"
        )
