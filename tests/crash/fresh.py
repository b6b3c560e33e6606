"""A look at a history in a process that did nothing before, by Watchbill's own store, as an exporter opens it at its start.

The modules are imported already, since the process is forked from one that did only that: what is timed is the opening,
not the interpreter.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Generic, TypeVar

import anyio
import duckdb

from watchbill.domain.errors import StorageError
from watchbill.storage.duckdb import open_duckdb

T = TypeVar("T")
HANG_GUARD_SECONDS = 60.0
PRELOADED = ("tests.crash.writing", "tests.crash.promises", "tests.crash.exporters", "tests.crash.longest")


@dataclass(frozen=True)
class Reopening:
    """Of a file that a kill left: how large its log was, and the time from the call that opens to the first answer."""

    log_bytes: int
    seconds: float


@dataclass(frozen=True)
class Look(Generic[T]):
    opening: Reopening
    found: T


def forkserver() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def look(path: Path, question: Callable[[duckdb.DuckDBPyConnection], T]) -> Look[T]:
    """Open the store at ``path``, ask, close it.

    :raises StorageError: it does not open by itself.
    """
    left = log_bytes(path)
    ours, theirs = forkserver().Pipe(duplex=False)
    process = forkserver().Process(target=_answer, args=(path, question, theirs))
    process.start()
    theirs.close()
    assert ours.poll(HANG_GUARD_SECONDS), f"{path}: not opened within {HANG_GUARD_SECONDS:.0f} s"
    answer = ours.recv()
    process.join()
    ours.close()
    if isinstance(answer, StorageError):
        raise answer
    seconds, found = answer
    return Look(Reopening(left, seconds), found)


def log_bytes(path: Path) -> int:
    try:
        return path.with_name(path.name + ".wal").stat().st_size
    except FileNotFoundError:
        return 0


def p99(openings: list[Reopening]) -> float:
    """In seconds; without end where there was none."""
    took = sorted(opening.seconds for opening in openings)
    return took[min(len(took) - 1, int(len(took) * 0.99))] if took else float("inf")


def _answer(path: Path, question: Callable[[duckdb.DuckDBPyConnection], object], asked: Connection) -> None:
    async def answered() -> object:
        began = time.monotonic()
        store = await open_duckdb(str(path), location="")
        try:
            await store.opening("")
            return time.monotonic() - began, await store._questions.answer(question)
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()

    try:
        asked.send(anyio.run(answered))
    except StorageError as error:
        asked.send(StorageError(str(error), retryable=False))
