"""The machine: which core does what, what it is called, and the CPU time that a process has used."""

from __future__ import annotations

import datetime
import os
import platform
import re
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

CORES = sorted(os.sched_getaffinity(0))
MEASURED = CORES[-1]
"""The core of whatever is measured, alone."""
OTHER = CORES[0]
"""The core of this program, of the targets and of whoever asks."""
PIN = ("taskset", "-c", str(MEASURED))


def leave_measured_core() -> None:
    """Everything that is started from here on runs beside the measured core, unless it is pinned to it."""
    os.sched_setaffinity(0, {OTHER})


def prioritise(nice: int) -> None:
    """This program's priority and that of what it starts; also against other sessions, which share by groups."""
    os.nice(nice)
    group = Path("/proc/self/autogroup")
    if nice and group.exists():
        group.write_text(str(nice))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children, also of those that have ended.

    The kernel counts to the nanosecond and tells it in ticks of 10 ms: ask over eight seconds or more.
    """
    process = psutil.Process(pid)
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


@dataclass(frozen=True)
class Usage:
    """What was used of the measured core over a stretch of time: by one process, and by all others beside it."""

    seconds: float
    cpu_seconds: float
    idle_seconds: float

    @property
    def foreign(self) -> float:
        """The share of the core that others took. A measurement beside much of it is worth little."""
        return max(0.0, 1 - (self.idle_seconds + self.cpu_seconds) / self.seconds)

    @property
    def idle(self) -> float:
        return self.idle_seconds / self.seconds


class Meter:
    """Starts counting when made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begun = self._now()

    def read(self) -> Usage:
        seconds, cpu, idle = (now - then for now, then in zip(self._now(), self._begun, strict=True))
        return Usage(seconds, cpu, idle)

    def _now(self) -> tuple[float, float, float]:
        core = psutil.cpu_times(percpu=True)[MEASURED]
        return time.monotonic(), cpu_seconds(self._pid), core.idle + core.iowait


def described(peer: str) -> str:
    """One line that names machine, programs and day, for people who compare tables."""
    return f"{datetime.datetime.now(datetime.UTC).date().isoformat()}: {named()}; {peer}"


def named() -> str:
    """The machine and our own programs."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = found[1].strip() if found else platform.machine()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "httptools", "duckdb"))
    return (
        f"{model}, {len(CORES)} cores, Linux {platform.release()}, Python {platform.python_version()}, "
        f"Watchbill {version('watchbill')} ({libraries})"
    )
