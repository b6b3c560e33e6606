"""Ten thousand checks of which a third hang until their timeout: what the others notice of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from tests.exporter import free_port

from bench.declared import CHECKS, named
from bench.machine import Usage
from bench.ours import Slots, observe, slots, watchbill
from bench.tables import Table, ms
from bench.targets import Targets, server

GOOD, OTHERS = 7_000, 3_000
CONCURRENT = 4_000
"""3,000 checks that take 5 s of every 10 s are 1,500 at once; the limit is 1,000 unless declared."""


@dataclass(frozen=True)
class Found:
    """One run."""

    good: Slots
    others: Slots
    usage: Usage


def measure(folder: Path, targets: Targets, *, seconds: float) -> Table:
    port = free_port()
    with server("silent", str(port)):
        calm = run(folder / "calm", targets, good(targets), seconds=seconds)
        hung = run(folder / "hung", targets, hanging(port), seconds=seconds)
    return table(calm, hung)


def good(targets: Targets) -> list[str]:
    return [CHECKS[kind](targets) for kind in ("http", "tcp", "dns", "icmp")]


def hanging(port: int) -> list[str]:
    return [
        f"type: http, url: 'http://127.0.0.1:{port}/'",
        f"type: tcp, host: 127.0.0.1, port: {port}, expect: {{response: {{contains: never}}}}",
        f"type: dns, name: watch.example, server: '127.0.0.1:{port}'",
        f"type: tls, host: 127.0.0.1, port: {port}",
    ]


def run(folder: Path, targets: Targets, others: list[str], *, seconds: float) -> Found:
    """7,000 checks that answer (``c...``) and 3,000 others (``o...``)."""
    checks = named(islice(cycle(good(targets)), GOOD)) | named(islice(cycle(others), OTHERS), "o")
    timely = {name: f"{check}, timeout: 5s" for name, check in checks.items()}
    head = f"limits: {{concurrent_probes: {CONCURRENT}}}\n"
    with watchbill(folder, timely, interval="10s", head=head) as running:
        window = observe(running, warm_up=16, seconds=seconds)
        running.stop()
    return Found(
        slots(running.storage, window, like="c%"), slots(running.storage, window, like="o%"), window.usage
    )


def table(calm: Found, hung: Found) -> Table:
    rows = [
        told("7,000 that answer, beside 3,000 that answer", calm.good, calm.usage),
        told("7,000 that answer, beside 3,000 that hang", hung.good, hung.usage),
        told("3,000 that hang", hung.others, hung.usage),
    ]
    heads = ("checks", "slots", "delay p50 / p99, ms", "duration p50 / p99, ms", "CPU of the core, all")
    return Table("hanging", heads, rows)


def told(name: str, seen: Slots, usage: Usage) -> Sequence[str]:
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(seen.outcomes.items()))
    if seen.own_side:
        outcomes += f" ({', '.join(seen.own_side)})"
    late = f"{ms(seen.delay_p50_seconds)} / {ms(seen.delay_p99_seconds)}"
    took = f"{ms(seen.duration_p50_seconds)} / {ms(seen.duration_p99_seconds)}"
    return name, outcomes, late, took, f"{usage.cpu_seconds / usage.seconds:.0%}"
