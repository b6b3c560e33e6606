"""Python's cyclic garbage collection, kept from holding the event loop.

A full collection looks at every object that is not frozen: 77 to 341 ms where ten thousand checks are loaded. So what
lives for long is frozen, and a full collection happens only here, where few objects are left to be looked at. Those of
young objects take a millisecond or two and go on, though not as often as Python would have it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

PERIOD_SECONDS = 5.0
FULL_EVERY = 6
MOST_LOOKED_AT = 30_000
"""Objects that a full collection may look at: 3 ms, and 20 where none of them is in the processor's caches."""
YOUNG = 10_000
"""Objects made and not yet freed when young ones are looked at: a millisecond or two. With Python's own 700 that is done 65 times a
second at 3,000 probes a second, all of it in vain (4 % of a probe), since a probe leaves no cycle and its result is freed once committed."""
MIDDLE = 1
"""Collections of young objects before those that outlived them are looked at again: 30,000 objects at most. With ten (Python's own)
and 20,000 young ones :func:`settle` took 60 ms after a reload."""
NEVER = 1 << 30
GROWN = 200_000
"""Objects frozen since everything was last looked at, beyond half of what was left then, that make it time to do so again: what was
frozen while a probe held it may have become garbage in a cycle, which nobody else finds. It takes hundreds of milliseconds (marked as
a stall of our own), where memory would grow for as long as thousands of targets hang."""


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


def settle() -> None:
    """After something large was built: it stays, so it is frozen.

    So is garbage in a cycle that has grown old by now, and what becomes such garbage later; :func:`tend` sees to it.
    """
    gc.collect(1)
    gc.freeze()


async def tend() -> None:
    """Now and then collect what little there is; much is what was worked out once per check, when it was first probed."""
    settled: int | None = None
    while True:
        for _ in range(FULL_EVERY):
            await anyio.sleep(PERIOD_SECONDS)
            if much := _old() > MOST_LOOKED_AT:
                settle()
        if settled is not None and gc.get_freeze_count() > settled * 3 // 2 + GROWN:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            settled = None
        elif not much:
            gc.collect()
        if settled is None:
            settled = gc.get_freeze_count()


def _old() -> int:
    """Objects that have outlived a collection and are not frozen."""
    return sum(len(gc.get_objects(generation=age)) for age in (1, 2))
