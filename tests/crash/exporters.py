"""Kills a real exporter at random moments and looks at what it had promised.

Acknowledged is what a reader saw in the store before the kill, and what ``watchbill_history_rows_total`` had counted.
Everything acknowledged must be there afterwards, once; every row must lie on its span's grid; every slot must be
accounted for; and no gap may begin earlier than one commit and one probe before the kill.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import duckdb

from tests.crash import fresh
from tests.crash.fresh import Reopening
from tests.exporter import Exporter, exporter, free_port
from watchbill.domain.errors import StorageError
from watchbill.domain.units import to_instant

CHECKS = 100
SCRAPED_EVERY = 5
TIMEOUT_SECONDS = 0.5
COMMIT_SECONDS = 1.0
Row = tuple[str, int]

GRID = """
SELECT count(*) FROM result AS r
WHERE r.trigger = 'schedule' AND NOT EXISTS (
    SELECT 1 FROM span AS s
    WHERE s.check_key = r.check_key AND s.location = r.location
      AND r.slot > s.opened_at AND (s.closed_at IS NULL OR r.slot <= s.closed_at)
      AND (epoch_us(r.slot) - s.offset_micros) % s.interval_micros = 0)
"""


SLOTS = "SELECT check_id, epoch_us(slot) FROM results WHERE trigger = 'schedule'"


class Life(NamedTuple):
    """One process, in microseconds since the epoch."""

    ready: int
    killed: int


@dataclass
class Findings:
    """What a run of kills showed; ``problems`` must stay empty."""

    kills: int = 0
    in_start_up: int = 0
    lives: list[Life] = field(default_factory=list)
    """Of the processes that had been running when they were killed."""
    acknowledged: set[Row] = field(default_factory=set)
    counted: int = 0
    """Rows that the processes since the last look had counted as committed."""
    batches: int = 0
    """Commits that the processes had counted."""
    rows: int = 0
    missed: int = 0
    gaps: int = 0
    reopenings: list[Reopening] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        return (
            f"{self.kills} kills ({self.in_start_up} during start-up), {len(self.acknowledged)} results acknowledged, "
            f"{self.rows} rows stored, {self.missed} slots missed, reopening p99 {fresh.p99(self.reopenings) * 1000:.0f} ms, "
            f"{len(self.problems)} problems"
        )


def run(folder: Path, kills: int, *, seed: int) -> Findings:
    """Kill ``kills`` times on one store, a third of them during start-up, then look at it whole."""
    chance, port = random.Random(seed), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "checks.yaml"
    config.write_text(
        "version: 1\nchecks:\n"
        + "".join(
            f"  c{number}: {{type: tcp, host: 127.0.0.1, port: {port}, interval: 1s, timeout: 500ms}}\n"
            for number in range(CHECKS)
        )
    )
    found, takes_seconds = Findings(), 0.0
    for number in range(kills):
        to_be_ready, begun = number % 5 not in (2, 4), time.monotonic()
        with exporter(config, folder, port=port, wait=to_be_ready) as running:
            ready = _now()
            if to_be_ready:
                takes_seconds = time.monotonic() - begun
                _watch(running, found, chance.uniform(0.5, 3.0))
                found.lives.append(Life(ready, _now()))
            else:  # at any moment of what the last start took
                time.sleep(chance.random() * takes_seconds)
                found.in_start_up += not _is_ready(running)
            running.process.kill()
            running.process.wait()
        found.kills += 1
        if number % 2:  # every other time the exporter itself is the first to open what was left
            _look(running.storage, found)
    with exporter(config, folder, port=port) as running:
        running.until("a last batch", lambda: running.total("watchbill_history_rows_total") > 0)
        found.counted += round(running.total("watchbill_history_rows_total"))
        if running.stop() != 0:
            found.problems.append("the last run did not end with 0")
    _look(running.storage, found)
    _look_at_all(running.storage, found)
    return found


def _is_ready(running: Exporter) -> bool:
    with suppress(OSError):
        return running.request("/-/ready").status == 200
    return False


def _watch(running: Exporter, found: Findings, seconds: float) -> None:
    """Read what is stored until the moment of the kill; what was read was acknowledged."""
    until = time.monotonic() + seconds
    number, counted, batches = 0, 0.0, 0.0
    while time.monotonic() < until:
        number += 1
        check = f"c{number % CHECKS}"
        with suppress(OSError):
            answer = running.request(f"/api/v1/checks/{check}/results?limit=20").json()
            found.acknowledged |= {
                (check, to_instant(datetime.fromisoformat(row["slot"])))
                for row in answer["results"]
                if row["trigger"] == "schedule"
            }
            if number % SCRAPED_EVERY == 0:
                counted = running.total("watchbill_history_rows_total")
                batches = running.total("watchbill_history_commit_seconds_count")
    found.counted += round(counted)
    found.batches += round(batches)


class Stored(NamedTuple):
    """What a history holds: how often each scheduled slot, rows of any kind, and rows that lie on no span's grid."""

    times: Counter[Row]
    rows: int
    off_grid: int


def stored(cursor: duckdb.DuckDBPyConnection) -> Stored:
    times = Counter(cursor.execute(SLOTS).fetchall())
    [(rows,)] = cursor.execute("SELECT count(*) FROM result").fetchall()
    [(off_grid,)] = cursor.execute(GRID).fetchall()
    return Stored(times, rows, off_grid)


def _look(storage: Path, found: Findings) -> None:
    if not storage.exists():
        return
    try:
        looked = fresh.look(storage, stored)
    except StorageError as error:
        found.problems.append(f"kill {found.kills}: it does not open: {error}")
        return
    if looked.opening.log_bytes:
        found.reopenings.append(looked.opening)
    times, rows, off_grid = looked.found
    lost = found.acknowledged - set(times)
    doubled = [row for row, count in times.items() if count > 1]
    for what, much in (("lost", lost), ("doubled", doubled)):
        if much:
            found.problems.append(f"kill {found.kills}: {len(much)} rows {what}, such as {next(iter(much))}")
    if rows < found.rows + found.counted:
        found.problems.append(
            f"kill {found.kills}: {rows} rows, where {found.rows + found.counted} had been committed"
        )
    if off_grid:
        found.problems.append(f"kill {found.kills}: {off_grid} rows off their span's grid")
    found.rows, found.counted = rows, 0


def _look_at_all(storage: Path, found: Findings) -> None:
    with closing(duckdb.connect(str(storage), read_only=True)) as store:
        [(unaccounted, missed)] = store.execute(
            "SELECT sum(unaccounted), sum(missed) FROM coverage"
        ).fetchall()
        gaps = store.execute("SELECT epoch_us(started_at), epoch_us(ended_at) FROM gap").fetchall()
    found.missed = int(missed)
    found.gaps = len(gaps)
    found.problems += _early_gaps(gaps, found.lives)
    if unaccounted:
        found.problems.append(f"{unaccounted} slots are unaccounted for")
    if not found.acknowledged:
        found.problems.append("nothing was acknowledged, so nothing was proven")


def _early_gaps(gaps: list[tuple[int, int]], lives: list[Life]) -> list[str]:
    """A kill loses at most the batch that was not committed and the probes that were under way.

    A process that was killed before its first batch leaves no end in the gap; it counts from when it was ready.
    """
    allowed = round((COMMIT_SECONDS + TIMEOUT_SECONDS) * 1e6)
    problems = []
    for began, ended in gaps:
        lost = [life.killed - max(began, life.ready) for life in lives if began < life.killed <= ended]
        problems += [f"a gap began {much / 1e6:.2f} s before the kill" for much in lost if much > allowed]
    return problems


def _now() -> int:
    return round(time.time() * 1e6)
