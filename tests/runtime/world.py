"""An exporter among things that can be broken: a target on another network, its own name server, and a watcher.

It runs in namespaces of its own (network, mounts), so that routes, port 53 and resolv.conf are its own to break. The
target stands in a second network namespace at the other end of a cable.
"""

from __future__ import annotations

import ctypes
import http.client
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import psutil

from tests.exporter import Exporter, exporter
from tests.runtime.target import target
from tests.watching import watching
from watchbill.domain.results import OWN_SIDE

OURS, THEIRS, CABLE = "10.77.0.1", "10.77.0.2", "wb0"
HTTP, DNS, WEB = 8080, 53, 9876
ANSWERED_AFTER_SECONDS = 0.15
"""So that some probes are under way whenever a fault begins or ends."""
NAMESPACES = ("unshare", "--net", "--mount")
WAYS = {
    "http-by-name": "type: http, url: 'http://{id}.watch.test:8080/'",
    "http": "type: http, url: 'http://10.77.0.2:8080/'",
    "tcp-by-name": "type: tcp, host: '{id}.watch.test', port: 8080",
    "tcp": "type: tcp, host: 10.77.0.2, port: 8080",
    "dns": "type: dns, name: watch.test, server: '10.77.0.2:53'",
    "icmp": "type: icmp, host: 10.77.0.2",
}
CHECKS_OF_EACH = 6


def no_namespaces() -> str:
    """Why this user cannot have them; empty where it can."""
    try:
        run = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return str(error)
    return run.stderr.strip()


class Watcher:
    """Remembers what spoke against a target in any scrape: a gauge, or a counter that rose."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._down: set[str] = set()
        self._scrapes = 0
        self._before: dict[str, float] = {}

    def look(self, metrics: dict[str, float]) -> None:
        down = {
            name
            for name, value in metrics.items()
            if _is_down(name, value) or (_counts_failures(name) and value > self._before.get(name, 0.0))
        }
        self._before = metrics
        with self._lock:
            self._down |= down
            self._scrapes += 1

    def taken(self) -> tuple[list[str], int]:
        """The samples that say down since it was last asked, and of how many scrapes."""
        with self._lock:
            found = sorted(self._down), self._scrapes
            self._down, self._scrapes = set(), 0
        return found


@dataclass
class World:
    """``log``: of what was done to it, as (instant, what)."""

    folder: Path
    running: Exporter
    watcher: Watcher
    name_server: subprocess.Popen[str]
    checks: list[str]
    stack: ExitStack

    @property
    def pid(self) -> int:
        return self.running.process.pid

    def recovered(self, before: dict[str, float]) -> bool:
        """Every check has had a slot that succeeded since, over a new connection to the exporter."""
        now = successes(self.running)
        return all(now[check] > before[check] for check in self.checks)

    def start_name_server(self) -> None:
        self.name_server = self.stack.enter_context(target("--dns", str(DNS), "--address", THEIRS))


@contextmanager
def open_world(folder: Path, *, environ: dict[str, str] | None = None) -> Iterator[World]:
    """Call it within those namespaces."""
    checks = {f"{way}-{number}": text for way, text in WAYS.items() for number in range(CHECKS_OF_EACH)}
    lines = "".join(f"  {check}: {{{text.format(id=check)}}}\n" for check, text in checks.items())
    config = folder / "checks.yaml"
    config.write_text(f"version: 1\ndefaults: {{interval: 1s, timeout: 800ms}}\nchecks:\n{lines}")
    with ExitStack() as stack:
        stack.enter_context(_another_network())
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        _do("mount", "--bind", str(folder / "resolv.conf"), "/etc/resolv.conf")
        name_server = stack.enter_context(target("--dns", str(DNS), "--address", THEIRS))
        running = stack.enter_context(exporter(config, folder, port=WEB, environ=environ))
        world = World(folder, running, Watcher(), name_server, list(checks), stack)
        running.until("all is well", lambda: all(successes(running).get(check) for check in checks))
        stack.enter_context(watched(running, world.watcher))
        yield world


@contextmanager
def _another_network() -> Iterator[None]:
    _do("ip", "link", "set", "lo", "up")
    where = (
        "--host",
        "0.0.0.0",
        "--http",
        str(HTTP),
        "--after",
        str(ANSWERED_AFTER_SECONDS),
        "--dns",
        str(DNS),
    )
    with target(*where, prefix=("unshare", "--net")) as process:
        inside = ("nsenter", "--target", str(process.pid), "--net")
        _do("ip", "link", "add", CABLE, "type", "veth", "peer", "name", "wb1", "netns", str(process.pid))
        _do("ip", "addr", "add", f"{OURS}/24", "dev", CABLE)
        _do("ip", "link", "set", CABLE, "up")
        _do(*inside, "ip", "addr", "add", f"{THEIRS}/24", "dev", "wb1")
        _do(*inside, "ip", "link", "set", "wb1", "up")
        yield


@contextmanager
def watched(running: Exporter, watcher: Watcher) -> Iterator[None]:
    """Scrape over one connection that is kept, since no descriptor may be left for another."""
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=10)

    def look() -> None:
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            connection.close()  # and open a new one
        else:
            watcher.look(_samples(text))

    with closing(connection), watching(look, every=0.1, name="scrapes"):
        yield


def successes(running: Exporter) -> dict[str, float]:
    """Slots that succeeded, by check."""
    return {
        name.partition('check="')[2].partition('"')[0]: value
        for name, value in running.metrics().items()
        if name.startswith("watchbill_check_slots_total") and 'outcome="success"' in name
    }


def probed_since(running: Exporter, instant: int) -> bool:
    """Whether every check has begun a probe after it (in microseconds): what was due before has ended then."""
    family = "watchbill_check_last_result_timestamp_seconds{"
    begun = [value for name, value in running.metrics().items() if name.startswith(family)]
    return bool(begun) and min(begun) * 1e6 > instant


def _samples(text: str) -> dict[str, float]:
    pairs = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def _is_down(name: str, value: float) -> bool:
    family = name.partition("{")[0]
    return family in ("watchbill_check_status", "watchbill_service_status", "probe_success") and value < 1


def _counts_failures(name: str) -> bool:
    if name.startswith("watchbill_failures_total"):
        return not any(f'reason="{reason}"' in name for reason in OWN_SIDE)
    return name.startswith("watchbill_check_slots_total") and 'outcome="failure"' in name


# --- what can be done to it ---------------------------------------------------------------------------


def _do(*command: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)}: {run.stderr.strip()}")


def cable(*command: str) -> Callable[[World], None]:
    """An ``ip`` command."""
    return lambda _: _do("ip", *command)


SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17


def hold_main_thread(world: World) -> None:
    """Its event loop stands still; its other threads go on. Letting go is :func:`release_main_thread`.

    A tracer is a thread, so both calls must come from the same one.
    """
    _ptrace(SEIZE, world.pid)
    _ptrace(INTERRUPT, world.pid)
    process = psutil.Process(world.pid)
    while process.status() != psutil.STATUS_TRACING_STOP:
        time.sleep(0.001)


def release_main_thread(world: World) -> None:
    _ptrace(DETACH, world.pid)


def _ptrace(request: int, pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


def knock(world: World, times: int = 5) -> None:
    """New connections to the exporter, which it may not be able to take."""
    for _ in range(times):
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", WEB, timeout=0.1)
            with closing(connection):
                connection.request("GET", "/-/healthy")
                connection.getresponse()
