"""Storms of reloads: a thousand SIGHUPs in a second, while the file takes on a hundred generations.

Checks that stand in all of them must not notice; the last generation must win; and only whole ones may ever run.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from tests.exporter import Exporter, exporter, free_port
from tests.proof import Claim
from tests.runtime.generations import Generation, generation
from tests.runtime.history import held_against_the_grid, read
from tests.runtime.target import target
from tests.runtime.world import probed_since, successes
from tests.watching import watching

SIGNALS = 1000
GENERATIONS = 100
SECONDS, AT_MOST_SECONDS = 1.0, 1.1
FEWEST_SCRAPES = 5
"""In each storm and what follows it."""
WISHES = 2
LOST_AFTER_SECONDS = 15.0
STEADY = [f"steady-{number}" for number in range(100)]
OTHERS = 60
INTERVAL_SECONDS = 1.0
GROWTH_BYTES = 24 << 20
MOST_MORE = 4
BROKEN = "version: 1\nchecks:\n  steady-0: {type: tcp}\n"


@dataclass
class Findings:
    """What the storms did, and what came of them."""

    seed: int
    storms: int = 0
    bursts: list[tuple[int, float]] = field(default_factory=list)
    """For each storm how many SIGHUPs were sent, in how many seconds."""
    generations: list[Generation] = field(default_factory=list)
    wishes: int = 0
    overtaken: int = 0
    """Of them, how often a reload of the one before was under way when it was written."""
    won: int = 0
    settled_seconds: list[float] = field(default_factory=list)
    rejected: int = 0
    scrapes: int = 0
    unanswered: int = 0
    backwards: list[str] = field(default_factory=list)
    usage: list[tuple[int, int, int]] = field(default_factory=list)
    """Before the first storm and after each: bytes of memory, descriptors, threads."""


def prove(folder: Path, *, full: bool) -> list[Claim]:
    return run(folder, storms=10, seed=4) if full else run(folder, storms=1, seed=4, busy=True)


def run(folder: Path, *, storms: int, seed: int, busy: bool = False) -> list[Claim]:
    """``busy``: the machine may be doing other work, so that a slot may be skipped; it must be accounted for all the same."""
    found, chance, port = Findings(seed), random.Random(seed), free_port()
    config = folder / "checks.yaml"
    first = generation(0, chance, steady=STEADY, others=OTHERS, port=port, last=True)
    config.write_text(first.text)
    found.generations.append(first)
    with target("--http", str(port)), exporter(config, folder, port=free_port()) as running:
        running.until("every check was probed in a slot", lambda: all(map(successes(running).get, STEADY)))
        begun = _now()
        with _watched(running, found):
            _weigh(running, found)
            for _ in range(storms):
                _storm(running, config, chance, port, found)
                for _ in range(WISHES):
                    _wish(running, config, chance, port, found)
                _mistake(running, config, found)
        ended = _now()
        running.until("what was due has ended", lambda: probed_since(running, ended))
        code = running.stop()
    return [
        _was_a_storm(found, running, busy=busy),
        *_claims(folder, running, found, begun, ended, busy=busy),
        _ended_well(code),
    ]


# --- a storm ------------------------------------------------------------------------------------------


def _storm(running: Exporter, config: Path, chance: random.Random, port: int, found: Findings) -> None:
    first = found.generations[-1].number + 1
    coming = [
        generation(
            number, chance, steady=STEADY, others=OTHERS, port=port, last=number == first + GENERATIONS - 1
        )
        for number in range(first, first + GENERATIONS)
    ]
    wanted = coming[-1].digest(config.parent)
    every, sent, begun = SIGNALS // GENERATIONS, 0, time.monotonic()

    def signal(until: int) -> None:
        nonlocal sent
        while sent < until:
            _until(begun + SECONDS * sent / SIGNALS)
            running.hang_up()
            sent += 1

    for index, each in enumerate(coming):
        each.write(config, lambda index=index: signal(index * every + every - 1))  # type: ignore[misc]
        signal((index + 1) * every)
    found.bursts.append((sent, time.monotonic() - begun))
    _wins(running, wanted, found)
    found.storms += 1
    found.generations += coming


def _wish(running: Exporter, config: Path, chance: random.Random, port: int, found: Findings) -> None:
    """Two generations: the second comes when the first was just read, and is not yet in force."""
    process = psutil.Process(running.process.pid)
    unread = 0
    for late in (False, True):
        number = found.generations[-1].number + 1
        each = generation(number, chance, steady=STEADY, others=OTHERS, port=port, last=True)
        found.generations.append(each)
        if late:
            running.until("a reload is under way", process.children)
            # Reading a file for the first time since it was written notes when, on most file systems.
            running.until("it was read", partial(_was_read, config, unread, process))
            found.overtaken += bool(process.children())
        each.write(config, lambda: None)
        unread = config.stat().st_atime_ns
        running.hang_up()
    found.wishes += 1
    _wins(running, each.digest(config.parent), found)


def _was_read(config: Path, unread: int, reloading: psutil.Process) -> bool:
    return config.stat().st_atime_ns != unread or not reloading.children()


def _wins(running: Exporter, wanted: str | None, found: Findings) -> None:
    last = time.monotonic()
    try:
        running.until(
            "the last generation runs", lambda: _digest(running) == wanted, seconds=LOST_AFTER_SECONDS
        )
    except AssertionError:
        running.hang_up()  # so that the rest can go on
        running.until("the last generation runs at last", lambda: _digest(running) == wanted)
    else:
        found.settled_seconds.append(time.monotonic() - last)
        found.won += 1


def _mistake(running: Exporter, config: Path, found: Findings) -> None:
    """One more signal, for a file with a mistake: what runs must stay."""
    running.until("no reload is under way", lambda: not psutil.Process(running.process.pid).children())
    before = _digest(running)
    config.write_text(BROKEN)
    running.hang_up()
    running.until("it is rejected", lambda: running.total("watchbill_config_last_reload_successful") == 0)
    found.rejected += _digest(running) == before
    _weigh(running, found)


def _weigh(running: Exporter, found: Findings) -> None:
    process = psutil.Process(running.process.pid)
    running.until("no worker is left", lambda: not process.children())
    descriptors = min(_descriptors(process) for _ in range(10))  # a probe under way has one
    found.usage.append((process.memory_info().rss, descriptors, process.num_threads()))


def _descriptors(process: psutil.Process) -> int:
    time.sleep(0.01)
    return process.num_fds()


@contextmanager
def _watched(running: Exporter, found: Findings) -> Iterator[None]:
    """Scrape on and on: no counter of a steady check may go back or vanish."""
    before = _counters(running)

    def look() -> None:
        nonlocal before
        try:
            now = _counters(running)
        except OSError:
            found.unanswered += 1
            return
        found.backwards += [name for name, value in before.items() if now.get(name, -1.0) < value]
        found.scrapes, before = found.scrapes + 1, now

    with watching(look, every=0.1, name="counters"):
        yield


def _counters(running: Exporter) -> dict[str, float]:
    return {
        name: value
        for name, value in running.metrics().items()
        if name.startswith("watchbill_check_slots_total") and 'check="steady-' in name and value > 0
    }


def _digest(running: Exporter) -> str:
    return str(running.request("/api/v1/config").json()["digest"])


# --- what came of it ----------------------------------------------------------------------------------


def _claims(
    folder: Path, running: Exporter, found: Findings, begun: int, ended: int, *, busy: bool
) -> list[Claim]:
    history = read(running.storage)
    schedule = held_against_the_grid(history, STEADY, begun, ended)
    kept = [row for row in history.within(begun, ended) if row.check.startswith("steady-")]
    failed = [row for row in kept if row.outcome != "success"]
    respanned = [check for check in STEADY if history.spans[check] != 1]
    late = max((row.started_at - row.slot) / 1e6 for row in kept if row.started_at is not None)
    reloaded = _carried_out(running.log)[0]
    whole = {each.digest(folder) for each in found.generations} - {None}
    strange = [digest for digest in reloaded if digest not in whole]
    parts = sum(each.cut > 0 for each in found.generations)
    invalid = sum(not each.valid for each in found.generations)
    storms = (
        f"{found.storms} storms of {SIGNALS:,} SIGHUPs and {GENERATIONS} generations "
        f"({parts} of all written in two parts, {invalid} with mistakes); seed {found.seed}"
    )
    enough = found.storms > 0 and parts > 0 and invalid > 0
    memory = [usage[0] for usage in found.usage]
    more = [max(column) - column[0] for column in list(zip(*found.usage, strict=True))[1:]]
    return [
        Claim(
            "no slot of an unchanged check is lost",
            f"{storms}; {schedule.expected:,} slots of {len(STEADY)} checks",
            f"{schedule}; {len(failed)} not probed; begun {late:.2f} s after the slot at most",
            "0, 0, 0; 0; within its interval",
            holds=enough
            and (late < INTERVAL_SECONDS or busy)
            and (schedule.exact or busy)
            and not schedule.doubled
            and (not failed or busy)
            and not history.unaccounted
            and not respanned,
        ),
        Claim(
            "the last generation wins",
            f"{found.storms} storms, and {found.wishes} times one more, {found.overtaken} of them while one was being "
            f"read; {len(reloaded)} reloads",
            f"{found.won} won, {max(found.settled_seconds, default=0):.2f} s after the last signal at most",
            f"{found.storms + found.wishes}",
            holds=enough and found.won == found.storms + found.wishes and (found.overtaken > 0 or busy),
        ),
        Claim(
            "only whole configurations run",
            f"{len(reloaded)} reloads of files of which {parts} were signalled while a part of them stood there",
            f"{len(strange)} that nobody wrote",
            "0",
            holds=len(reloaded) >= found.storms and not strange and parts > 0,
        ),
        Claim(
            "a mistake changes nothing",
            f"{found.storms} files with a mistake, after each storm one",
            f"{found.rejected} rejected, the old configuration running on",
            f"{found.storms}",
            holds=0 < found.storms == found.rejected,
        ),
        Claim(
            "counters of unchanged checks never go back",
            f"{found.scrapes} scrapes during the storms",
            f"{len(found.backwards)} went back{': ' * bool(found.backwards)}{', '.join(found.backwards[:3])}; "
            f"{found.unanswered} scrapes unanswered",
            "0; 0",
            holds=found.scrapes >= FEWEST_SCRAPES * found.storms
            and not found.backwards
            and (busy or not found.unanswered),
        ),
        Claim(
            "a storm leaves nothing behind",
            f"{found.storms} storms",
            f"{(max(memory) - memory[0]) / 1e6:+.1f} MB, {more[0]:+} descriptors, {more[1]:+} threads",
            f"under {GROWTH_BYTES >> 20} MB, {MOST_MORE} and {MOST_MORE}",
            holds=len(memory) > 1 and max(memory) - memory[0] < GROWTH_BYTES and max(more) <= MOST_MORE,
        ),
    ]  # fmt: skip


def _was_a_storm(found: Findings, running: Exporter, *, busy: bool) -> Claim:
    """The kernel makes one of signals that arrive before the first was seen, and the exporter of those that arrive while it
    reads the file; so reloads are counted by those that were carried out."""
    sent = [number for number, _ in found.bursts]
    slowest = max(seconds for _, seconds in found.bursts)
    reloaded, rejected = _carried_out(running.log)
    return Claim(
        "a storm is a thousand signals in a second",
        f"{found.storms} storms",
        f"{sum(sent):,} SIGHUPs, {min(sent):,} in each at least, within {slowest:.2f} s at most; of them and the "
        f"{2 * found.wishes + found.storms} that follow came {len(reloaded)} reloads and {len(rejected)} refusals",
        f"{SIGNALS:,} within {AT_MOST_SECONDS:g} s",
        holds=len(sent) == found.storms > 0
        and min(sent) >= SIGNALS
        and (slowest <= AT_MOST_SECONDS or busy)
        and len(reloaded) + len(rejected) >= found.storms + 2 * found.wishes,
    )


def _ended_well(code: int) -> Claim:
    return Claim(
        "it stops when told to", "SIGTERM after the last storm", f"exit code {code}", "0", holds=code == 0
    )


def _carried_out(log: Path) -> tuple[list[str], list[str]]:
    """The digests of the configurations that were taken on, and why others were refused."""
    entries = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return (
        [entry["digest"] for entry in entries if entry["event"] == "config.reloaded"],
        [entry["error"] for entry in entries if entry["event"] == "config.rejected"],
    )


def _until(instant: float) -> None:
    left = instant - time.monotonic()
    if left > 0:
        time.sleep(left)


def _now() -> int:
    return round(time.time() * 1e6)
