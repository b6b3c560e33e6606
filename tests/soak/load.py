"""What a soak watches: ten thousand checks of which some hang and some flap, and a file that keeps changing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from bench.declared import CHECKS
from bench.servers import HOST
from bench.targets import Targets

from bench import declared
from tests.exporter import Exporter
from tests.watching import watching

HANGING_SHARE = FLAPPING_SHARE = 0.05
CHANGED_SHARE = 0.01
FLAPS_EVERY_SECONDS = 20.0
TIMEOUT_SECONDS = 2


@dataclass(frozen=True)
class Soak:
    """How much of it. The steady part of it is measured: after the warm-up, until the end."""

    checks: int = 10_000
    interval_seconds: int = 30
    seconds: float = 1200.0
    scrape_seconds: float = 15.0
    reload_seconds: float = 60.0
    warm_up_seconds: float = 120.0
    growth_share: float = 0.05
    """How much more memory there may be at its end than at its beginning. A short run has not settled."""


def short(minutes: float, **other: int) -> Soak:
    """One of some minutes."""
    return Soak(seconds=minutes * 60, warm_up_seconds=minutes * 20, growth_share=0.2, **other)


@dataclass
class Load:
    """The declaration; ``ids`` are those of all checks, which stay, however often some of them change."""

    soak: Soak
    file: Path
    checks: dict[str, str] = field(default_factory=dict)
    reloads: int = 0
    """That were asked for."""

    @property
    def ids(self) -> list[str]:
        return list(self.checks)

    def write(self) -> None:
        declared.write(self.file, self.checks, interval=f"{self.soak.interval_seconds}s")


def a_load(soak: Soak, file: Path, targets: Targets, *, silent: int, flapping: int) -> Load:
    hanging = round(soak.checks * HANGING_SHARE)
    flaps = round(soak.checks * FLAPPING_SHARE)
    good = [CHECKS["http"](targets), CHECKS["tcp"](targets)]
    hangs = f"type: tcp, host: {HOST}, port: {silent}, expect: {{response: {{contains: never}}}}"
    texts = [
        *islice(cycle(good), soak.checks - hanging - flaps),
        *[hangs] * hanging,
        *[f"type: tcp, host: {HOST}, port: {flapping}"] * flaps,
    ]
    checks = {f"c{number}": f"{text}, timeout: {TIMEOUT_SECONDS}s" for number, text in enumerate(texts)}
    load = Load(soak, file, checks)
    load.write()
    return load


@contextmanager
def reloading(running: Exporter, load: Load) -> Iterator[None]:
    """Each time the next hundredth of the checks gets another description, and the exporter a SIGHUP."""
    plain, names = dict(load.checks), cycle(load.ids)

    beats = cycle((True, False))  # the first after half the time

    def reload() -> None:
        if not next(beats):
            return
        load.reloads += 1
        for name in islice(names, max(round(len(plain) * CHANGED_SHARE), 1)):
            load.checks[name] = f"{plain[name]}, description: change {load.reloads}"
        load.write()
        running.hang_up()

    with watching(reload, every=load.soak.reload_seconds / 2, name="configuration"):
        yield


@contextmanager
def flapping(port: int, *, every: float = FLAPS_EVERY_SECONDS) -> Iterator[None]:
    """A listener on that port which is there, and then is not, and so on. Who connects is heard and let go."""
    done = threading.Event()

    def flap() -> None:
        """There for so long, and then away for so long."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
            listener.listen(4096)
            _accept(listener, done, every)
        done.wait(every)

    with watching(flap, every=0.01, name="flapping target"):
        try:
            yield
        finally:
            done.set()


def _accept(listener: socket.socket, done: threading.Event, seconds: float) -> None:
    listener.settimeout(0.2)
    until = time.monotonic() + seconds
    while time.monotonic() < until and not done.is_set():
        with suppress(TimeoutError, ConnectionError):
            listener.accept()[0].close()
