"""A process that writes numbered groups with the real store and the real writer, and says what it was promised.

``python -m tests.crash.writing PATH``. On its output, a line each: ``opening``, ``opened SECONDS``, ``put N`` (group N was
handed over), ``try A B`` (a batch of the groups A to B is given to the store), ``ack A B`` (it was committed), ``gone N``
(groups before N are to be deleted by age), ``closed``. It goes on where the store says that history ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import anyio
import structlog

from tests.crash import numbered
from tests.storage.events import START
from watchbill.clock import Timeline
from watchbill.domain.errors import StorageError
from watchbill.domain.history import Batch
from watchbill.domain.opening import Opening
from watchbill.domain.units import Instant
from watchbill.ports import Storage, StorageStatistics
from watchbill.storage import duckdb_checkpoint, duckdb_schema, open_storage, writer


@dataclass(frozen=True)
class Plan:
    """``groups`` are written, one every ``pace_seconds`` (0: one for each acknowledgement), then the end comes:
    ``close``, ``kill`` (by its own hand) or ``wait`` (until somebody ends it).

    A log of ``log_bytes`` is a checkpoint; every ``prune_every`` groups all but the newest ``keep`` are deleted. A store with
    a ``schema`` has had only so many migrations, as an older version would have left it.
    """

    path: str
    groups: int = 1_000_000
    end: str = "wait"
    pace_seconds: float = 0.0
    log_bytes: int = duckdb_checkpoint.LOG_BYTES
    prune_every: int = 0
    keep: int = 40
    schema: int | None = None


class Announced:
    """The store, with what is asked of it said aloud. The rest of it is passed through."""

    def __init__(self, inner: Storage, say: Callable[[str], None]) -> None:
        self._inner = inner
        self._say = say
        self.opening = inner.opening
        self.spans = inner.spans
        self.results = inner.results
        self.coverage = inner.coverage
        self.close = inner.close
        self.prune = inner.prune

    async def commit(self, batch: Batch) -> None:
        if found := numbered.numbers(batch.events):
            self._say(f"try {found[0]} {found[1]}")
        await self._inner.commit(batch)

    async def reopen(self) -> None:
        try:
            await self._inner.reopen()
        except StorageError as error:
            self._say(f"refused {error}")
            raise

    def statistics(self) -> StorageStatistics:
        return self._inner.statistics()


class Producer:
    """Hands group after group to the writer, as the bus would."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._next = 0
        self._acknowledged = anyio.Event()
        self.writer: writer.HistoryWriter | None = None

    def accounted_until(self) -> Instant:
        return numbered.instant(self._next) + 1

    def committed(self, batch: Batch) -> None:
        if found := numbered.numbers(batch.events):
            self._say(f"ack {found[0]} {found[1]}")
        if self.writer is not None and self.writer.statistics().pending == 0:
            self._acknowledged.set()

    async def run(self, opening: Opening, storage: Storage) -> None:
        first = self._next = numbered.number_at(opening.accounted_until or START)
        assert self.writer is not None
        for number in range(first, first + self._plan.groups):
            self._acknowledged = anyio.Event()
            declared = numbered.registrations(numbered.instant(first), first) if number == first else []
            self._next = number + 1
            for event in (*declared, *numbered.group(number)):
                self.writer.accept(event)
            self._say(f"put {number}")
            if self._plan.pace_seconds:
                await anyio.sleep(self._plan.pace_seconds)
            else:
                await self._acknowledged.wait()
            if self._plan.prune_every and number % self._plan.prune_every == self._plan.prune_every - 1:
                await self._prune(storage, number - self._plan.keep)

    async def _prune(self, storage: Storage, oldest: int) -> None:
        if oldest > 0:
            self._say(f"gone {oldest}")
            await storage.prune(numbered.instant(oldest))


async def write(plan: Plan, say: Callable[[str], None]) -> None:
    """Open the store, write what was planned, end as was planned."""
    say("opening")
    began = time.monotonic()
    async with open_storage(plan.path) as inner:
        if not plan.groups:
            return
        storage = Announced(inner, say)
        opening = await storage.opening("")
        say(f"opened {time.monotonic() - began:.6f}")
        producer = Producer(plan, say)
        clock = Timeline(monotonic=time.monotonic, wall=lambda: round(time.time() * 1e6))
        producer.writer = history = writer.HistoryWriter(
            storage,
            clock=clock,
            accounted_until=producer.accounted_until,
            keep=lambda: timedelta(days=36_500),
            on_committed=producer.committed,
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(history.run)
            await producer.run(opening, storage)
            if plan.end == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            while plan.end == "wait":
                await anyio.sleep(1)
            await history.drain(30.0)
            tasks.cancel_scope.cancel()
    say("closed")


def run(plan: Plan, descriptor: int = 1) -> None:
    """Write, with a batch as soon as there is something to write, so that there are many of them. What is logged goes
    into a file beside the store's folder."""
    writer.FLUSH_SECONDS = 0.0
    duckdb_checkpoint.LOG_BYTES = plan.log_bytes
    if plan.schema is not None:
        known = duckdb_schema.migrations()[: plan.schema]
        duckdb_schema.migrations = lambda: known
    with Path(plan.path).parent.with_suffix(".log").open("a") as lines:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(lines))

        def say(line: str) -> None:
            os.write(descriptor, f"{line}\n".encode())

        anyio.run(write, plan, say)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--groups", type=int, default=Plan.groups)
    parser.add_argument("--end", choices=["close", "kill", "wait"], default=Plan.end)
    parser.add_argument("--pace-seconds", type=float, default=Plan.pace_seconds)
    parser.add_argument("--log-bytes", type=int, default=Plan.log_bytes)
    parser.add_argument("--prune-every", type=int, default=Plan.prune_every)
    parser.add_argument("--keep", type=int, default=Plan.keep)
    parser.add_argument("--schema", type=int)
    run(Plan(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
