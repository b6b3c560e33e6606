"""Whether the latency that Watchbill reports under load is the target's: a server that answers after 20 ms, exactly."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
from tests.exporter import free_port

from bench.declared import named
from bench.machine import PIN
from bench.numbers import quantile
from bench.ours import Window, observe, watchbill
from bench.servers import DELAY_SECONDS
from bench.tables import Table, ms
from bench.targets import ROOT, server

CHECKS, LOOKS = 500, 200


@dataclass(frozen=True)
class Reported:
    """One probe, as history has it."""

    duration_seconds: float
    processing_seconds: float
    marked: bool


def measure(folder: Path, *, seconds: float) -> Table:
    """The server's delay is looked at from outside while it is idle, and by itself under the load."""
    port = free_port()
    with server("delayed", str(port)) as delaying:
        outside = looked_at(port)
        checks = named([f"type: http, url: 'http://127.0.0.1:{port}/'"] * CHECKS)
        with watchbill(folder / "watchbill", checks) as running:
            window = observe(running, warm_up=3, seconds=seconds)
            running.stop()
        delaying.send_signal(signal.SIGINT)
        assert delaying.stdout is not None
        itself = json.loads(delaying.stdout.readline())
    found = reported(running.storage, window)
    unmarked = [one for one in found if not one.marked]
    marked = f"{len(found) - len(unmarked):,} of {len(found):,}"
    rows = [
        ("the server, from outside, idle: connect until answer", *beyond(outside)),
        ("the server, by itself, under the load: request until answer", *beyond(itself)),
        ("Watchbill: duration", *beyond([one.duration_seconds for one in found])),
        (f"Watchbill: duration, without {marked} marked as taken over a stall",
         *beyond([one.duration_seconds for one in unmarked])),
        ("Watchbill: phase processing, without them", *beyond([one.processing_seconds for one in unmarked])),
        ("wanted of Watchbill at most", "2.0", "10.0", ""),
    ]  # fmt: skip
    return Table(
        "latency",
        ("500 checks a second", "p50 beyond 20 ms", "p99 beyond 20 ms", "longest beyond 20 ms"),
        rows,
    )


def beyond(values: list[float]) -> tuple[str, str, str]:
    return tuple(  # type: ignore[return-value]
        ms(value - DELAY_SECONDS) for value in (quantile(values, 0.5), quantile(values, 0.99), max(values))
    )


def looked_at(port: int) -> list[float]:
    """By a program of its own on the measured core, so that it does not wait for the server's."""
    line = [*PIN, sys.executable, "-m", "bench.latency", str(port)]
    done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def look(port: int) -> float:
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        connection.recv(4096)
        return time.perf_counter() - begun


def reported(storage: Path, window: Window) -> list[Reported]:
    """Of the successes."""
    with closing(duckdb.connect(str(storage), read_only=True)) as store:
        rows = store.execute(
            "SELECT duration_seconds, processing_seconds, stalled_seconds IS NOT NULL "
            "FROM results WHERE trigger = 'schedule' AND outcome = 'success' "
            "AND epoch_us(slot) >= $1 AND epoch_us(slot) < $2",
            [window.begun * 1e6, window.ended * 1e6],
        ).fetchall()
    return [Reported(*row) for row in rows]


if __name__ == "__main__":
    print(json.dumps([look(int(sys.argv[1])) for _ in range(LOOKS)]))
