"""Memory that is in use becomes huge pages; what is not in use, or is a file's, is left alone."""

from __future__ import annotations

import ctypes
import mmap
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing
from structlog.testing import capture_logs

from watchbill import hugepages
from watchbill.hugepages import HugePages

BLOCKS = 4


@pytest.fixture
def pages() -> HugePages:
    found = HugePages.here()
    if found is None:
        pytest.skip("this kernel has no huge pages")
    return found


def kernel() -> tuple[int, int]:
    major, minor, *_ = platform.release().split(".")
    return int(major), int(minor)


def size() -> int:
    return int(Path(hugepages.SIZE_FILE).read_text())


@contextmanager
def mapped(*, filled: float, kind: int = mmap.MAP_PRIVATE) -> Iterator[range]:
    """The starts of whole huge pages of new memory, of each of which a share is in use."""
    memory = mmap.mmap(-1, (BLOCKS + 1) * size(), flags=kind | mmap.MAP_ANONYMOUS)
    if filled < 1:
        memory.madvise(mmap.MADV_NOHUGEPAGE)  # else the first byte may bring a whole huge page
    place = ctypes.addressof(held := ctypes.c_char.from_buffer(memory))
    first = -place % size()
    for block in range(BLOCKS):
        begun = first + block * size()
        used = int(filled * size())
        memory[begun : begun + used] = bytes(used)
    try:
        yield range(place + first, place + first + BLOCKS * size(), size())
    finally:
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
def test_memory_in_use_is_found_and_made_huge(pages: HugePages) -> None:
    if kernel() < (6, 1):
        pytest.skip("this kernel is older than 6.1")
    with mapped(filled=1) as starts:
        assert set(starts) <= set(pages.filled())
        assert [pages.collapse(start) for start in starts] == [True] * BLOCKS
        assert is_huge(starts[0])


@pytest.mark.elsewhere
def test_a_page_is_asked_for_again_only_after_some_rounds(pages: HugePages) -> None:
    with mapped(filled=1) as starts:
        for start in starts:
            pages.collapse(start)
        found = [set(starts) <= set(pages.filled()) for _ in range(hugepages.ROUNDS)]
        assert found == [False] * (hugepages.ROUNDS - 1) + [True]


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
    assert [pages.collapse(start) for start in gone] == [False] * BLOCKS
    assert not set(gone) & set(pages.filled())


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


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), RuntimeError("can't start new thread")], ids=["descriptors", "threads"]
)  # fmt: skip
def test_what_it_lacks_ends_nothing_but_itself(error: Exception) -> None:
    async def offload(function: Any, *args: Any) -> Any:
        if function == HugePages.here:
            return HugePages(2 << 20)
        raise error

    with capture_logs() as logged:
        trio.run(hugepages.keep_huge, offload, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [entry["event"] for entry in logged] == ["hugepages.given_up"]


def test_between_two_pages_others_have_memory() -> None:
    class Few:
        def __init__(self) -> None:
            self.left = [1, 2, 3]
            self.at: list[float] = []

        def filled(self) -> list[int]:
            return list(self.left)

        def collapse(self, start: int) -> None:
            self.left.remove(start)
            self.at.append(anyio.current_time())

    few = Few()

    async def offload(function: Any, *args: Any) -> Any:
        return few if function == HugePages.here else function(*args)

    async def main() -> None:
        with anyio.move_on_after(2.5 * hugepages.EVERY_SECONDS):
            await hugepages.keep_huge(offload)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert few.left == []
    first, second, third = few.at
    assert second - first >= hugepages.PAUSE_SECONDS <= third - second
