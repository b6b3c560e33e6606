"""Judging aside: a few workers that take one body each, and are ended where they take too long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import anyio

from watchbill.ports import UnjudgedError
from watchbill.workers.process import Worker, WorkerLostError, start_worker

T = TypeVar("T")

MOST_WORKERS = 2
LARGE_BYTES = 64 * 1024
"""At 7 us a byte half a second. What is larger is never under way in all workers at once, so that the others need not wait
for the five seconds that a target can make of it."""


class Judges:
    """A :class:`~watchbill.ports.Judge`. A worker is started when the first body comes, and kept for the next."""

    def __init__(self) -> None:
        self._room = anyio.CapacityLimiter(MOST_WORKERS)
        self._room_for_large = anyio.CapacityLimiter(MOST_WORKERS - 1)
        self._idle: list[Worker] = []

    async def __call__(self, function: Callable[..., T], content: Sequence[bytes], *arguments: Any) -> T:
        async with AsyncExitStack() as waiting:
            if sum(map(len, content)) > LARGE_BYTES:
                await waiting.enter_async_context(self._room_for_large)
            await waiting.enter_async_context(self._room)
            try:
                worker = await self._take()
                answer: T = await self._ask(worker, function, content, arguments)
            except WorkerLostError as error:
                raise UnjudgedError(f"the process for it {error}") from error
        return answer

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().end()

    async def _take(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await worker.end()
        return await start_worker("judge")

    async def _ask(
        self, worker: Worker, function: Callable[..., T], content: Sequence[bytes], arguments: tuple[Any, ...]
    ) -> Any:
        spent = True
        try:
            await worker.send((function, arguments))
            await worker.send_bytes(content)
            answer, problem, spent = await worker.receive()
        finally:
            # Cancelled as well: nothing else stops a search or a parser that is under way.
            if spent:
                await worker.end()
            else:
                self._idle.append(worker)
        if problem:
            raise UnjudgedError(problem)
        return answer


@asynccontextmanager
async def open_judges() -> AsyncIterator[Judges]:
    """No worker is left when the block is; leave it after whoever asks."""
    judges = Judges()
    try:
        yield judges
    finally:
        await judges.close()
