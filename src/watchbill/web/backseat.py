"""One thread of low priority: for what takes a core for a while, and nobody waits for but who asked."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

NICENESS = 15
"""Beside the event loop on one core the thread gets a thirtieth of it; alone, all."""


class Backseat:
    """An ``Offload``. What is cancelled is not waited for; what the thread has begun it ends."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="backseat", initializer=_stand_back
        )

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(function, *args))

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _stand_back() -> None:
    # To Linux a thread is a process of its own as far as its priority goes (setpriority(2)).
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
