"""Watchbill on the measured core: the whole exporter, with bus, DuckDB history and metrics, scraped as Prometheus would."""

from __future__ import annotations

import gzip
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
from tests.exporter import Exporter, exporter, free_port
from tests.watching import watching

from bench import declared
from bench.machine import PIN, Meter, Usage
from bench.numbers import quantile

SCRAPE_EVERY_SECONDS = 15.0
ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@dataclass(frozen=True)
class Window:
    """A stretch of wall time of a running exporter, and what its process used in it."""

    begun: float
    ended: float
    usage: Usage
    rss_bytes: int


@dataclass(frozen=True)
class Slots:
    """The slots of a window, as history has them, and the gaps in it. Delays are from the instant a slot is due to its probe's start.

    ``own_side``: the reasons of the outcome ``error``.
    """

    outcomes: dict[str, int]
    own_side: dict[str, int]
    gaps: list[str]
    doubled: int
    delay_p50_seconds: float
    delay_p99_seconds: float
    duration_p50_seconds: float
    duration_p99_seconds: float

    @property
    def probes(self) -> int:
        return sum(self.outcomes.get(outcome, 0) for outcome in ("success", "failure", "error"))

    @property
    def successes(self) -> int:
        return self.outcomes.get("success", 0)

    @property
    def skipped(self) -> int:
        return self.outcomes.get("skipped", 0)


@contextmanager
def watchbill(
    folder: Path,
    checks: Mapping[str, str],
    *,
    interval: str = "1s",
    head: str = "",
    prefix: Sequence[str] = PIN,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Exporter]:
    """One that probes these checks on the measured core, in a new folder."""
    folder.mkdir(parents=True)
    file = folder / "checks.yaml"
    declared.write(file, checks, interval=interval, head=head)
    with exporter(file, folder, port=free_port(), prefix=prefix, environ=environ) as running:
        yield running


def observe(running: Exporter, *, warm_up: float, seconds: float) -> Window:
    """Let it run, scraped every 15 s (at least once), and take its CPU time after the warm-up."""
    time.sleep(warm_up)
    with scraped(running, first=min(seconds, SCRAPE_EVERY_SECONDS) / 2):
        return observed(running, seconds=seconds)


def observed(running: Exporter, *, seconds: float) -> Window:
    begun, meter = time.time(), Meter(running.process.pid)
    time.sleep(seconds)
    ended, usage = time.time(), meter.read()
    return Window(begun, ended, usage, psutil.Process(running.process.pid).memory_info().rss)


@contextmanager
def scraped(running: Exporter, *, first: float) -> Iterator[None]:
    with repeated(lambda: scrape_packed(running), first=first, every=SCRAPE_EVERY_SECONDS):
        yield


@contextmanager
def repeated(action: Callable[[], object], *, first: float, every: float) -> Iterator[None]:
    """Do it after ``first`` seconds, then again and again, in a thread, until the block is left."""
    with watching(action, first=first, every=every, name="repeated"):
        yield


def scrape_packed(running: Exporter) -> tuple[bytes, str]:
    """A scrape as Prometheus makes it, and how it is packed."""
    request = urllib.request.Request(
        running.url + "/metrics", headers={"Accept": ACCEPT, "Accept-Encoding": "gzip"}
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
        return response.read(), response.headers.get("Content-Encoding", "")


def exposition(running: Exporter) -> bytes:
    body, coding = scrape_packed(running)
    return gzip.decompress(body) if coding == "gzip" else body


def slots(storage: Path, window: Window, *, like: str = "%") -> Slots:
    """What history says of a window, once the exporter has ended; of the checks whose id is like this."""
    where = (
        "FROM results WHERE trigger = 'schedule' AND check_id LIKE $3 "
        "AND epoch_us(slot) >= $1 AND epoch_us(slot) < $2"
    )
    values = [window.begun * 1e6, window.ended * 1e6, like]
    with closing(duckdb.connect(str(storage), read_only=True)) as store:
        outcomes = dict(store.execute(f"SELECT outcome, count(*) {where} GROUP BY 1", values).fetchall())
        own_side = dict(
            store.execute(
                f"SELECT reason, count(*) {where} AND outcome = 'error' GROUP BY 1", values
            ).fetchall()
        )
        [(doubled,)] = store.execute(
            f"SELECT count(*) FROM (SELECT 1 {where} GROUP BY check_id, slot HAVING count(*) > 1)", values
        ).fetchall()
        gaps = store.execute(
            "SELECT reason || ' ' || round((epoch_us(ended_at) - epoch_us(started_at)) / 1e6, 3) || ' s' FROM gap "
            "WHERE epoch_us(started_at) < $2 AND epoch_us(ended_at) > $1",
            values[:2],
        ).fetchall()
        rows = store.execute(
            f"SELECT (epoch_us(started_at) - epoch_us(slot)) / 1e6, duration_seconds {where} AND outcome <> 'skipped'",
            values,
        ).fetchall()
    delays = [delay for delay, _ in rows]
    durations = [duration for _, duration in rows if duration is not None]
    return Slots(
        outcomes=outcomes,
        own_side=own_side,
        gaps=[gap for (gap,) in gaps],
        doubled=doubled,
        delay_p50_seconds=quantile(delays, 0.5),
        delay_p99_seconds=quantile(delays, 0.99),
        duration_p50_seconds=quantile(durations, 0.5),
        duration_p99_seconds=quantile(durations, 0.99),
    )
