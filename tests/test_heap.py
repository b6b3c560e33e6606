"""The collector never looks at everything while probes run, and gives back what it was told."""

from __future__ import annotations

import gc
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
        heap.settle()
        assert rings() == 0  # none is left to be looked at
        gc.unfreeze()
        assert rings() == len(kept)


@pytest.mark.parametrize(
    ("most", "left"), [(1_000_000, 0), (0, 100)], ids=["few are collected", "many are frozen"]
)
def test_old_garbage_is_collected_where_that_is_quick(
    monkeypatch: pytest.MonkeyPatch, most: int, left: int
) -> None:
    monkeypatch.setattr(heap, "MOST_LOOKED_AT", most)

    async def main() -> None:
        with heap.tended():
            kept = [Ring() for _ in range(100)]
            gc.collect(1)  # they are old now
            kept.clear()
            with anyio.move_on_after(heap.PERIOD_SECONDS * (heap.FULL_EVERY + 0.5)):
                await heap.tend()
            assert rings() == 0
            gc.unfreeze()
            assert rings() == left

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_garbage_that_was_frozen_is_found_once_much_has_been(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "MOST_LOOKED_AT", 0)
    monkeypatch.setattr(heap, "GROWN", 0)

    async def main() -> None:
        with heap.tended():
            async with anyio.create_task_group() as group:
                group.start_soon(heap.tend)
                await anyio.sleep(heap.PERIOD_SECONDS * (heap.FULL_EVERY + 0.5))
                kept = [Ring() for _ in range(gc.get_freeze_count())]
                await anyio.sleep(heap.PERIOD_SECONDS)  # frozen while somebody held them
                kept.clear()
                await anyio.sleep(heap.PERIOD_SECONDS * heap.FULL_EVERY)
                group.cancel_scope.cancel()
            gc.unfreeze()
            assert rings() == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
