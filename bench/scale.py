"""Ten thousand checks on one core, while a real Prometheus scrapes and the configuration keeps changing."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterator
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
from bench.numbers import Samples, histogram_quantile
from bench.ours import SCRAPE_EVERY_SECONDS, Slots, Window, exposition, observed, repeated, slots, watchbill
from bench.tables import Table, megabytes, ms
from bench.targets import Targets

INTERVAL_SECONDS = 10
RELOAD_EVERY_SECONDS = 30
CHANGED_SHARE = 0.01
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
    """A steady stretch without reloads, then one with them."""

    checks: int
    interval_seconds: int
    ready_seconds: float
    first_probe_seconds: float
    unscraped_per_1000: float
    steady_per_1000: float
    steady_delay_p99_seconds: float
    busy: Window
    schedule: Schedule
    outcomes: dict[str, int]
    delay_p50_seconds: float
    delay_p99_seconds: float
    lag: tuple[float, float]
    scrapes: Scrapes
    reloads: int


def loaded(
    folder: Path, targets: Targets, *, checks: int, interval: int, seconds: float, steady: float
) -> Load:
    """Run so many checks for a steady stretch and then, with reloads, for ``seconds``."""
    declaration = named([CHECKS["http"](targets)] * checks)
    begun = time.time()
    with watchbill(folder, declaration, interval=f"{interval}s") as running:
        ready = time.time()
        time.sleep(interval + 5)
        alone = observed(running, seconds=steady / 3)
        with prometheus(folder / "prometheus", running) as scraper:
            calm = observed(running, seconds=steady)
            before = samples(running, LAG)
            with reloading(running, folder / "checks.yaml", declaration, interval=interval):
                busy = observed(running, seconds=seconds)
            after = samples(running, LAG)
            scrapes = told(scraper, seconds=seconds + steady, size=len(exposition(running)))
        running.stop()
    seen, steadily = slots(running.storage, busy), slots(running.storage, calm)
    return Load(
        checks=checks,
        interval_seconds=interval,
        ready_seconds=ready - begun,
        first_probe_seconds=last_first_probe(running.storage, checks) - ready,
        unscraped_per_1000=cost(alone, slots(running.storage, alone)),
        steady_per_1000=cost(calm, steadily),
        steady_delay_p99_seconds=steadily.delay_p99_seconds,
        busy=busy,
        schedule=verified(running.storage, busy, checks=checks, interval=interval),
        outcomes=seen.outcomes,
        delay_p50_seconds=seen.delay_p50_seconds,
        delay_p99_seconds=seen.delay_p99_seconds,
        lag=histogram_quantile(before, after, LAG, 0.999),
        scrapes=scrapes,
        reloads=reloads(running.log),
    )


def cost(window: Window, seen: Slots) -> float:
    return window.usage.cpu_seconds / max(seen.probes, 1) * 1000


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


def table(large: Load, small: Load) -> Table:
    schedule, scrapes, busy = large.schedule, large.scrapes, large.busy
    costs = (
        (f"{costly:.3f} / {reference:.3f} = {costly / reference:.2f}")
        for costly, reference in (
            (large.steady_per_1000, small.steady_per_1000),
            (large.unscraped_per_1000, small.unscraped_per_1000),
        )
    )
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
        ("delay p99 in the minute without reloads, ms", ms(large.steady_delay_p99_seconds), ""),
        ("event loop lag p99.9, ms", f"{ms(large.lag[0])} ({late} {ms(large.lag[1])})", "< 50"),
        ("reloads while measured", f"{large.reloads}", ""),
        ("RSS, MB", megabytes(busy.rss_bytes), "< 500"),
        ("CPU of the core, with reloads", f"{busy.usage.cpu_seconds / busy.usage.seconds:.0%}", ""),
        ("CPU of the core taken by others", f"{busy.usage.foreign:.0%}", ""),
        ("scrapes that failed", f"{scrapes.failed}", "0"),
        ("scrape mean / longest, s", f"{scrapes.mean_seconds:.2f} / {scrapes.longest_seconds:.2f}", ""),
        ("scrape, MB unpacked / samples", f"{megabytes(scrapes.size_bytes)} / {scrapes.samples:,.0f}", ""),
        (f"CPU s per 1,000 probes with {large.checks:,} and with {small.checks:,} checks, scraped",
         next(costs), "<= 1.20"),
        ("the same, not scraped", next(costs), ""),
    ]  # fmt: skip
    return Table("scale", ("", "found", "wanted"), rows)
