"""The collector never looks at everything while probes run, and gives back what it was told."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import anyio
import pytest
import trio.testing

from watchbill import heap


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    assert gc.get_freeze_count() == 0


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


def rings() -> int:
    return sum(type(found) is Ring for found in gc.get_objects())


def test_full_collections_come_by_themselves_only_before_and_after() -> None:
    before = gc.get_threshold()
    with heap.tended():
        assert gc.get_threshold() == (heap.YOUNG, heap.MIDDLE, heap.NEVER)
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == before


def test_what_was_built_is_frozen_without_its_garbage() -> None:
    with heap.tended():
        Ring()
        kept = [Ring() for _ in range(100)]
        heap.Heap().settle()
        assert rings() == 0  # none is left to be looked at
        gc.unfreeze()
        assert rings() == len(kept)


@pytest.mark.parametrize(
    ("under_way", "left"), [(0, 0), (heap.MANY + 1, 100)], ids=["few are collected", "many are frozen"]
)
def test_young_garbage_is_looked_for_where_few_probes_are_under_way(under_way: int, left: int) -> None:
    async def main() -> None:
        with heap.tended():
            kept = [Ring() for _ in range(100)]
            kept.clear()
            with anyio.move_on_after(1.5 * heap.PERIOD_SECONDS):
                await heap.Heap(lambda: under_way).tend()
            assert rings() == 0
            gc.unfreeze()
            assert rings() == left

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_garbage_that_was_frozen_is_found_once_memory_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "GROWN", 0)

    async def main() -> None:
        with heap.tended():
            async with anyio.create_task_group() as group:
                group.start_soon(heap.Heap().tend)
                await anyio.sleep(1.5 * heap.LOOKED_EVERY_SECONDS)
                kept = [Ring() for _ in range(sys.getallocatedblocks() // 2)]
                await anyio.sleep(2 * heap.PERIOD_SECONDS)  # frozen while somebody held them
                kept.clear()
                await anyio.sleep(heap.LOOKED_EVERY_SECONDS)
                group.cancel_scope.cancel()
            gc.unfreeze()
            assert rings() == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("added", "found"), [(0, True), (10_000_000, False)], ids=["reloads alone do not", "more checks do"]
)
def test_growth_is_explained_by_more_checks_only(
    monkeypatch: pytest.MonkeyPatch, added: int, found: bool
) -> None:
    monkeypatch.setattr(heap, "GROWN", 0)
    registered = 0

    async def main() -> None:
        nonlocal registered
        one = heap.Heap(checks=lambda: registered)
        with heap.tended():
            async with anyio.create_task_group() as group:
                group.start_soon(one.tend)
                await anyio.sleep(1.5 * heap.LOOKED_EVERY_SECONDS)
                kept = [Ring() for _ in range(sys.getallocatedblocks() // 2)]
                registered += added
                one.settle()
                kept.clear()
                await anyio.sleep(heap.LOOKED_EVERY_SECONDS)
                group.cancel_scope.cancel()
            gc.unfreeze()
            assert (rings() == 0) is found

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
