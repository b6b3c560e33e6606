"""One exporter, ordinary checks, and every misbehaving target at once; then what history, the log and the kernel say.

The hostile checks are there from the beginning, at the same slots, but go to a server that behaves; then to their own
targets, by a reload; then back. So the ordinary checks' schedule delay is compared at equal load in one and the same
process.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from tests.exporter import HANG_GUARD_SECONDS, Exporter, exporter
from tests.hostile.targets import Target, Targets, targets
from watchbill.domain.units import SECOND, parse_duration, to_instant

ORDINARY = 40
SAMPLED_EVERY_SECONDS = 0.2
SETTLED_SECONDS = 1.0
"""After a reload: what it does itself is not what the targets do."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each part takes, in seconds. ``interval`` is the hostile checks', and the longest timeout of theirs;
    ``every`` second or third of the servers are met."""

    every: int
    interval: int
    calm: float
    warm_up: float
    attack: float
    after: float


@dataclass(frozen=True, slots=True)
class Run:
    """One probe as history has it; ``delay``, ``duration`` and ``stalled`` in seconds."""

    check_id: str
    delay: float
    duration: float
    stalled: float
    reason: str
    outcome: str


@dataclass
class Findings:
    """Memory in bytes, of the exporter and of its workers together."""

    hostile: Sequence[Target] = ()
    calm: list[Run] = field(default_factory=list)
    attacked: list[Run] = field(default_factory=list)
    after: list[Run] = field(default_factory=list)
    timeouts: dict[str, float] = field(default_factory=dict)
    warming: list[tuple[int, int]] = field(default_factory=list)
    memory: list[tuple[int, int]] = field(default_factory=list)
    descriptors: tuple[int, int] = (0, 0)
    """Before and after, without those that lead to workers."""
    log: list[str] = field(default_factory=list)
    ended: int = 0


def attack(folder: Path, pace: Pace) -> Findings:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "checks.yaml"
    with targets(pace.every) as there:
        config.write_text(_declared(there, pace, hostile=False))
        with exporter(config, folder) as running:
            return _attack(running, config, there, pace)


def _attack(running: Exporter, config: Path, there: Targets, pace: Pace) -> Findings:
    found = Findings(there.hostile)
    found.timeouts = {target.check_id: _timeout(target.check, pace) for target in there.hostile}
    process = psutil.Process(running.process.pid)
    begun = time.time() + SETTLED_SECONDS
    time.sleep(SETTLED_SECONDS + pace.calm)
    descriptors = _descriptors(process)
    calm = (begun, time.time())
    _reload(running, config, _declared(there, pace, hostile=True))
    with _sampled(process, found.warming):
        time.sleep(pace.warm_up)
    begun = time.time()
    with _sampled(process, found.memory):
        time.sleep(pace.attack)
    attacked = (begun, time.time())
    _reload(running, config, _declared(there, pace, hostile=False))
    begun = time.time() + pace.interval + SETTLED_SECONDS
    time.sleep(pace.interval + SETTLED_SECONDS + pace.after)
    after = (begun, time.time())
    found.descriptors = (descriptors, _settled_descriptors(running, process, descriptors))
    ids = [*_ordinary(), *found.timeouts]
    running.until("history to be written", lambda: running.total("watchbill_history_pending") < 100)
    runs = [row for check_id in ids for row in _rows(running, check_id)]
    found.calm, found.attacked, found.after = (
        [_run(row) for row in runs if _within(row, *stretch)] for stretch in (calm, attacked, after)
    )
    found.ended = running.stop()
    found.log = running.log.read_text(errors="replace").splitlines()
    return found


# --- the configuration --------------------------------------------------------------------------------


def _ordinary() -> list[str]:
    return [f"ordinary-{number}" for number in range(ORDINARY)]


def _timeout(check: dict[str, Any], pace: Pace) -> float:
    return min(parse_duration(check["timeout"]).total_seconds() if "timeout" in check else 5.0, pace.interval)


def _declared(there: Targets, pace: Pace, *, hostile: bool) -> str:
    """JSON, which is YAML."""
    good = {"type": "http", "url": there.good}
    checks: dict[str, Any] = {name: {**good, "interval": "1s", "timeout": "1s"} for name in _ordinary()}
    for target in there.hostile:
        timing = {"interval": f"{pace.interval}s", "timeout": f"{_timeout(target.check, pace) * 1000:g}ms"}
        checks[target.check_id] = {**(target.check if hostile else good), **timing}
    return json.dumps({"version": 1, "checks": checks})


def _reload(running: Exporter, config: Path, declared: str) -> None:
    aside = config.with_suffix(".new")
    aside.write_text(declared)
    aside.rename(config)
    answer = running.request("/-/reload", method="POST", seconds=HANG_GUARD_SECONDS)
    assert answer.status == 200, answer.text


# --- what is seen -------------------------------------------------------------------------------------


@contextmanager
def _sampled(process: psutil.Process, into: list[tuple[int, int]]) -> Iterator[None]:
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLED_EVERY_SECONDS):
            workers = sum(map(_resident, process.children(recursive=True)))
            into.append((_resident(process), workers))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _settled_descriptors(running: Exporter, process: psutil.Process, before: int) -> int:
    with suppress(AssertionError):
        running.until("descriptors as before", lambda: _descriptors(process) <= before, seconds=15)
    return _descriptors(process)


def _descriptors(process: psutil.Process) -> int:
    return process.num_fds() - len(process.children())


def _rows(running: Exporter, check_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = running.request(f"/api/v1/checks/{check_id}/results?limit=10000").json()[
        "results"
    ]
    return [row for row in rows if row["trigger"] == "schedule"]


def _instant(text: str) -> int:
    return to_instant(datetime.fromisoformat(text))


def _within(row: dict[str, Any], begun: float, ended: float) -> bool:
    """Due in that stretch, and done with in it whatever it takes."""
    return begun * SECOND <= _instant(row["slot"]) <= (ended - 0.2) * SECOND


def _run(row: dict[str, Any]) -> Run:
    return Run(
        row["check_id"],
        (_instant(row["started_at"] or row["slot"]) - _instant(row["slot"])) / SECOND,
        row["duration_seconds"] or 0.0,
        row.get("stalled_seconds") or 0.0,
        row["reason"] or "",
        row["outcome"],
    )


def percentiles(runs: Sequence[Run]) -> tuple[float, float]:
    """p50 and p99 of the ordinary checks' delay, in milliseconds."""
    delays = [run.delay * 1000 for run in runs if run.check_id.startswith("ordinary-")]
    return median(delays), quantiles(delays, n=100)[98]
