"""Whom sources tell, in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from watchbill.discovery.sources import Source
from watchbill.domain.discovery import TargetGroup


@dataclass
class Told:
    """A :class:`watchbill.discovery.sources.Report`: everything that was said, in order."""

    before: Sequence[TargetGroup] = ()
    all_found: list[Sequence[TargetGroup]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _more: anyio.Event = field(default_factory=anyio.Event)

    def found(self, groups: Sequence[TargetGroup]) -> None:
        self.all_found.append(groups)
        self._wake()

    def failed(self, reason: str) -> None:
        self.failures.append(reason)
        self._wake()

    def last(self) -> Sequence[TargetGroup]:
        return self.all_found[-1] if self.all_found else self.before

    def targets(self) -> dict[str, list[dict[str, str]]]:
        """By group, each target with the labels of its group."""
        return {
            group.source: [{**group.labels, **target} for target in group.targets] for group in self.last()
        }

    def addresses(self) -> list[str]:
        return [target["__address__"] for group in self.last() for target in group.targets]

    async def until(self, holds: Callable[[], bool]) -> None:
        """:raises TimeoutError: it never did."""
        with anyio.fail_after(20):
            while not holds():
                await self._more.wait()

    async def found_again(self, times: int = 1) -> None:
        """So many more findings, whatever is in them."""
        seen = len(self.all_found)
        await self.until(lambda: len(self.all_found) >= seen + times)

    async def failed_again(self, times: int = 1) -> None:
        seen = len(self.failures)
        await self.until(lambda: len(self.failures) >= seen + times)

    def _wake(self) -> None:
        self._more.set()
        self._more = anyio.Event()


@asynccontextmanager
async def running(source: Source, told: Told | None = None) -> AsyncIterator[Told]:
    """The source at work; a source that ends or raises fails the test."""
    told = Told() if told is None else told

    async def run() -> None:
        await source(told)
        raise AssertionError("a source runs until it is cancelled")

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        yield told
        group.cancel_scope.cancel()
