"""Python's cyclic garbage collection, kept from holding the event loop.

A full collection looks at every object that is not frozen: 77 to 341 ms where ten thousand checks are loaded. Freezing
costs nothing, however much there is. So what has lived for a second is frozen, and a collection finds little to look at. A
probe leaves no cycle, so there is hardly any garbage that only a collection finds; what of it was frozen while somebody
still held it is looked for once memory has grown by much.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

PERIOD_SECONDS = 1.0
MANY = 300
"""Probes under way whose objects are frozen unseen: a thousand that hang have 70,000 of them, 90 ms to look at."""
YOUNG = 10_000
"""Objects made and not yet freed when young ones are looked at: a millisecond or two. With Python's own 700 that is done 65 times a
second at 3,000 probes a second, all of it in vain (4 % of a probe): its result is freed once committed."""
MIDDLE = 1
"""Collections of young objects before those that outlived them are looked at again."""
NEVER = 1 << 30
LOOKED_EVERY_SECONDS = 60.0
GROWN = 1_000_000
"""Blocks of memory in use beyond one and a half times as many as were usual, which make it time to look at everything. It takes
hundreds of milliseconds with ten thousand checks, marked as a stall of our own; memory would grow without end otherwise."""
GROWN_A_CHECK = 500
"""Blocks that one more check may bring with it: an ``http`` check takes 8 KB, some hundred blocks."""


@contextmanager
def tended() -> Iterator[None]:
    """Until it is left, no full collection comes by itself. It begins with one: enter before anything has to be on time."""
    young, middle, old = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, old)
        # The interpreter's own clean-up does not see what is frozen, and DuckDB's binding complains of it.
        gc.unfreeze()


class Heap:
    """``under_way``: how many probes are, whose objects live as long as they do. ``checks``: how many are registered."""

    def __init__(
        self, under_way: Callable[[], int] = lambda: 0, checks: Callable[[], int] = lambda: 0
    ) -> None:
        self._under_way = under_way
        self._checks = checks
        self._usual: tuple[int, int] | None = None
        """Blocks of memory in use and checks, when everything had last been looked at."""

    def settle(self) -> None:
        """After something large was built: it stays, so it is frozen."""
        self._freeze()

    async def tend(self) -> None:
        """Freeze what has lived for a while, and now and then see whether that was right."""
        waited = 0.0
        while True:
            await anyio.sleep(PERIOD_SECONDS)
            self._freeze()
            waited += PERIOD_SECONDS
            if waited >= LOOKED_EVERY_SECONDS:
                waited = 0.0
                self._look()

    def _freeze(self) -> None:
        if self._under_way() <= MANY:
            gc.collect(1)
        gc.freeze()

    def _look(self) -> None:
        in_use, checks = sys.getallocatedblocks(), self._checks()
        if self._usual is None:
            self._usual = in_use, checks
            return
        blocks, fewer = self._usual
        if in_use > blocks * 3 // 2 + GROWN + GROWN_A_CHECK * max(checks - fewer, 0):
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._usual = None
