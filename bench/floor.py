"""What the least that could be called TCP monitoring costs in Python, beside Watchbill and the peer.

``python -m bench.floor PORT RATE [FILE]`` opens and closes so many connections a second and, with a file, commits a row
for each to DuckDB once a second; it schedules, judges, publishes, counts and exposes nothing.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import duckdb
import uvloop

from bench.machine import PIN, Meter
from bench.peer import open_peer
from bench.ratios import of_ours, of_peer
from bench.tables import Table
from bench.targets import Targets, started

TICK_SECONDS = 0.05
"""As Watchbill's own at low rates."""
WARM_UP_SECONDS = 2.0
RESULT = "check_key INTEGER, slot TIMESTAMPTZ, started_at TIMESTAMPTZ, duration DOUBLE, connect DOUBLE, outcome VARCHAR"

Row = tuple[object, ...]


def measure(folder: Path, targets: Targets, *, rate: int, runs: int, seconds: float) -> Table:
    """Each in turn, so that all meet the same machine."""
    with open_peer(folder / "peer", targets) as peer:
        sides: dict[str, Callable[[Path], float]] = {
            "connections alone: uvloop, a tick of 50 ms": lambda _: bare(targets, rate, seconds),
            "the same, and a commit to DuckDB each second": lambda at: bare(targets, rate, seconds, at / "floor"),
            "Watchbill, all of it": lambda at: of_ours(at / "ours", targets, "tcp", rate=rate, seconds=seconds).cpu_per_1000,
        }  # fmt: skip
        if peer is not None:
            sides["blackbox_exporter, its probe alone"] = lambda _: (
                of_peer(peer, "tcp", rate=rate, seconds=seconds).cpu_per_1000
            )
        cost: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(runs):
            for name, side in sides.items():
                at = folder / f"{number}-{len(cost[name])}"
                at.mkdir(exist_ok=True)
                cost[name].append(side(at))
                print(f"tcp {rate}/s  run {number + 1}  {name}: {cost[name][-1]:.3f}", flush=True)
    rows = [(name, f"{median(found):.3f}") for name, found in cost.items()]
    return Table("floor", (f"TCP, {rate} a second", "CPU s per 1,000"), rows, [f"Medians of {runs} runs."])


def bare(targets: Targets, rate: int, seconds: float, file: Path | None = None) -> float:
    """CPU seconds per 1,000 connections, as many as were made."""
    command = [*PIN, sys.executable, "-m", "bench.floor", str(targets.http), str(rate)]
    with started(*command, *([str(file)] if file else [])) as process:
        time.sleep(WARM_UP_SECONDS)
        before, meter = made(process), Meter(process.pid)
        time.sleep(seconds)
        used = meter.read()
        return used.cpu_seconds / (made(process) - before) * 1000


def made(process: subprocess.Popen[str]) -> int:
    """It tells on SIGUSR1 how many connections it has made so far."""
    process.send_signal(signal.SIGUSR1)
    assert process.stdout is not None
    return int(process.stdout.readline())


# --- the program itself -------------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """Closed as soon as it is there."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Connection.made += 1
        transport.close()


async def connect_forever(port: int, rate: int, file: Path | None) -> None:
    loop = asyncio.get_running_loop()
    rows: list[Row] = []
    under_way: set[asyncio.Task[None]] = set()
    store = opened(file) if file else None
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(Connection.made, flush=True))

    async def connect() -> None:
        begun = loop.time()
        await loop.create_connection(Connection, "127.0.0.1", port)
        took = loop.time() - begun
        rows.append((len(rows), time.time(), time.time(), took, took, "success"))

    due, told = loop.time(), loop.time()
    while True:
        due += TICK_SECONDS
        for _ in range(round(rate * TICK_SECONDS)):
            task = loop.create_task(connect())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if loop.time() - told >= 1:
            told, batch, rows = loop.time(), rows, []
            if store is not None:
                await loop.run_in_executor(None, commit, store, batch)
        await asyncio.sleep(due - loop.time())


def opened(file: Path) -> duckdb.DuckDBPyConnection:
    store = duckdb.connect(str(file), config={"threads": 2})
    store.execute(f"CREATE TABLE result ({RESULT})")
    return store


def commit(store: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    store.execute("BEGIN")
    columns = [list(column) for column in zip(*rows, strict=True)]
    store.execute(
        "INSERT INTO result SELECT unnest($1), to_timestamp(unnest($2)), to_timestamp(unnest($3)), "
        "unnest($4), unnest($5), unnest($6)",
        columns,
    )
    store.execute("COMMIT")


if __name__ == "__main__":
    uvloop.install()
    asyncio.run(
        connect_forever(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
    )
