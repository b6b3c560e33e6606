"""The highest rate that one core holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench.declared import CHECKS, named
from bench.machine import Usage
from bench.ours import observe, slots, watchbill
from bench.peer import open_peer
from bench.tables import Table, ms
from bench.targets import Targets

FIRST, STEP = 1000, 500
SETTLED_SECONDS = 12
"""The first seconds hold every check's first probe as well, outside its slots, and what that leaves to be caught up with."""
LATE_SECONDS = 0.1
"""At the 99th percentile: later than this is not held."""


@dataclass(frozen=True)
class Tried:
    """One rate. ``late`` is a start's delay at the 99th percentile, or the peer's time to its answer."""

    rate: int
    achieved: float
    lost: int
    late_p99_seconds: float
    usage: Usage

    @property
    def held(self) -> bool:
        return self.lost == 0 and self.late_p99_seconds < LATE_SECONDS


def climb(try_rate: Callable[[int], Tried], *, said: str) -> list[Tried]:
    """Rates upwards until one is not held twice: the machine's other work may have spoilt it once."""
    tried: list[Tried] = []
    for rate in count(FIRST, STEP):
        for _ in range(2):
            attempt = try_rate(rate)
            print(
                f"{said:>9} {rate:>5}/s  lost {attempt.lost}  p99 {ms(attempt.late_p99_seconds)} ms"
                f"  core {attempt.usage.cpu_seconds / attempt.usage.seconds:.0%}"
                f"  others {attempt.usage.foreign:.0%}",
                flush=True,
            )
            if attempt.held:
                break
        tried.append(attempt)
        if not attempt.held:
            break
    return tried


def measure(folder: Path, targets: Targets, *, kind: str, seconds: float) -> Table:
    ours = climb(lambda rate: try_ours(folder, targets, kind, rate=rate, seconds=seconds), said="watchbill")
    theirs = climb(lambda rate: try_peer(folder, targets, kind, rate=rate, seconds=seconds), said="blackbox")
    heads = ("", "highest rate held, a second", "p99 there, ms", "next rate", "lost there", "p99 there, ms")
    return Table(
        "saturation", heads, [row("Watchbill: slots", ours), row("blackbox_exporter: answers", theirs)]
    )


def row(name: str, tried: Sequence[Tried]) -> Sequence[str]:
    *held, beyond = tried
    best = (f"{held[-1].rate:,}", ms(held[-1].late_p99_seconds)) if held else (f"< {FIRST:,}", "")
    return (name, *best, f"{beyond.rate:,}", f"{beyond.lost:,}", ms(beyond.late_p99_seconds))


def try_ours(folder: Path, targets: Targets, kind: str, *, rate: int, seconds: float) -> Tried:
    place = folder / f"{rate}-{len(list(folder.glob('*')))}"
    with watchbill(place, named([CHECKS[kind](targets)] * rate)) as running:
        window = observe(running, warm_up=SETTLED_SECONDS, seconds=seconds)
        running.stop()
    seen = slots(running.storage, window)
    expected = round(rate * (window.ended - window.begun))
    # At the edges of the window a few slots more or fewer are due than the rate says.
    absent = max(expected - sum(seen.outcomes.values()) - rate // 50, 0)
    return Tried(
        rate=rate,
        achieved=seen.successes / seconds,
        lost=absent + sum(seen.outcomes.values()) - seen.successes,
        late_p99_seconds=seen.delay_p99_seconds,
        usage=window.usage,
    )


def try_peer(folder: Path, targets: Targets, kind: str, *, rate: int, seconds: float) -> Tried:
    with open_peer(folder / f"{rate}-{len(list(folder.glob('*')))}", targets) as peer:
        if peer is None:
            raise RuntimeError("there is no blackbox_exporter to try")
        driven = peer.drive(kind, rate=rate, seconds=seconds)
    return Tried(
        rate=rate,
        achieved=driven.successes / seconds,
        lost=driven.refused + driven.probes - driven.successes,
        late_p99_seconds=driven.latency_p99_seconds,
        usage=driven.usage,
    )
