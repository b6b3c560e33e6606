"""What writing processes were promised, and whether a store keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from tests.crash.numbered import Seen, look
from watchbill.storage.duckdb import open_duckdb


@dataclass
class Promises:
    """Fed with the lines of :mod:`tests.crash.writing`; batches count when they were acknowledged."""

    batches: int = 0
    newest: int = -1
    """The newest group that was acknowledged."""
    ends: set[int] = field(default_factory=set)
    """The last groups of batches that were tried since: one of them may be in the store."""
    gone: int = 0
    """Groups before this one may have been deleted by age."""
    opening_seconds: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        match line.split():
            case ["try", _, last]:
                self.ends.add(int(last))
            case ["ack", _, last]:
                self.batches += 1
                self.newest = int(last)
                self.ends.clear()
            case ["gone", number]:
                self.gone = max(self.gone, int(number))
            case ["opened", seconds]:
                self.opening_seconds.append(float(seconds))
            case ["refused", *_]:
                self.refusals.append(line)
            case _:
                pass

    def hear_all(self, lines: Iterable[str]) -> Promises:
        for line in lines:
            self.hear(line)
        return self

    def settle(self, seen: Seen) -> None:
        """What was found is there for good: nobody looks again with less."""
        self.newest = max(self.newest, seen.newest)
        self.ends.clear()

    def broken_by(self, seen: Seen) -> list[str]:
        """What the store does not keep of it, a line each."""
        problems = list(seen.problems)
        if seen.newest < self.newest:
            problems.append(f"lost: group {self.newest} was acknowledged, the newest there is {seen.newest}")
        elif seen.newest not in {self.newest, *self.ends}:
            problems.append(f"torn: group {seen.newest} is the newest, no batch ended with it")
        if seen.oldest > self.gone:
            problems.append(f"lost: groups before {seen.oldest}, where those before {self.gone} may be gone")
        return problems


async def seen_by_watchbill(path: Path) -> Seen:
    """Open it as the exporter would, and look.

    :raises StorageError: it does not open by itself.
    """
    store = await open_duckdb(str(path), location="")
    try:
        return await store._questions.answer(look)
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()
