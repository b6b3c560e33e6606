"""One exporter, ordinary checks, and every misbehaving target at once; then what history, the log and the kernel say.

The hostile checks are there from the beginning, at the same slots, but go to a server that behaves, which tells what the
ordinary checks' schedule delay is at equal load in one and the same process. Then they are declared as they are, but at
ports where nobody listens, which tells what memory they themselves take; then they go to their own targets, and back.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from tests.exporter import HANG_GUARD_SECONDS, Exporter, exporter, free_port
from tests.hostile.outside import Memory, Scrapes, Sight, scraped, weighed
from tests.hostile.targets import Target, Targets, targets
from watchbill.domain.units import SECOND, parse_duration, to_instant

ORDINARY, JUDGED = 40, 4
"""Checks beside the hostile ones; of so many the answer is judged by the workers that judge the hostile ones."""
_PORTS = re.compile(r'(?<=[\w.\]]:)\d{4,5}(?=["/?])|(?<="port": )\d+')
SETTLED_SECONDS = 1.0
"""After a reload: what it does itself is not what the targets do."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each part takes, in seconds. ``interval`` is the hostile checks', and the longest timeout of theirs;
    ``every`` second or third of the servers are met; ``refused``: for how many rounds nobody listens."""

    every: int
    interval: int
    refused: int
    calm: float
    attack: float
    after: float


@dataclass(frozen=True, slots=True)
class Run:
    """One probe as history has it; ``delay``, ``duration`` and ``stalled`` in seconds. ``seen``: how long after its slot
    a scrape showed it, and how long after its slot the last one began that did not."""

    check_id: str
    delay: float
    duration: float
    stalled: float
    reason: str
    outcome: str
    started: bool
    seen: tuple[float, float] | None


@dataclass
class Findings:
    hostile: Sequence[Target]
    timeouts: dict[str, float]
    calm: list[Run] = field(default_factory=list)
    attacked: list[Run] = field(default_factory=list)
    after: list[Run] = field(default_factory=list)
    quiet: Memory = field(default_factory=Memory)
    """Memory before the attack: every check is declared, was probed, and none met a hostile server yet."""
    strained: Memory = field(default_factory=Memory)
    """From just before the first of them was met until the end of the attack."""
    relieved: Memory = field(default_factory=Memory)
    descriptors: tuple[int, int] = (0, 0)
    """Before and after, without those that lead to workers."""
    scrapes: Scrapes = field(default_factory=Scrapes)
    log: list[str] = field(default_factory=list)
    ended: int = -1


def attack(folder: Path, pace: Pace) -> Findings:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "checks.yaml"
    with targets(pace.every) as there:
        found = Findings(
            there.hostile, {target.check_id: _timeout(target.check, pace) for target in there.hostile}
        )
        config.write_text(_declared(there, pace, hostile=False))
        with exporter(config, folder) as running:
            _attack(running, config, there, pace, found)
            found.ended = running.stop()
            found.log = running.log.read_text(errors="replace").splitlines()
    return found


def _attack(running: Exporter, config: Path, there: Targets, pace: Pace, found: Findings) -> None:
    process = psutil.Process(running.process.pid)
    with scraped(running) as found.scrapes:
        time.sleep(SETTLED_SECONDS)
        begun = time.time()
        time.sleep(pace.calm)
        calm, descriptors = (begun, time.time()), _descriptors(process)
        _reload(running, config, _refused(_declared(there, pace, hostile=True)))
        time.sleep(SETTLED_SECONDS)
        with weighed(process) as found.quiet:
            time.sleep(pace.interval * pace.refused)
        with weighed(process) as found.strained:
            _reload(running, config, _declared(there, pace, hostile=True))
            begun = time.time() + SETTLED_SECONDS
            time.sleep(SETTLED_SECONDS + pace.attack)
        attacked = (begun, time.time())
        _reload(running, config, _declared(there, pace, hostile=False))
        begun = time.time() + pace.interval + SETTLED_SECONDS
        with weighed(process) as found.relieved:
            time.sleep(pace.interval + SETTLED_SECONDS + pace.after)
        after = (begun, time.time())
    found.descriptors = (descriptors, _settled_descriptors(running, process, descriptors))
    running.until("history to be written", lambda: running.total("watchbill_history_pending") < 100)
    rows = [row for check_id in [*_ordinary(), *found.timeouts] for row in _rows(running, check_id)]
    found.calm, found.attacked, found.after = (
        [_run(row, found.scrapes) for row in rows if _within(row, *stretch)]
        for stretch in (calm, attacked, after)
    )


# --- the configuration --------------------------------------------------------------------------------


def _ordinary() -> list[str]:
    return [f"ordinary-{number}" for number in range(ORDINARY)]


def _timeout(check: dict[str, Any], pace: Pace) -> float:
    return min(parse_duration(check["timeout"]).total_seconds() if "timeout" in check else 5.0, pace.interval)


def _declared(there: Targets, pace: Pace, *, hostile: bool) -> str:
    """JSON, which is YAML."""
    timing: dict[str, Any] = {"interval": "1s", "timeout": "1s"}
    checks: dict[str, Any] = {name: {**there.good, **timing} for name in _ordinary()}
    checks |= {name: {**there.judged, **timing} for name in _ordinary()[:JUDGED]}
    for target in there.hostile:
        timing = {"interval": f"{pace.interval}s", "timeout": f"{_timeout(target.check, pace) * 1000:g}ms"}
        checks[target.check_id] = {**(target.check if hostile else there.good), **timing}
    return json.dumps({"version": 1, "checks": checks})


def _refused(declared: str) -> str:
    """The same checks, where nobody listens."""
    return _PORTS.sub(str(free_port()), declared)


def _reload(running: Exporter, config: Path, declared: str) -> None:
    aside = config.with_suffix(".new")
    aside.write_text(declared)
    aside.rename(config)
    answer = running.request("/-/reload", method="POST", seconds=HANG_GUARD_SECONDS)
    assert answer.status == 200, answer.text


# --- what is seen -------------------------------------------------------------------------------------


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


def _run(row: dict[str, Any], scrapes: Scrapes) -> Run:
    slot = _instant(row["slot"])
    started = _instant(row["started_at"] or row["slot"])
    return Run(
        row["check_id"],
        (started - slot) / SECOND,
        row["duration_seconds"] or 0.0,
        row.get("stalled_seconds") or 0.0,
        row["reason"] or "",
        row["outcome"],
        row["started_at"] is not None,
        _after(slot, scrapes.seen.get((row["check_id"], started))),
    )


def _after(slot: int, sight: Sight | None) -> tuple[float, float] | None:
    return None if sight is None else (sight.at - slot / SECOND, sight.not_before - slot / SECOND)


def delays(runs: Sequence[Run]) -> list[float]:
    """Of the ordinary checks, in milliseconds."""
    return [run.delay * 1000 for run in runs if run.check_id.startswith("ordinary-")]


def judged_seconds(runs: Sequence[Run]) -> list[float]:
    """For how long at least the results of ordinary checks that are judged aside were not to be seen once their probes had
    ended."""
    judged = _ordinary()[:JUDGED]
    return [
        max(0.0, run.seen[1] - run.delay - run.duration)
        for run in runs
        if run.check_id in judged and run.seen
    ]


def percentiles(milliseconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    return median(milliseconds), quantiles(milliseconds, n=100)[98]
