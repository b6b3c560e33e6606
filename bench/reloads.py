"""How long a reload holds the event loop: ``python -m bench.reloads [CHECKS]``.

The exporter runs in a process of its own, as ``watchbill run`` does, with a task that wants to run every millisecond.
``wall`` and ``CPU`` are its longest waits from the request until a second after the answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import FrameType

from bench.beat import Beat, milliseconds
from watchbill import heap, serve

CHECK = """  check-{number:05}:
    type: http
    service: service-{group}
    url: http://127.0.0.1:9/{number}?{mark}
    labels: {{team: t{group}, tier: gold}}
    headers: {{Authorization: 'Bearer token-{number}'}}
    expect: {{status: [2xx, 304], body: {{contains: Welcome}}, latency: 800ms}}
"""
CHANGES = ((0, "nothing"), (100, "1 %"), (1, "all"), (100, "1 %"), (1, "all"))
"""One check of so many."""


def declare(path: Path, marks: list[int]) -> None:
    aside = path.with_suffix(".new")
    with aside.open("w") as file:
        file.write("version: 1\ndefaults: {interval: 60s, timeout: 1s}\nservices:\n")
        file.writelines(f"  service-{group}: {{owner: us}}\n" for group in range(len(marks) // 50 + 1))
        file.write("checks:\n")
        for number, mark in enumerate(marks):
            file.write(CHECK.format(number=number, group=number // 50, mark=mark))
    aside.replace(path)


def exporter(config: str, port: str, told: str) -> None:
    """Runs the exporter; on SIGUSR1 it writes what the beat has seen since the last time."""
    beat, tend = Beat(), heap.tend

    async def with_a_beat() -> None:
        import anyio  # noqa: PLC0415 - the parent process needs none

        async with anyio.create_task_group() as group:
            group.start_soon(beat.run)
            group.start_soon(tend)

    def tell(_: int, __: FrameType | None) -> None:
        walls, cpus = beat.walls, beat.cpus
        seen = [
            milliseconds(walls),
            milliseconds(walls, 0.999),
            milliseconds(cpus),
            milliseconds(cpus, 0.999),
        ]
        Path(told + ".new").write_text(json.dumps(seen))
        Path(told + ".new").replace(told)
        beat.clear()

    heap.tend = with_a_beat
    signal.signal(signal.SIGUSR1, tell)
    options = serve.Options(
        config, listen=(f"127.0.0.1:{port}",), storage=told + ".duckdb", enable_lifecycle=True
    )
    sys.exit(serve.run(options))


def measure(folder: Path, checks: int, port: int) -> None:
    config, told, marks = folder / "checks.yaml", folder / "told.json", [0] * checks
    declare(config, marks)
    begun = time.monotonic()
    line = [sys.executable, "-m", "bench.reloads", "exporter", str(config), str(port), str(told)]
    with (folder / "log").open("w") as log, subprocess.Popen(line, stderr=log) as running:

        def waits() -> list[float]:
            told.unlink(missing_ok=True)
            running.send_signal(signal.SIGUSR1)
            while not told.exists():
                time.sleep(0.05)
            found: list[float] = json.loads(told.read_text())
            return found

        def show(what: str, seconds: float) -> None:
            rss = (
                int(Path(f"/proc/{running.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                >> 20
            )
            print(f"{what:20} {seconds:8.1f} {rss:7}", *(f"{wait:9.1f}" for wait in waits()), flush=True)

        print(f"{checks} checks          seconds  RSS MB   wall ms     p99.9    CPU ms     p99.9")
        while not _answers(port):
            time.sleep(0.05)
        ready = time.monotonic() - begun
        time.sleep(15)  # every check is probed once within 5 s
        show("start, first probes", ready)
        for one_of, what in CHANGES:
            for number in range(0, checks if one_of else 0, one_of or 1):
                marks[number] += 1
            declare(config, marks)
            waits()
            begun = time.monotonic()
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/reload", data=b"", timeout=300).read()
            seconds = time.monotonic() - begun
            time.sleep(1)
            show(f"reload, changed {what}", seconds)
        running.terminate()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def main() -> None:
    if sys.argv[1:2] == ["exporter"]:
        exporter(*sys.argv[2:])
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), int(sys.argv[1]) if sys.argv[1:] else 10_000, 19_877)


if __name__ == "__main__":
    main()
