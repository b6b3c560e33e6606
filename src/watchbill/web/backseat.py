"""One thread of low priority: for what takes a core for a while, and nobody waits for but who asked."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

NICENESS = 15
"""Beside the event loop on one core the thread gets a thirtieth of it; alone, all."""


class Backseat:
    """An ``Offload``, one call after the other. What is cancelled is not waited for, and the end of the process waits for nothing."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def __call__(self, function: Callable[..., T], *args: Any) -> T:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="backseat", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._calls.put(partial(_call, loop, answer, partial(function, *args)))
        return await answer

    def close(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        # To Linux a thread is a process of its own as far as its priority goes (setpriority(2)).
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS  # the process may be nice itself
        os.setpriority(os.PRIO_PROCESS, thread, min(niceness, 19))
        while (call := self._calls.get()) is not None:
            call()


def _call(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], function: Callable[[], T]) -> None:
    if answer.cancelled():
        return
    try:
        settle = partial(_settle, answer.set_result, answer, function())
    except Exception as error:  # noqa: BLE001 - it belongs to who asked
        settle = partial(_settle, answer.set_exception, answer, error)
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(settle)


def _settle(put: Callable[[Any], object], answer: asyncio.Future[T], found: object) -> None:
    if not answer.done():
        put(found)
