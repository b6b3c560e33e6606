"""Ten thousand checks on one core, while a real Prometheus scrapes and the configuration keeps changing."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle, islice
from pathlib import Path

import duckdb
from tests.exporter import Exporter
from tests.prometheus import Prometheus, open_prometheus

from bench import declared
from bench.declared import CHECKS, named
from bench.machine import Meter
from bench.numbers import Samples, histogram_quantile
from bench.ours import SCRAPE_EVERY_SECONDS, Window, exposition, observed, repeated, scraped, slots, watchbill
from bench.tables import Table, megabytes, ms
from bench.targets import Targets

INTERVAL_SECONDS = 10
RELOAD_EVERY_SECONDS = 30
CHANGED_SHARE = 0.01
SETTLED_SECONDS = 40.0
"""Until every check has been probed some times and memory lies as it will stay."""
LAG = "watchbill_event_loop_lag_seconds"


@dataclass(frozen=True)
class Schedule:
    """What history has of a window against what the ids of the checks say must be there."""

    expected: int
    absent: int
    doubled: int
    elsewhere: int


@dataclass(frozen=True)
class Scrapes:
    """As Prometheus saw them. ``size_bytes`` is unpacked."""

    failed: int
    samples: float
    mean_seconds: float
    longest_seconds: float
    size_bytes: int


@dataclass(frozen=True)
class Load:
    """So many checks, probed while they are scraped and some of them reloaded."""

    checks: int
    interval_seconds: int
    ready_seconds: float
    first_probe_seconds: float
    busy: Window
    schedule: Schedule
    outcomes: dict[str, int]
    delay_p50_seconds: float
    delay_p99_seconds: float
    lag: tuple[float, float]
    scrapes: Scrapes
    reloads: int


@dataclass(frozen=True)
class Costs:
    """CPU seconds per 1,000 probes of many checks and of few, at the same rate on one core at once, window by window."""

    checks: tuple[int, int]
    unscraped: Sequence[tuple[float, float]]
    scraped: Sequence[tuple[float, float]]


def loaded(folder: Path, targets: Targets, *, checks: int, interval: int, seconds: float) -> Load:
    """Run so many checks for an interval, and then for ``seconds`` with a Prometheus and reloads."""
    declaration = named([CHECKS["http"](targets)] * checks)
    begun = time.time()
    with watchbill(folder, declaration, interval=f"{interval}s") as running:
        ready = time.time()
        time.sleep(interval + 5)
        with prometheus(folder / "prometheus", running) as scraper:
            before = samples(running, LAG)
            with reloading(running, folder / "checks.yaml", declaration, interval=interval):
                busy = observed(running, seconds=seconds)
            after = samples(running, LAG)
            scrapes = told(scraper, seconds=seconds, size=len(exposition(running)))
        running.stop()
    seen = slots(running.storage, busy)
    return Load(
        checks=checks,
        interval_seconds=interval,
        ready_seconds=ready - begun,
        first_probe_seconds=last_first_probe(running.storage, checks) - ready,
        busy=busy,
        schedule=verified(running.storage, busy, checks=checks, interval=interval),
        outcomes=seen.outcomes,
        delay_p50_seconds=seen.delay_p50_seconds,
        delay_p99_seconds=seen.delay_p99_seconds,
        lag=histogram_quantile(before, after, LAG, 0.999),
        scrapes=scrapes,
        reloads=reloads(running.log),
    )


def compared(folder: Path, targets: Targets, *, checks: int, interval: int, windows: int) -> Costs:
    """Beside as many probes a second of fewer checks, each due every second."""
    few = checks // interval
    http = CHECKS["http"](targets)
    with (
        watchbill(folder / "many", named([http] * checks), interval=f"{interval}s") as many,
        watchbill(folder / "few", named([http] * few), interval="1s") as fewer,
    ):
        time.sleep(SETTLED_SECONDS)
        unscraped = [together(many, fewer, few) for _ in range(windows)]
        with scraped(many, first=0), scraped(fewer, first=0):
            time.sleep(SCRAPE_EVERY_SECONDS / 2)  # the first scrape makes every line anew
            steady = [together(many, fewer, few, seconds=SCRAPE_EVERY_SECONDS) for _ in range(windows)]
        for running in (many, fewer):
            running.stop()
    return Costs((checks, few), unscraped, steady)


def together(many: Exporter, fewer: Exporter, rate: int, *, seconds: float = 10) -> tuple[float, float]:
    meters = [Meter(running.process.pid) for running in (many, fewer)]
    time.sleep(seconds)
    costs = [used.cpu_seconds / (rate * used.seconds) * 1000 for used in (meter.read() for meter in meters)]
    print(f"CPU s per 1,000 probes, both at once: {costs[0]:.3f} and {costs[1]:.3f}", flush=True)
    return costs[0], costs[1]


@contextmanager
def prometheus(folder: Path, running: Exporter) -> Iterator[Prometheus]:
    address = running.url.removeprefix("http://")
    job = {
        "job_name": "watchbill",
        "honor_labels": True,
        "scrape_interval": f"{SCRAPE_EVERY_SECONDS:.0f}s",
        "static_configs": [{"targets": [address]}],
    }
    with open_prometheus(folder, config={"scrape_configs": [job]}) as opened:
        yield opened


@contextmanager
def reloading(running: Exporter, file: Path, declaration: dict[str, str], *, interval: int) -> Iterator[None]:
    """Every 30 s the next hundredth of the checks gets another timeout, and the exporter a SIGHUP."""
    share = max(int(len(declaration) * CHANGED_SHARE), 1)
    checks, names = dict(declaration), cycle(declaration)

    def reload() -> None:
        for name in islice(names, share):
            checks[name] = f"{declaration[name]}, timeout: 900ms"
        declared.write(file, checks, interval=f"{interval}s")
        running.hang_up()

    with repeated(reload, first=RELOAD_EVERY_SECONDS / 2, every=RELOAD_EVERY_SECONDS):
        yield


def samples(running: Exporter, family: str) -> Samples:
    """One family out of a scrape that may have half a million samples."""
    found = {}
    for line in exposition(running).splitlines():
        if line.startswith(family.encode()):
            name, _, value = line.decode().rpartition(" ")
            found[name] = float(value)
    gc.collect()
    return found


def told(scraper: Prometheus, *, seconds: float, size: int) -> Scrapes:
    took = scraper.numbers("scrape_duration_seconds", seconds=round(seconds))
    return Scrapes(
        failed=scraper.numbers("up", seconds=round(seconds)).count(0.0),
        samples=max(scraper.numbers("scrape_samples_scraped", seconds=round(seconds))),
        mean_seconds=sum(took) / len(took),
        longest_seconds=max(took),
        size_bytes=size,
    )


def reloads(log: Path) -> int:
    events = (json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{"))
    return sum(event == "config.reloaded" for event in events)


def last_first_probe(storage: Path, checks: int) -> float:
    """When the last of the checks was probed for the first time, in seconds since the epoch."""
    with closing(duckdb.connect(str(storage), read_only=True)) as store:
        [(probed, last)] = store.execute(
            "SELECT count(*), max(first) / 1e6 FROM "
            "(SELECT min(epoch_us(started_at)) AS first FROM results WHERE started_at IS NOT NULL GROUP BY check_id)"
        ).fetchall()
    return float(last) if probed == checks else float("inf")


def verified(storage: Path, window: Window, *, checks: int, interval: int) -> Schedule:
    """Slots counted from the ids alone: offset = blake2b(id) modulo the interval."""
    begun, ended, step = round(window.begun * 1e6), round(window.ended * 1e6), interval * 1_000_000
    with closing(duckdb.connect(str(storage), read_only=True)) as store:
        rows = store.execute(
            "SELECT check_id, count(*), count(DISTINCT slot), min(epoch_us(slot) % $3), max(epoch_us(slot) % $3) "
            "FROM results WHERE trigger = 'schedule' AND epoch_us(slot) >= $1 AND epoch_us(slot) < $2 GROUP BY 1",
            [begun, ended, step],
        ).fetchall()
    found = {check: counts for check, *counts in rows}
    expected = absent = doubled = elsewhere = 0
    for number in range(checks):
        offset = int.from_bytes(blake2b(f"c{number}".encode(), digest_size=8).digest(), "big") % step
        due = (ended - 1 - offset) // step - (begun - 1 - offset) // step
        count, distinct, least, most = found.get(f"c{number}", (0, 0, offset, offset))
        expected += due
        absent += max(due - distinct, 0)
        doubled += count - distinct
        elsewhere += not least == most == offset
    return Schedule(expected, absent, doubled, elsewhere)


def table(large: Load, costs: Costs) -> Table:
    schedule, scrapes, busy = large.schedule, large.scrapes, large.busy
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(large.outcomes.items()))
    late = "later" if large.lag[1] > 0.05 else "at most"
    rows = [
        ("slots", f"{schedule.expected:,} expected: {outcomes}", "all success"),
        ("slots without a row, with two, at another time",
         f"{schedule.absent:,} / {schedule.doubled:,} / {schedule.elsewhere:,}", "0 / 0 / 0"),
        ("start until ready, s", f"{large.ready_seconds:.1f}", ""),
        ("ready until the last check was first probed, s", f"{large.first_probe_seconds:.1f}",
         f"{large.interval_seconds}"),
        ("delay p50 / p99, ms", f"{ms(large.delay_p50_seconds)} / {ms(large.delay_p99_seconds)}", "p99 < 100"),
        ("event loop lag p99.9, ms", f"{ms(large.lag[0])} ({late} {ms(large.lag[1])})", "< 50"),
        ("reloads while measured", f"{large.reloads}", ""),
        ("RSS, MB", megabytes(busy.rss_bytes), "< 500"),
        ("CPU of the core, with reloads", f"{busy.usage.cpu_seconds / busy.usage.seconds:.0%}", ""),
        ("CPU of the core taken by others", f"{busy.usage.foreign:.0%}", ""),
        ("scrapes that failed", f"{scrapes.failed}", "0"),
        ("scrape mean / longest, s", f"{scrapes.mean_seconds:.2f} / {scrapes.longest_seconds:.2f}", ""),
        ("scrape, MB unpacked / samples", f"{megabytes(scrapes.size_bytes)} / {scrapes.samples:,.0f}", ""),
        (f"CPU s per 1,000 probes with {costs.checks[0]:,} and with {costs.checks[1]:,} checks, both at once",
         beside(costs.unscraped), "<= 1.20"),
        ("the same, scraped every 15 s", beside(costs.scraped), ""),
    ]  # fmt: skip
    return Table("scale", ("", "found", "wanted"), rows)


def beside(windows: Sequence[tuple[float, float]]) -> str:
    """The window whose ratio is the median of all."""
    ratios = sorted((many / few, many, few) for many, few in windows)
    ratio, many, few = ratios[len(ratios) // 2]
    return f"{many:.3f} / {few:.3f} = {ratio:.2f} ({ratios[0][0]:.2f} to {ratios[-1][0]:.2f})"
