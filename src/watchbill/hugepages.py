"""The interpreter's memory in pages of 2 MB, where the kernel can (Linux 6.1 and newer).

The objects of ten thousand checks lie over 150 MB, and a probe touches some hundred places of them, each on another page of
4 KB. Most of what such a probe costs beyond one of a few checks is the processor's way to those pages.
"""

from __future__ import annotations

import ctypes
from collections.abc import Awaitable, Callable, Iterator
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import anyio
import structlog

log = structlog.get_logger(__name__)

EVERY_SECONDS = 15.0
PAUSE_SECONDS = 0.005
"""Between two pages: the kernel takes some milliseconds to copy one, and the core with it where there is but one."""
ROUNDS = 20
"""Before every page is asked for again: the kernel splits some, and could not make others for want of memory."""
COLLAPSE = 25
"""MADV_COLLAPSE of <linux/mman.h>: at once, and even where huge pages are only given on demand."""
ENOUGH = 0.75
"""Of a huge page must be in use before: the rest becomes resident too."""
SIZE_FILE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
MAPS_FILE = "/proc/self/maps"


async def keep_huge(offload: Callable[..., Awaitable[Any]]) -> None:
    """Look now and then for memory that has filled up since. Returns where there is nothing to be had: only speed depends on it."""
    try:
        pages = await offload(HugePages.here)
        while pages is not None:
            await anyio.sleep(EVERY_SECONDS)
            for start in await offload(pages.filled):
                await offload(pages.collapse, start)
                await anyio.sleep(PAUSE_SECONDS)
    except (OSError, RuntimeError) as error:  # no descriptor, no thread, no /proc
        log.info("hugepages.given_up", error=str(error))


class HugePages:
    """``size`` is in bytes. Its calls are for a thread; they let the interpreter go."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._resident = (ctypes.c_ubyte * (size // PAGESIZE))()
        library = ctypes.CDLL(None, use_errno=True)
        library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        library.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        self._library = library
        self._asked: set[int] = set()
        self._rounds = 0

    @classmethod
    def here(cls) -> HugePages | None:
        try:
            return cls(int(Path(SIZE_FILE).read_text()))
        except (OSError, ValueError, AttributeError):  # no such kernel, or a C library without these calls
            return None

    def filled(self) -> list[int]:
        """Where memory is nearly all in use and was not asked for lately."""
        self._rounds += 1
        if self._rounds % ROUNDS == 0:
            self._asked.clear()
        starts = set(self._whole())
        self._asked &= starts
        return sorted(start for start in starts - self._asked if self._is_filled(start))

    def collapse(self, start: int) -> bool:
        """Whether it is a huge page now."""
        self._asked.add(start)
        return bool(self._library.madvise(start, self._size, COLLAPSE) == 0)

    def _whole(self) -> Iterator[int]:
        """Every aligned piece of memory that belongs to no file and that this process may write."""
        with Path(MAPS_FILE).open("rb") as file:
            for line in file:
                place, access, _, _, inode, *name = line.split()
                if access != b"rw-p" or inode != b"0" or name not in ([], [b"[heap]"]):
                    continue
                first, last = (int(bound, 16) for bound in place.split(b"-"))
                yield from range(first + -first % self._size, last - self._size + 1, self._size)

    def _is_filled(self, start: int) -> bool:
        if self._library.mincore(start, self._size, self._resident) != 0:
            return False  # gone since
        return sum(self._resident) >= ENOUGH * len(self._resident)
