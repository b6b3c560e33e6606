"""Memory that is in use becomes huge pages; what is not in use, or is a file's, is left alone."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from watchbill import hugepages
from watchbill.hugepages import HugePages

BLOCKS = 4


@pytest.fixture
def pages() -> HugePages:
    found = HugePages.here()
    if found is None:
        pytest.skip("this kernel has no huge pages")
    return found


def size() -> int:
    return int(Path(hugepages.SIZE_FILE).read_text())


@contextmanager
def mapped(*, filled: float, kind: int = mmap.MAP_PRIVATE) -> Iterator[range]:
    """The starts of whole huge pages of new memory, of each of which a share is in use."""
    memory = mmap.mmap(-1, (BLOCKS + 1) * size(), flags=kind | mmap.MAP_ANONYMOUS)
    place = ctypes.addressof(held := ctypes.c_char.from_buffer(memory))
    first = -place % size()
    for block in range(BLOCKS):
        begun = first + block * size()
        used = int(filled * size())
        memory[begun : begun + used] = bytes(used)
    yield range(place + first, place + first + BLOCKS * size(), size())
    del held
    memory.close()


def is_huge(start: int) -> bool:
    """As the kernel tells of the mapping around an address."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if "-" in name and ":" not in name:
            begun, ended = (int(bound, 16) for bound in name.split("-"))
            inside = begun <= start < ended
        elif inside and name == "AnonHugePages:":
            return int(rest.split()[0]) * 1024 >= BLOCKS * size()
    return False


@pytest.mark.elsewhere
def test_memory_in_use_is_found_once_and_made_huge(pages: HugePages) -> None:
    with mapped(filled=1) as starts:
        assert set(starts) <= set(pages.filled())
        for start in starts:
            pages.collapse(start)
        if not is_huge(starts[0]):
            pytest.skip("this kernel is older than 6.1, or has no memory in one piece")
        assert not set(starts) & set(pages.filled())


@pytest.mark.elsewhere
@pytest.mark.parametrize(
    ("filled", "kind"),
    [(0.0, mmap.MAP_PRIVATE), (0.5, mmap.MAP_PRIVATE), (1.0, mmap.MAP_SHARED)],
    ids=["untouched", "half in use", "shared"],
)
def test_other_memory_is_left_alone(pages: HugePages, filled: float, kind: int) -> None:
    with mapped(filled=filled, kind=kind) as starts:
        assert not set(starts) & set(pages.filled())


@pytest.mark.elsewhere
def test_memory_that_went_meanwhile_does_no_harm(pages: HugePages) -> None:
    with mapped(filled=1) as starts:
        gone = list(starts)
    for start in gone:
        pages.collapse(start)


def test_a_kernel_without_huge_pages_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def offload(function: Any, *args: Any) -> Any:
        asked.append(function.__name__)
        return function(*args)

    monkeypatch.setattr(hugepages, "SIZE_FILE", str(tmp_path / "absent"))
    anyio.run(hugepages.keep_huge, offload)
    assert asked == ["here"]


def test_pages_are_made_huge_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Few:
        def __init__(self) -> None:
            self.left = [1, 2, 3]
            self.made: list[int] = []

        def filled(self) -> list[int]:
            return list(self.left)

        def collapse(self, start: int) -> None:
            self.left.remove(start)
            self.made.append(start)

    few = Few()

    async def offload(function: Any, *args: Any) -> Any:
        return few if function == HugePages.here else function(*args)

    async def main() -> None:
        with anyio.move_on_after(1):
            await hugepages.keep_huge(offload)

    monkeypatch.setattr(hugepages, "EVERY_SECONDS", 0.01)
    anyio.run(main)
    assert few.made == [1, 2, 3]
