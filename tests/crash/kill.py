"""Kills a running exporter at random moments and looks at what it had promised.

Acknowledged is what a reader saw in the store before the kill. Everything acknowledged must be there afterwards, once;
every row must lie on its span's grid; every slot must be accounted for; and no gap may begin earlier than one commit
and one probe before the kill.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from tests.exporter import Exporter, exporter, free_port

CHECKS = 40
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


@dataclass
class Findings:
    """What a run of kills showed; ``problems`` must stay empty."""

    kills: int = 0
    in_start_up: int = 0
    acknowledged: set[Row] = field(default_factory=set)
    rows: int = 0
    missed: int = 0
    reopening_seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def summary(self) -> str:
        took = sorted(self.reopening_seconds)
        p99 = took[min(len(took) - 1, int(len(took) * 0.99))] * 1000 if took else float("nan")
        return (
            f"{self.kills} kills ({self.in_start_up} during start-up), {len(self.acknowledged)} results acknowledged, "
            f"{self.rows} rows stored, {self.missed} slots missed, reopening p99 {p99:.0f} ms, "
            f"{len(self.problems)} problems"
        )


def run(folder: Path, kills: int, *, seed: int) -> Findings:
    """Kill ``kills`` times on one store, a third of them during start-up, then look at it whole."""
    chance, port = random.Random(seed), free_port()
    config = folder / "checks.yaml"
    config.write_text(
        "version: 1\nchecks:\n"
        + "".join(
            f"  c{number}: {{type: tcp, host: 127.0.0.1, port: {port}, interval: 1s, timeout: 500ms}}\n"
            for number in range(CHECKS)
        )
    )
    found = Findings()
    last_of_a_running_one = time.time()
    for number in range(kills):
        in_start_up = number % 3 == 2
        with exporter(config, folder, port=port, wait=not in_start_up) as running:
            if in_start_up:
                time.sleep(chance.uniform(0.05, 1.2))
            else:
                _watch(running, found, chance.uniform(0.5, 3.0))
            running.process.kill()
            running.process.wait()
        if not in_start_up:
            last_of_a_running_one = time.time()
        found.kills += 1
        found.in_start_up += in_start_up
        _look(running.storage, found, last_of_a_running_one)
    with exporter(config, folder, port=port) as running:
        running.until("a last batch", lambda: running.total("watchbill_history_rows_total") > 0)
        if running.stop() != 0:
            found.problems.append("the last run did not end with 0")
    _look_at_all(running.storage, found)
    return found


def _watch(running: Exporter, found: Findings, seconds: float) -> None:
    """Read what is stored until the moment of the kill; what was read was acknowledged."""
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        check = f"c{number % CHECKS}"
        with suppress(OSError):
            answer = running.request(f"/api/v1/checks/{check}/results?limit=20").json()
            found.acknowledged |= {(check, row["slot_us"]) for row in answer["results"]}


def _look(storage: Path, found: Findings, killed_at: float) -> None:
    if not storage.exists():
        return
    started = time.monotonic()
    try:
        store = duckdb.connect(str(storage))
    except duckdb.Error as error:
        found.problems.append(f"kill {found.kills}: the file does not open: {error}")
        return
    with closing(store):
        found.reopening_seconds.append(time.monotonic() - started)
        stored = Counter(
            store.execute("SELECT check_id, epoch_us(slot) FROM results WHERE trigger = 'schedule'").fetchall()
        )
        lost = found.acknowledged - set(stored)
        doubled = [row for row, count in stored.items() if count > 1]
        off_grid = store.execute(GRID).fetchall()[0][0]
        earliest = (killed_at - COMMIT_SECONDS - TIMEOUT_SECONDS) * 1e6
        early = store.execute(
            "SELECT reason, epoch_us(started_at) FROM gap ORDER BY ended_at DESC LIMIT 1"
        ).fetchall()
    for what, much in (("lost", lost), ("doubled", doubled)):
        if much:
            found.problems.append(f"kill {found.kills}: {len(much)} rows {what}, such as {next(iter(much))}")
    if off_grid:
        found.problems.append(f"kill {found.kills}: {off_grid} rows off their span's grid")
    found.rows = sum(stored.values())
    found.problems += [
        f"kill {found.kills}: the gap before it began {(earliest - began) / 1e6:.2f} s too early"
        for _, began in early
        if began < earliest and _is_of_this_kill(began, killed_at)
    ]


def _is_of_this_kill(began: int, killed_at: float) -> bool:
    """A gap that was written before the last kill belongs to an earlier one."""
    return began / 1e6 > killed_at - COMMIT_SECONDS


def _look_at_all(storage: Path, found: Findings) -> None:
    with closing(duckdb.connect(str(storage), read_only=True)) as store:
        [(unaccounted, missed)] = store.execute("SELECT sum(unaccounted), sum(missed) FROM coverage").fetchall()
    found.missed = int(missed)
    if unaccounted:
        found.problems.append(f"{unaccounted} slots are unaccounted for")
    if not found.acknowledged:
        found.problems.append("nothing was acknowledged, so nothing was proven")
