"""What others see of an exporter: when a result of a check shows in a scrape, and what its processes take of memory."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.exporter import Exporter
from tests.watching import watching

SCRAPED_EVERY_SECONDS = 0.1
WEIGHED_EVERY_SECONDS = 0.1
_FAMILY = "watchbill_check_last_result_timestamp_seconds"
_STARTED = re.compile(rb"^" + _FAMILY.encode() + rb'\{(?:[^}]*,)?check="([^"]*)"[^}]*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sight:
    """When a result was seen first, by the watcher's own clock; it was not there yet in the scrape that began at
    ``not_before``. Both in seconds since the epoch."""

    not_before: float
    at: float


@dataclass
class Scrapes:
    """The results that scrapes showed, by check and by when its probe started, in microseconds since the epoch."""

    seen: dict[tuple[str, int], Sight] = field(default_factory=dict)
    number: int = 0
    longest_seconds: float = 0.0
    _began: float = 0.0
    _latest: dict[str, int] = field(default_factory=dict)

    def look(self, connection: http.client.HTTPConnection) -> None:
        began = time.time()
        connection.request("GET", "/metrics")
        body = connection.getresponse().read()
        at = time.time()
        for check, started in _STARTED.findall(body):
            self._note(check.decode(), round(float(started) * 1e6), at)
        self.number, self._began = self.number + 1, began
        self.longest_seconds = max(self.longest_seconds, at - began)

    def _note(self, check: str, started: int, at: float) -> None:
        if self._latest.get(check) != started:
            self._latest[check] = started
            self.seen[check, started] = Sight(self._began, at)


@contextmanager
def scraped(running: Exporter) -> Iterator[Scrapes]:
    """On and on, over one connection."""
    found = Scrapes()
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)
    with (
        closing(connection),
        watching(lambda: found.look(connection), every=SCRAPED_EVERY_SECONDS, name="scrapes"),
    ):
        yield found


@dataclass
class Memory:
    """Of one stretch of time, in bytes: what was resident at each look, and the most there ever was by the kernel's account.

    A worker may have had more than ``worker_peak`` between the last look and its end.
    """

    own: list[int] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)
    own_peak: int = 0
    worker_peak: int = 0

    @property
    def together(self) -> list[int]:
        return [own + workers for own, workers in zip(self.own, self.workers, strict=True)]

    def look(self, process: psutil.Process) -> None:
        own, self.own_peak = _resident(process.pid)
        workers = [_resident(child.pid) for child in _workers(process)]
        self.own.append(own)
        self.workers.append(sum(now for now, _ in workers))
        self.worker_peak = max([self.worker_peak, *(peak for _, peak in workers)])


@contextmanager
def weighed(process: psutil.Process) -> Iterator[Memory]:
    """While the block runs; the kernel's account of the most begins anew with it."""
    found = Memory()
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    with watching(lambda: found.look(process), every=WEIGHED_EVERY_SECONDS, name="memory"):
        yield found
    found.look(process)


def _workers(process: psutil.Process) -> list[psutil.Process]:
    """Without those that are still as they were begotten, with their parent's memory."""
    found, own = [], process.cmdline()
    for child in process.children(recursive=True):
        try:
            if child.cmdline() != own:
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def _resident(pid: int) -> tuple[int, int]:
    """Now and at most; nothing where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    sizes = {
        name: int(rest.split()[0]) << 10
        for name, _, rest in (line.partition(":") for line in lines)
        if name in ("VmRSS", "VmHWM")
    }
    return sizes.get("VmRSS", 0), sizes.get("VmHWM", 0)
