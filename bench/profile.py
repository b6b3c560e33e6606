"""Where the CPU time of the probe path goes: by library (perf), and by our own parts (cProfile)."""

from __future__ import annotations

import marshal
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.exporter import Exporter

from bench.declared import CHECKS, named
from bench.machine import PIN, cpu_seconds
from bench.ours import watchbill
from bench.tables import Table
from bench.targets import ROOT, Targets

WARM_UP_SECONDS = 4.0
HANG_GUARD_SECONDS = 30.0
LIBRARY_LINES, FUNCTION_LINES = 12, 25
Place = tuple[str, int, str]
"""Of a function: file, line, name. A built-in one has the file ``~``."""
Stats = Mapping[Place, tuple[int, int, float, float, Mapping[Place, tuple[int, int, float, float]]]]

PARTS = (
    ("watchbill/probes/execute", "executor"), ("watchbill/probes/attempt", "executor"), ("watchbill/runners", "executor"),
    ("watchbill/probes/transport", "transport"), ("watchbill/probes/connections", "transport"),
    ("watchbill/probes/", "probers"), ("watchbill/net/", "network"), ("watchbill/storage/", "history"),
    ("watchbill/metrics/", "metrics"), ("watchbill/web/", "web"), ("watchbill/domain/", "domain"),
    ("watchbill/scheduler", "scheduler"), ("watchbill/agenda", "scheduler"), ("watchbill/pulse", "scheduler"),
    ("watchbill/pacing", "scheduler"), ("watchbill/dispatcher", "scheduler"), ("watchbill/endings", "scheduler"),
    ("watchbill/clock", "scheduler"), ("watchbill/bus", "bus"), ("watchbill/handlers", "bus"), ("watchbill/board", "board"),
    ("watchbill/", "the rest of watchbill"), ("/httpx2/", "httpx2"), ("/anyio/", "anyio"), ("/asyncio/", "asyncio"),
    ("/dns/", "dnspython"), ("/OpenSSL/", "TLS libraries"), ("/cryptography/", "TLS libraries"),
    ("/service_identity/", "TLS libraries"),
)  # fmt: skip


@dataclass(frozen=True)
class Profiled:
    """``thread_seconds`` of the loop's thread, of which ``stats`` know what was called from Python."""

    thread_seconds: float
    process_seconds: float
    stats: Stats
    probes: float


def measure(folder: Path, targets: Targets, *, kind: str, rate: int, seconds: float) -> list[Table]:
    checks = named([CHECKS[kind](targets)] * rate)
    title = f"{kind} at {rate:,} a second"
    tables = []
    if shutil.which("perf"):
        with watchbill(folder / "libraries", checks) as running:
            time.sleep(WARM_UP_SECONDS)
            tables.append(libraries(running, folder / "perf.data", title=title, rate=rate, seconds=seconds))
    file = folder / "profile"
    line = (*PIN, sys.executable, "-m", "bench.profiled", str(file))
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with watchbill(folder / "parts", checks, prefix=line, environ={"PYTHONPATH": paths}) as running:
        time.sleep(WARM_UP_SECONDS)
        found = profiled(running, file, rate=rate, seconds=seconds)
    return [*tables, parts(found, title=title), functions(found, title=title)]


def libraries(running: Exporter, data: Path, *, title: str, rate: int, seconds: float) -> Table:
    """Samples of the CPU clock, of all threads, by the library whose code ran."""
    pid = str(running.process.pid)
    record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "-o", str(data), "-p", pid]
    before = cpu_seconds(running.process.pid)
    subprocess.run([*record, "--", "sleep", str(seconds)], check=True, capture_output=True)
    used = cpu_seconds(running.process.pid) - before
    report = ["perf", "report", "-i", str(data), "--stdio", "-q", "--sort", "dso"]
    text = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    shares = [
        (float(share), name) for share, name in re.findall(r"^\s*([\d.]+)%\s+(\S+)", text, re.MULTILINE)
    ]
    per_1000 = used / (rate * seconds) * 1000
    rows = [
        (name, f"{share / 100:.1%}", f"{share / 100 * per_1000:.3f}")
        for share, name in shares[:LIBRARY_LINES]
    ]
    return Table(
        "libraries",
        (f"library ({title})", "share", "CPU s per 1,000 probes"),
        [*rows, ("all", "", f"{per_1000:.3f}")],
    )


def profiled(running: Exporter, file: Path, *, rate: int, seconds: float) -> Profiled:
    running.process.send_signal(signal.SIGUSR1)
    time.sleep(seconds)
    running.process.send_signal(signal.SIGUSR2)
    deadline = time.monotonic() + HANG_GUARD_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no profile was written:\n{running.log.read_text()[-2000:]}")
        time.sleep(0.1)
    thread, process, stats = marshal.loads(file.read_bytes())
    return Profiled(thread, process, stats, rate * seconds)


def part_of(place: Place) -> str:
    file = place[0].replace("\\", "/")
    return next((part for pattern, part in PARTS if pattern in file), "Python's library and others")


def parts(found: Profiled, *, title: str) -> Table:
    """Built-in functions count for whoever called them."""
    spent: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for place, (_, count, own, _, callers) in found.stats.items():
        if place[0] == "~":
            for caller, (_, _, share, _) in callers.items():
                spent[part_of(caller)] += share
        else:
            spent[part_of(place)] += own
            calls[part_of(place)] += count
    spent["the loop itself: polling, sockets, callbacks"] = found.thread_seconds - sum(spent.values())
    spent["other threads"] = found.process_seconds - found.thread_seconds
    rows = [
        (part, f"{seconds / found.process_seconds:.1%}", f"{calls[part] / found.probes:.1f}")
        for part, seconds in sorted(spent.items(), key=lambda item: -item[1])
    ]
    return Table("parts", (f"part ({title}, under cProfile)", "share", "calls a probe"), rows)


def functions(found: Profiled, *, title: str) -> Table:
    """The functions whose own code took the most."""
    rows = [
        (f"{'/'.join(place[0].split('/')[-2:])}:{place[1]} {place[2]}".removeprefix("~:0 "),
         f"{own / found.process_seconds:.1%}", f"{count / found.probes:.1f}")
        for place, (_, count, own, _, _) in sorted(found.stats.items(), key=lambda item: -item[1][2])[:FUNCTION_LINES]
    ]  # fmt: skip
    return Table("functions", (f"function ({title}, under cProfile)", "own share", "calls a probe"), rows)
