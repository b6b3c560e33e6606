"""Ten thousand checks for twenty minutes: nothing may grow but history, and no slot may be lost."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.numbers import histogram_quantile
from bench.targets import open_targets, server

from tests.exporter import exporter, free_port
from tests.proof import Claim
from tests.runtime.history import SECOND, History, held_against_the_grid, read
from tests.soak.load import Load, Soak, a_load, flapping, reloading, short
from tests.soak.watch import Sample, Watched, drift, slope_per_hour, watched

CACHED = "watchbill_history_memory_bytes"
LAG = "watchbill_event_loop_lag_seconds"
LAG_SECONDS = 0.05
MOST_MORE = 30
"""Descriptors: as many as probes that happen to be under way; threads: none to speak of."""
MOST_LINES_A_RELOAD = 5
SETTLES_WITHIN = 3
"""Seconds that a slot may take to end, its row to be committed."""


@dataclass(frozen=True)
class Found:
    """What a soak left: the steady stretch in seconds since the epoch, samples in it, and all of history."""

    soak: Soak
    load: Load
    begun: float
    ended: float
    watched: Watched
    history: History
    history_bytes: int
    events: Counter[str]
    code: int


def prove(folder: Path, *, full: bool) -> list[Claim]:
    """In full twenty minutes, else two."""
    return claims(soaked(folder, Soak() if full else short(2)))


def soaked(folder: Path, soak: Soak) -> Found:
    silent, flaps = free_port(), free_port()
    with ExitStack() as stack:
        targets = stack.enter_context(open_targets())
        stack.enter_context(server("silent", str(silent)))
        stack.enter_context(flapping(flaps))
        load = a_load(soak, folder / "checks.yaml", targets, silent=silent, flapping=flaps)
        running = stack.enter_context(exporter(load.file, folder, port=free_port()))
        ready = time.time()
        with watched(running, every=soak.scrape_seconds) as seen, reloading(running, load):
            time.sleep(soak.seconds)
        ended = time.time()
        time.sleep(SETTLES_WITHIN)
        code = running.stop()
    events = Counter(
        json.loads(line)["event"] for line in running.log.read_text().splitlines() if line.startswith("{")
    )
    size = running.storage.stat().st_size
    return Found(
        soak, load, ready + soak.warm_up_seconds, ended, seen, read(running.storage), size, events, code
    )


def claims(found: Found) -> list[Claim]:
    return [_slots(found), _lag(found), *_growth(found), _history(found), _log(found)]


def _slots(found: Found) -> Claim:
    soak, begun, ended = found.soak, round(found.begun * SECOND), round(found.ended * SECOND)
    schedule = held_against_the_grid(
        found.history, found.load.ids, begun, ended, interval=soak.interval_seconds * SECOND
    )
    outcomes = Counter(row.outcome for row in found.history.within(begun, ended))
    own = outcomes["error"] + outcomes["skipped"]
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
    return Claim(
        "no slot is lost",
        f"{soak.checks:,} checks every {soak.interval_seconds} s for {soak.seconds / 60:.1f} minutes, 5 % hanging, 5 % "
        f"flapping; {found.load.reloads} reloads of 1 % asked for, {found.events['config.reloaded']} carried out; "
        f"{schedule.expected:,} slots",
        f"{schedule}; {told}; {found.history.unaccounted} unaccounted",
        "0, 0, 0; no error, none skipped; 0",
        holds=schedule.exact
        and not own
        and outcomes["success"] > 0
        and outcomes["failure"] > 0
        and not found.history.unaccounted
        and found.code == 0
        # The last one may be under way when the time is over.
        and found.events["config.reloaded"] >= max(found.load.reloads - 1, 1),
    )


def _lag(found: Found) -> Claim:
    samples = found.watched.since(found.begun)
    p99, bound = histogram_quantile(samples[0].own, samples[-1].own, LAG, 0.99)
    scrapes = sorted(sample.scrape_seconds for sample in samples)
    return Claim(
        "the event loop keeps time",
        f"{len(samples)} scrapes of everything, {scrapes[len(scrapes) // 2]:.2f} s in the middle, {scrapes[-1]:.2f} s at most",
        f"lag p99 {p99 * 1000:.1f} ms; {found.watched.failed} scrapes failed",
        f"under {LAG_SECONDS * 1000:.0f} ms; 0",
        holds=bound <= LAG_SECONDS and not found.watched.failed and len(samples) > 2,
    )


def _own_bytes(sample: Sample) -> float:
    """Resident memory without what the store keeps of history, which may grow until its bound."""
    return sample.rss_bytes - sample.own[CACHED]


def _growth(found: Found) -> list[Claim]:
    samples = found.watched.since(found.begun)
    rss = [_own_bytes(sample) for sample in samples]
    grown, slope = drift(samples, _own_bytes), slope_per_hour(samples, _own_bytes)
    cached = [sample.own[CACHED] / 1e6 for sample in samples]
    descriptors = drift(samples, lambda sample: sample.descriptors)
    threads = drift(samples, lambda sample: sample.threads)
    probes = drift(samples, lambda sample: sample.own["watchbill_probes_running"])
    tried = f"{len(samples)} looks in {(samples[-1].at - samples[0].at) / 60:.1f} minutes"
    return [
        Claim(
            "memory does not grow, but for history that the store keeps at hand (512 MB at most)",
            f"{tried}, history at hand: {min(cached):.0f} to {max(cached):.0f} MB",
            f"{min(rss) / 1e6:.0f} to {max(rss) / 1e6:.0f} MB; {grown / 1e6:+.1f} MB from the first third to the last "
            f"({slope / 1e6:+.0f} MB an hour by least squares)",
            f"under {found.soak.growth_share:.0%} of it",
            holds=len(samples) > 2 and grown < found.soak.growth_share * min(rss),
        ),
        Claim(
            "descriptors, threads and tasks do not pile up",
            tried,
            f"{descriptors:+.0f} descriptors, {threads:+.0f} threads, {probes:+.0f} probes under way",
            f"under {MOST_MORE}",
            holds=len(samples) > 2 and max(descriptors, threads, probes) < MOST_MORE,
        ),
    ]


def _history(found: Found) -> Claim:
    last = found.watched.samples[-1].own
    rows = len(found.history.rows)
    pending = last["watchbill_history_pending"]
    dropped = last["watchbill_history_dropped_rows_total"]
    return Claim(
        "history grows by its rows",
        f"{rows:,} slots",
        f"{found.history_bytes / 1e6:.1f} MB, {found.history_bytes / rows:.0f} bytes a slot; {dropped:.0f} dropped; "
        f"{pending:.0f} pending at the last look",
        f"0 dropped; less than {SETTLES_WITHIN} s of rows pending",
        holds=rows > 0
        and not dropped
        and pending < SETTLES_WITHIN * found.soak.checks / found.soak.interval_seconds + 100,
    )


def _log(found: Found) -> Claim:
    flips = found.events["check.flipped"]
    others = found.events.total() - flips
    size = found.watched.samples[-1].log_bytes
    return Claim(
        "the log says what changes, and no more",
        f"{flips:,} flips, {found.load.reloads} reloads",
        f"{others} other lines, {size / 1e6:.1f} MB",
        f"at most {MOST_LINES_A_RELOAD} a reload, and 10",
        holds=flips > 0 and others <= MOST_LINES_A_RELOAD * found.load.reloads + 10,
    )
