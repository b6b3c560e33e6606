"""What may not grow while a soak goes on, looked at with every scrape."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from bench.numbers import Samples
from bench.ours import exposition

from tests.exporter import Exporter
from tests.watching import watching

FAMILIES = (
    "watchbill_event_loop_lag_seconds", "watchbill_history_", "watchbill_log_dropped_total",
    "watchbill_probes_running", "watchbill_handler_errors_total",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One look: bytes, counts, and the exporter's own families without those of checks."""

    at: float
    rss_bytes: int
    descriptors: int
    threads: int
    log_bytes: int
    scrape_seconds: float
    own: Samples


@dataclass
class Watched:
    """All looks in their order."""

    samples: list[Sample] = field(default_factory=list)
    failed: int = 0

    def since(self, instant: float) -> list[Sample]:
        return [sample for sample in self.samples if sample.at >= instant]


@contextmanager
def watched(running: Exporter, *, every: float) -> Iterator[Watched]:
    """A scrape that fails is counted; anything else that keeps it from looking ends the run.

    :raises RuntimeError: at the end of the block, see :func:`~tests.watching.watching`.
    """
    found = Watched()

    def look() -> None:
        try:
            found.samples.append(_look(running))
        except OSError:
            found.failed += 1

    with watching(look, every=every, name="exporter"):
        yield found


def _look(running: Exporter) -> Sample:
    begun = time.monotonic()
    body = exposition(running)
    took = time.monotonic() - begun
    own = {}
    for line in body.splitlines():
        if line.startswith(tuple(family.encode() for family in FAMILIES)):
            name, _, value = line.decode().rpartition(" ")
            own[name] = float(value)
    process = psutil.Process(running.process.pid)
    return Sample(
        at=time.time(),
        rss_bytes=process.memory_info().rss,
        descriptors=process.num_fds(),
        threads=process.num_threads(),
        log_bytes=Path(running.log).stat().st_size,
        scrape_seconds=took,
        own=own,
    )


def drift(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """From the median of the first third to that of the last: a single peak is no growth."""
    third = max(len(samples) // 3, 1)
    return statistics.median(map(of, samples[-third:])) - statistics.median(map(of, samples[:third]))


def slope_per_hour(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """By least squares; 0 of one sample."""
    if len(samples) < 2:
        return 0.0
    fitted = statistics.linear_regression(
        [sample.at for sample in samples], [of(sample) for sample in samples]
    )
    return fitted.slope * 3600
