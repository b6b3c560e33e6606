"""Ten thousand checks of which a third hang until their timeout: what the others notice of it."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

from tests.exporter import free_port

from bench.declared import CHECKS, named
from bench.machine import Usage
from bench.ours import Slots, observe, slots, watchbill
from bench.tables import Table, ms
from bench.targets import Targets, server

GOOD, HANGING = 7_000, 3_000
CONCURRENT = 4_000
"""3,000 checks that take 5 s of every 10 s are 1,500 at once; the limit is 1,000 unless declared."""


def measure(folder: Path, targets: Targets, *, seconds: float) -> Table:
    port = free_port()
    with server("silent", str(port)):
        without, calm = run(folder / "without", targets, port, seconds=seconds, enabled=False)
        beside, busy = run(folder / "beside", targets, port, seconds=seconds, enabled=True)
    return table(without, beside, calm, busy)


def run(
    folder: Path, targets: Targets, port: int, *, seconds: float, enabled: bool
) -> tuple[dict[str, Slots], Usage]:
    """The slots of the checks that answer (``c...``) and of those that hang (``h...``)."""
    good = [CHECKS[kind](targets) for kind in ("http", "tcp", "dns", "icmp")]
    hung = [
        f"type: http, url: 'http://127.0.0.1:{port}/'",
        f"type: tcp, host: 127.0.0.1, port: {port}, expect: {{response: {{contains: never}}}}",
        f"type: dns, name: watch.example, server: '127.0.0.1:{port}'",
        f"type: tls, host: 127.0.0.1, port: {port}",
    ]
    parked = "" if enabled else ", enabled: false"
    checks = named(islice(cycle(good), GOOD)) | named(
        (f"{check}, timeout: 5s{parked}" for check in islice(cycle(hung), HANGING)), "h"
    )
    head = f"limits: {{concurrent_probes: {CONCURRENT}}}\n"
    with watchbill(folder, checks, interval="10s", head=head) as running:
        window = observe(running, warm_up=16, seconds=seconds)
        running.stop()
    return {prefix: slots(running.storage, window, like=f"{prefix}%") for prefix in ("c", "h")}, window.usage


def table(without: dict[str, Slots], beside: dict[str, Slots], calm: Usage, busy: Usage) -> Table:
    def told(name: str, seen: Slots, usage: Usage | None) -> tuple[str, ...]:
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(seen.outcomes.items()))
        late = f"{ms(seen.delay_p50_seconds)} / {ms(seen.delay_p99_seconds)}"
        took = f"{ms(seen.duration_p50_seconds)} / {ms(seen.duration_p99_seconds)}"
        return name, outcomes, late, took, f"{usage.cpu_seconds / usage.seconds:.0%}" if usage else ""

    rows = [
        told("7,000 that answer, alone", without["c"], calm),
        told("7,000 that answer, beside those that hang", beside["c"], busy),
        told("3,000 that hang", beside["h"], None),
    ]
    heads = ("checks", "slots", "delay p50 / p99, ms", "duration p50 / p99, ms", "CPU of the core")
    return Table("hanging", heads, rows)
