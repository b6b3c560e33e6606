"""Coverage against a recount, slot by slot, over random spans, gaps and rows; and the view against it by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from typing import TypeAlias

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.events import DAY, START, batch, check, deleted, missed, registered, result, skipped
from watchbill.domain.history import Coverage
from watchbill.domain.messages import CheckSucceeded, Event
from watchbill.domain.results import GapReason, Outcome, Trigger
from watchbill.domain.schedule import offset_of
from watchbill.domain.stalls import STALLED
from watchbill.domain.units import SECOND, Instant, Micros, to_datetime
from watchbill.storage import duckdb_answers, open_storage
from watchbill.storage.duckdb_connection import connect

LENGTH: Micros = 2 * DAY + 7_000 * SECOND
NAMES = ("alpha", "beta")
INTERVALS = ("1h", "2h30m", "7h")
ROW_OUTCOMES = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ERROR, Outcome.EXCUSED, Outcome.SKIPPED)
COUNTED = ("expected", "success", "failure", "error", "skipped", "excused", "missed", "unaccounted")
Counts: TypeAlias = Counter[str]

instants = st.integers(START, START + LENGTH)


@dataclass(frozen=True)
class History:
    """What happened: (name, interval, from, to) spans, slots that have a row, gaps, how far accounting came."""

    spans: tuple[tuple[str, str, Instant, Instant | None], ...]
    rows: Mapping[tuple[str, Instant], Outcome]
    gaps: tuple[tuple[Instant, Instant], ...]
    accounted_until: Instant
    kept_since: Instant

    def expected(self) -> list[tuple[str, Instant]]:
        """Every slot that was expected, one by one."""
        found = []
        for name, interval, opened, closed in self.spans:
            step = check(interval=interval).interval_micros
            slot = offset_of(name, step) + (START - 2 * step) // step * step
            last = self.accounted_until - 1 if closed is None else min(closed, self.accounted_until - 1)
            while slot <= last:
                if slot > opened and slot >= self.kept_since:
                    found.append((name, slot))
                slot += step
        return found

    def ended(self, name: str, slot: Instant) -> str:
        if (outcome := self.rows.get((name, slot))) is not None:
            return outcome.value
        return "missed" if any(start <= slot < end for start, end in self.gaps) else "unaccounted"

    def count(self, since: Instant, until: Instant) -> dict[str, Counts]:
        counts: dict[str, Counts] = {}
        for name, slot in self.expected():
            if since <= slot < until:
                counts.setdefault(name, Counter()).update(["expected", self.ended(name, slot)])
        return counts

    def by_day(self) -> dict[tuple[str, date], Counts]:
        counts: dict[tuple[str, date], Counts] = {}
        for name, slot in self.expected():
            key = name, to_datetime(slot).date()
            counts.setdefault(key, Counter()).update(["expected", self.ended(name, slot)])
        return counts

    def events(self) -> list[Event]:
        happened: list[tuple[Instant, Event]] = [(START, missed(*gap, GapReason.STALL)) for gap in self.gaps]
        for name, interval, opened, closed in self.spans:
            happened.append((opened, registered(check(name, interval=interval), opened)))
            if closed is not None:
                happened.append((closed, deleted(name, closed)))
        for (name, slot), outcome in self.rows.items():
            happened.append((slot, _row(name, slot, outcome)))
            # A probe that somebody asked for at the same instant belongs to no slot.
            happened.append((slot, CheckSucceeded(result(name, slot, trigger=Trigger.MANUAL))))
        return [event for _, event in sorted(happened, key=lambda pair: pair[0])]


def _row(name: str, slot: Instant, outcome: Outcome) -> Event:
    return (
        skipped(name, slot)
        if outcome is Outcome.SKIPPED
        else CheckSucceeded(result(name, slot, outcome=outcome))
    )


def history_of(seed: int) -> History:
    """Drawn evenly, which strategies do not: they would rarely let gaps overlap or leave slots without a row."""
    chance = Random(seed)
    spans: list[tuple[str, str, Instant, Instant | None]] = []
    for name in NAMES:
        edges = sorted(chance.randrange(START, START + LENGTH) for _ in range(chance.randint(1, 5)))
        for opened, closed in zip(edges[::2], [*edges[1::2], None], strict=False):
            spans.append((name, chance.choice(INTERVALS), opened, closed))
    slots = History(tuple(spans), {}, (), START + 2 * LENGTH, 0).expected()
    rows = {slot: chance.choice(ROW_OUTCOMES) for slot in slots if chance.random() < 0.6}
    instants = [slot for _, slot in slots] or [START]
    gaps = []
    for _ in range(chance.randint(0, 5)):
        # Often from exactly a slot to exactly a slot, where being off by one shows.
        start = chance.choice(instants) if chance.random() < 0.5 else chance.randrange(START, START + LENGTH)
        end = chance.choice(instants) if chance.random() < 0.5 else start + chance.randrange(DAY)
        gaps.append((min(start, end), max(start, end)))
    accounted = chance.choice([*instants, START + 2 * LENGTH])
    return History(tuple(spans), rows, tuple(gaps), accounted, chance.choice([0, *instants[:4]]))


histories = st.integers(0, 2**32).map(history_of)


def counted(rows: list[Coverage]) -> dict[str, Counts]:
    return {row.check_id: Counter({name: n for name in COUNTED if (n := getattr(row, name))}) for row in rows}


async def ask(url: str, history: History, periods: list[tuple[Instant, Instant]]) -> list[list[Coverage]]:
    async with open_storage(url) as store:
        await store.commit(batch(*history.events(), until=history.accounted_until))
        await store.prune(history.kept_since)
        return [list(await store.coverage(since=since, until=until)) for since, until in periods]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty history, since making one takes longer than asking it."""
    path = tmp_path_factory.mktemp("empty") / "history.duckdb"

    async def make() -> None:
        async with open_storage(str(path)):
            pass

    anyio.run(make)
    return path


@settings(max_examples=25, deadline=None)
@given(history=histories, first=instants, second=instants)
def test_every_store_counts_what_a_recount_counts(
    template: Path, history: History, first: Instant, second: Instant
) -> None:
    periods = [(0, START + 3 * LENGTH), (min(first, second), max(first, second))]
    path = template.with_name("example.duckdb")
    for leftover in template.parent.glob("example.duckdb*"):
        leftover.unlink()
    path.write_bytes(template.read_bytes())
    memory = anyio.run(ask, "memory:", history, periods)
    file = anyio.run(ask, str(path), history, periods)
    for (since, until), ours, theirs in zip(periods, memory, file, strict=True):
        assert counted(ours) == history.count(since, until)
        assert ours == theirs
    assert viewed(path) == history.by_day()


@pytest.mark.parametrize("rows_at_once", [1, 7, 30])
def test_a_long_history_is_counted_check_by_check_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    """Quantiles hold every duration in memory, so checks that together have too many rows are asked apart."""
    history = history_of(207)
    assert len({name for name, *_ in history.spans}) > 1
    assert len(history.rows) > 50
    monkeypatch.setattr(duckdb_answers, "ROWS_A_QUESTION", rows_at_once)
    periods = [(0, START + 3 * LENGTH)]
    [ours] = anyio.run(ask, "memory:", history, periods)
    [theirs] = anyio.run(ask, str(tmp_path / "history.duckdb"), history, periods)
    assert ours == theirs
    assert len(ours) > 1


def viewed(path: Path) -> dict[tuple[str, date], Counts]:
    connection = connect(path)
    try:
        rows = connection.execute(f"SELECT check_id, day, {', '.join(COUNTED)} FROM coverage").fetchall()
    finally:
        connection.close()
    return {
        (row[0], row[1]): Counter({name: n for name, n in zip(COUNTED, row[2:], strict=True) if n})
        for row in rows
    }


def test_the_views_have_the_columns_that_are_documented(template: Path) -> None:
    connection = connect(template)
    try:
        columns = {
            view: [row[0] for row in connection.execute(f"DESCRIBE {view}").fetchall()]
            for view in ("results", "coverage")
        }
        types = {row[0]: row[1] for row in connection.execute("DESCRIBE results").fetchall()}
    finally:
        connection.close()
    assert columns == {
        "results": [
            "check_id", "service", "type", "location", "slot", "trigger", "started_at", "duration_seconds", "outcome",
            "reason", "message", "status_code", "resolve_seconds", "connect_seconds", "tls_seconds",
            "processing_seconds", "transfer_seconds", "labels", "stalled_seconds",
        ],
        "coverage": [
            "check_id", "location", "day", "expected", "success", "failure", "error", "skipped", "excused", "missed",
            "unaccounted",
        ],
    }  # fmt: skip
    assert (types["slot"], types["duration_seconds"]) == ("TIMESTAMP WITH TIME ZONE", "DOUBLE")


async def _latencies(url: str) -> Coverage:
    async with open_storage(url) as store:
        lengths = [0.001234, 0.5, 0.25, 0.333333, 1.75, 0.000001, 2.0]
        slots = [START + 10 * SECOND * index for index in range(1, 8)]
        events = [
            CheckSucceeded(result("a", slot, duration_seconds=length))
            for slot, length in zip(slots, lengths, strict=True)
        ]
        over_a_stall = result("a", START + 80 * SECOND, duration_seconds=30.0, facts={STALLED: 0.08})
        await store.commit(batch(registered("a"), *events, CheckSucceeded(over_a_stall)))
        [row] = await store.coverage(since=0, until=START + DAY)
        return row


def test_latency_quantiles_lie_in_a_straight_line_between_neighbours(duckdb_path: Path) -> None:
    memory, file = anyio.run(_latencies, "memory:"), anyio.run(_latencies, str(duckdb_path))
    ours = (memory.latency_p50, memory.latency_p95, memory.latency_p99)
    assert ours == pytest.approx((0.333333, 1.925, 1.985))
    assert (file.latency_p50, file.latency_p95, file.latency_p99) == pytest.approx(ours)
