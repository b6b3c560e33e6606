"""What stands in a history, held against the grid of slots, which follows from the checks' ids alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import duckdb

SECOND = 1_000_000


class Row(NamedTuple):
    """One result or skipped slot; instants in microseconds since the epoch."""

    check: str
    slot: int
    outcome: str
    reason: str | None
    started_at: int | None
    duration_seconds: float | None


@dataclass(frozen=True)
class History:
    """The slots of all checks, the gaps as (reason, from, to), and how many slots nothing accounts for."""

    rows: Sequence[Row]
    gaps: Sequence[tuple[str, int, int]]
    unaccounted: int
    spans: Counter[str]

    def within(self, begun: int, ended: int) -> list[Row]:
        """The rows of slots from ``begun`` until before ``ended``."""
        return [row for row in self.rows if begun <= row.slot < ended]


def read(storage: Path) -> History:
    with closing(duckdb.connect(str(storage), read_only=True)) as store:
        rows = store.execute(
            "SELECT check_id, epoch_us(slot), outcome, reason, epoch_us(started_at), duration_seconds "
            "FROM results WHERE trigger = 'schedule'"
        ).fetchall()
        gaps = store.execute("SELECT reason, epoch_us(started_at), epoch_us(ended_at) FROM gap").fetchall()
        [(unaccounted,)] = store.execute("SELECT sum(unaccounted) FROM coverage").fetchall()
        spans = store.execute(
            "SELECT i.check_id, count(*) FROM span AS s JOIN check_identity AS i USING (check_key) GROUP BY 1"
        ).fetchall()
    return History([Row(*row) for row in rows], gaps, int(unaccounted), Counter(dict(spans)))


def grid(check: str, begun: int, ended: int, *, interval: int = SECOND) -> range:
    """The slots of a check from ``begun`` until before ``ended``."""
    offset = int.from_bytes(blake2b(check.encode(), digest_size=8).digest(), "big") % interval
    return range(begun + (offset - begun) % interval, ended, interval)


@dataclass(frozen=True)
class Schedule:
    """Slots held against the grid: how many it has, and how many have no row, two, or stand beside it."""

    expected: int
    absent: int
    doubled: int
    elsewhere: int

    @property
    def exact(self) -> bool:
        return self.expected > 0 and not (self.absent or self.doubled or self.elsewhere)

    def __str__(self) -> str:
        return f"{self.absent} slots without a row, {self.doubled} with two, {self.elsewhere} rows beside the grid"


def held_against_the_grid(
    history: History, checks: Iterable[str], begun: int, ended: int, *, interval: int = SECOND
) -> Schedule:
    """Every slot in that time must have exactly one row; gaps are no excuse here."""
    found: dict[str, Counter[int]] = {check: Counter() for check in checks}
    for row in history.within(begun, ended):
        if row.check in found:
            found[row.check][row.slot] += 1
    expected = absent = doubled = elsewhere = 0
    for check, slots in found.items():
        due = grid(check, begun, ended, interval=interval)
        expected += len(due)
        absent += sum(slot not in slots for slot in due)
        doubled += sum(count - 1 for count in slots.values())
        elsewhere += sum(slot not in due for slot in slots)
    return Schedule(expected, absent, doubled, elsewhere)
