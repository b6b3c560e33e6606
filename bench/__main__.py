"""``python -m bench``: what the whole path costs, from schedule to stored row, on one core.

500 HTTP checks at an interval of 1 s against a local nginx for 60 s: slots by outcome, delay from slot to start, and CPU
seconds per 1,000 checks with history, bus and metrics on.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
from tests.exporter import Exporter, exporter, free_port

from bench.targets import nginx


@dataclass(frozen=True)
class Figures:
    """One measured minute."""

    slots: int
    success: int
    skipped: int
    missed: int
    doubled: int
    early: int
    delay_p50_ms: float
    delay_p99_ms: float
    cpu_seconds_per_1000: float
    lag_p99_ms: float
    rss_megabytes: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--checks", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, nginx(core=0) as port:
        figures = measure(Path(folder), port, checks=asked.checks, seconds=asked.seconds)
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{asked.checks} HTTP checks at 1 s for {asked.seconds:g} s on one core")
    for name, value in vars(figures).items():
        print(
            f"  {name.replace('_', ' '):<24}{value:>10,.2f}"
            if isinstance(value, float)
            else f"  {name:<24}{value:>10,}"
        )
    return 0 if figures.skipped == figures.missed == figures.doubled == figures.early == 0 else 1


def measure(folder: Path, port: int, *, checks: int, seconds: float) -> Figures:
    config = folder / "checks.yaml"
    config.write_text(
        "version: 1\nchecks:\n"
        + "".join(
            f"  c{number}: {{type: http, url: 'http://127.0.0.1:{port}/', interval: 1s}}\n"
            for number in range(checks)
        )
    )
    with exporter(config, folder, port=free_port(), prefix=("taskset", "-c", "1")) as running:
        process = psutil.Process(running.process.pid)
        time.sleep(5)  # start-up and the first probes are not the steady state
        begun = time.time()
        before, cpu_before = running.metrics(), process.cpu_times()
        time.sleep(seconds)
        after, cpu_after = running.metrics(), process.cpu_times()
        rss = process.memory_info().rss / 1e6
        running.stop()
        slots, doubled, early = looked_up(running, since=begun, seconds=seconds)
        probed = difference(before, after, "watchbill_check_slots_total", 'outcome="success"')
    cpu = cpu_after.user + cpu_after.system - cpu_before.user - cpu_before.system
    return Figures(
        slots=sum(slots.values()),
        success=slots.get("success", 0),
        skipped=slots.get("skipped", 0),
        missed=round(checks * seconds) - sum(slots.values()),
        doubled=doubled,
        early=early,
        delay_p50_ms=quantile(before, after, "watchbill_schedule_delay_seconds", 0.5) * 1000,
        delay_p99_ms=quantile(before, after, "watchbill_schedule_delay_seconds", 0.99) * 1000,
        cpu_seconds_per_1000=cpu / probed * 1000,
        lag_p99_ms=quantile(before, after, "watchbill_event_loop_lag_seconds", 0.99) * 1000,
        rss_megabytes=rss,
    )


def difference(before: dict[str, float], after: dict[str, float], family: str, having: str) -> float:
    names = [name for name in after if name.startswith(family + "{") and having in name]
    return sum(after[name] - before.get(name, 0) for name in names)


def looked_up(running: Exporter, *, since: float, seconds: float) -> tuple[dict[str, int], int, int]:
    """The slots of the measured time by outcome, those with more than one row, and probes before their slot."""
    window = [since * 1e6, (since + seconds) * 1e6]
    with closing(duckdb.connect(str(running.storage), read_only=True)) as store:
        slots = store.execute(
            "SELECT outcome, count(*) FROM results WHERE trigger = 'schedule' "
            "AND epoch_us(slot) >= $1 AND epoch_us(slot) < $2 GROUP BY outcome",
            window,
        ).fetchall()
        [(doubled,)] = store.execute(
            "SELECT count(*) FROM (SELECT 1 FROM results WHERE trigger = 'schedule' "
            "GROUP BY check_id, slot HAVING count(*) > 1)"
        ).fetchall()
        [(early,)] = store.execute("SELECT count(*) FROM results WHERE started_at < slot").fetchall()
    return dict(slots), int(doubled), int(early)


def quantile(before: dict[str, float], after: dict[str, float], family: str, share: float) -> float:
    """Interpolated within its bucket, as ``histogram_quantile`` does."""
    buckets = sorted(
        (float(name.partition('le="')[2].partition('"')[0]), after[name] - before.get(name, 0))
        for name in after
        if name.startswith(family + "_bucket")
    )
    rank, low, counted = share * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            return (
                low
                if bound == float("inf")
                else low + (bound - low) * (rank - counted) / max(count - counted, 1)
            )
        low, counted = bound, count
    return low


if __name__ == "__main__":
    sys.exit(main())
