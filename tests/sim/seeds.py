"""One seed run on either loop, and what it told."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog

from tests.sim import loops
from tests.sim.faults import BATCHES, CAPACITIES, STALLS_EVERY, STEP_SECONDS
from tests.sim.machine import Machine
from tests.sim.world import Size, World
from watchbill.ports import Execute
from watchbill.probes import make_execute
from watchbill.storage.writer import CAPACITY, HistoryWriter


@dataclass(frozen=True)
class Told:
    """What a seed did, and which promise it broke first, after how many of its seconds."""

    seed: int
    size: Size
    digest: str
    seconds: float = 0.0
    """Of processor time that it took."""
    happened: Counter[str] = field(default_factory=Counter)
    broken: str | None = None
    broken_after: float = 0.0
    trace: tuple[str, ...] = ()


def simulate(seed: int, size: Size) -> Told:
    """The same seed and size tell the same."""
    draw = Random(f"{seed} machine")
    slow = "slowness" not in size.without
    stalls_every, step_seconds = draw.choice(STALLS_EVERY), draw.choice(STEP_SECONDS)
    machine = Machine(draw, stalls_every * slow, step_seconds * slow, draw.random() < 0.5)
    begun = time.process_time()
    with pytest.MonkeyPatch.context() as patch, quiet():
        patch.setattr("watchbill.app.make_execute", _unwatched)

        def watch(watching: Callable[[Execute], Execute]) -> None:
            patch.setattr(
                "watchbill.app.make_execute", lambda *given, **named: watching(make_execute(*given, **named))
            )

        if slow:
            busy = BusyAnyio(Random(f"{seed} checkpoints"))
            patch.setattr("watchbill.reload.anyio", busy)
            patch.setattr("watchbill.app.anyio", busy)

        narrow = "narrowness" not in size.without
        capacity = _make_narrow(patch, Random(f"{seed} narrowness")) if narrow else CAPACITY

        async def main() -> World:
            world = World(seed, size, machine, watch, capacity)
            world.file.slow = slow
            await world.run()
            return world

        world = loops.run(size.backend, seed, machine, main)
    return Told(
        seed=seed,
        size=size,
        digest=world.digest.hexdigest(),
        seconds=time.process_time() - begun,
        happened=world.happened,
        broken=world.broken,
        broken_after=world.broken_after,
        trace=tuple(world.story),
    )


def _make_narrow(patch: pytest.MonkeyPatch, random: Random) -> int:
    """For how many events there is room."""
    capacity, batch = random.choice(CAPACITIES), random.choice(BATCHES)
    if capacity is not None:
        defaults = HistoryWriter.__init__.__kwdefaults__ or {}
        patch.setitem(defaults, "capacity", capacity)
    if batch is not None:
        patch.setattr("watchbill.storage.writer.LARGEST_BATCH", batch)
        patch.setattr("watchbill.storage.writer.FLUSH_ROWS", batch)
    return CAPACITY if capacity is None else capacity


def _unwatched(*_: object, **__: object) -> Execute:
    raise AssertionError("a process begins without being watched")


class BusyAnyio:
    """anyio for one module, but while it makes way others now and then take their time."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.lowlevel = self

    def __getattr__(self, name: str) -> Any:
        return getattr(anyio, name)

    async def checkpoint(self) -> None:
        if self._random.random() < 0.02:
            await anyio.sleep(self._random.choice((0.02, 0.2, 1.5)))
        else:
            await anyio.lowlevel.checkpoint()


@contextmanager
def quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()
