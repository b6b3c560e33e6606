"""A store that fails on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio

from tests.storage.events import START
from watchbill.domain.errors import StorageError
from watchbill.domain.history import Batch, Coverage, StoredResult
from watchbill.domain.messages import Event
from watchbill.domain.opening import Opening
from watchbill.domain.schedule import Span
from watchbill.domain.units import Instant
from watchbill.ports import StorageStatistics
from watchbill.storage.memory import MemoryStorage


def no_clock() -> Instant:
    return START


@dataclass
class FailingStorage:
    """A memory store in front of which commits fail.

    ``failures``: how many commits are to fail, and with what; ``after_the_fact``: they are applied all the same, and
    only the answer is lost. ``commits`` holds (time, batch) of all that were tried, ``reopened`` the times of reopenings.
    """

    now: Callable[[], Instant] = no_clock
    inner: MemoryStorage = field(default_factory=MemoryStorage)
    failures: list[StorageError] = field(default_factory=list)
    reopen_failures: list[StorageError] = field(default_factory=list)
    after_the_fact: bool = False
    refuse: Callable[[Event], bool] = lambda event: False
    seconds_a_commit: float = 0.0
    tried: list[tuple[Instant, Batch]] = field(default_factory=list)
    committed: list[tuple[Instant, Batch]] = field(default_factory=list)
    reopened: list[Instant] = field(default_factory=list)
    pruned: list[tuple[Instant, Instant]] = field(default_factory=list)

    async def commit(self, batch: Batch) -> None:
        self.tried.append((self.now(), batch))
        if self.seconds_a_commit:
            await anyio.sleep(self.seconds_a_commit)
        if any(self.refuse(event) for event in batch.events):
            raise StorageError("a value that no column takes", retryable=False)
        if self.failures:
            if self.after_the_fact:
                await self.inner.commit(batch)
            raise self.failures.pop(0)
        await self.inner.commit(batch)
        self.committed.append((self.now(), batch))

    async def reopen(self) -> None:
        self.reopened.append(self.now())
        if self.reopen_failures:
            raise self.reopen_failures.pop(0)

    async def prune(self, before: Instant) -> int:
        self.pruned.append((self.now(), before))
        if self.failures:
            raise self.failures.pop(0)
        return await self.inner.prune(before)

    async def opening(self, location: str) -> Opening:
        return await self.inner.opening(location)

    async def spans(self, check_id: str) -> Sequence[Span]:
        return await self.inner.spans(check_id)

    async def results(
        self, check_id: str, *, since: Instant, until: Instant, limit: int
    ) -> Sequence[StoredResult]:
        return await self.inner.results(check_id, since=since, until=until, limit=limit)

    async def coverage(self, *, since: Instant, until: Instant) -> Sequence[Coverage]:
        return await self.inner.coverage(since=since, until=until)

    def statistics(self) -> StorageStatistics:
        return self.inner.statistics()

    async def close(self) -> None:
        await self.inner.close()
