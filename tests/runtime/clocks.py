"""A wall clock that is set an hour forward, and back again, under a running exporter; then a restart in its past.

libfaketime stands between the exporter and the C library and moves CLOCK_REALTIME alone, as setting the clock does.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.exporter import Exporter, environment, exporter, free_port
from tests.proof import Claim
from tests.runtime.history import History, read
from tests.runtime.target import target
from tests.runtime.world import Watcher, successes, watched

HOUR = 3600
LOOKED_AT_SECONDS = 1
"""How soon the clock that was set is seen; looking at the file at each call is most of what a process does then."""
CHECKS = 20
_ASK = """
import sys, time
for line in sys.stdin:
    print(time.time(), time.monotonic(), flush=True)
"""


def library() -> Path | None:
    """Where Debian's package ``faketime`` has it."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


@dataclass
class Wall:
    """The wall clock of whatever runs with ``environ``."""

    file: Path

    def __post_init__(self) -> None:
        self.set(0)

    def set(self, seconds: int) -> None:
        """So much ahead of the real one."""
        aside = self.file.with_suffix(".new")
        aside.write_text(f"{seconds:+d}\n")
        aside.replace(self.file)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": str(LOOKED_AT_SECONDS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def jumps(self) -> tuple[float, float]:
        """What a process sees that asks before and after an hour was added: of its wall, of its monotonic clock."""
        with subprocess.Popen(
            [sys.executable, "-c", _ASK],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(self.environ),
        ) as asking:  # fmt: skip
            told, heard = asking.stdin, asking.stdout
            assert told is not None
            assert heard is not None

            def asked() -> tuple[float, float]:
                told.write("\n")
                told.flush()
                wall, monotonic = heard.readline().split()
                return float(wall), float(monotonic)

            before = after = asked()
            self.set(HOUR)
            for _ in range(LOOKED_AT_SECONDS * 4):
                time.sleep(0.5)
                after = asked()
                if after[0] - before[0] > HOUR / 2:
                    break
            told.close()
        self.set(0)
        return after[0] - before[0], after[1] - before[1]


@dataclass
class Findings:
    jumps: int = 0
    recovery_seconds: list[float] = field(default_factory=list)
    """From the moment at which the clock was set."""
    down: list[str] = field(default_factory=list)
    scrapes: int = 0
    codes: list[int] = field(default_factory=list)
    """With which the exporter ended, before its restart and at last."""


def prove(folder: Path, *, full: bool) -> list[Claim]:
    if library() is None:
        missing = "nothing: libfaketime is missing (apt-get install faketime)"
        return [
            Claim("a wall clock that jumps an hour shows no target as down", missing, "", "0", holds=False)
        ]
    wall = Wall(folder / "clock")
    moved, ran = wall.jumps()
    found, history = _run(folder, wall, rounds=3 if full else 1)
    return _claims(found, history, moved, ran, full=full)


def _run(folder: Path, wall: Wall, *, rounds: int) -> tuple[Findings, History]:
    found, port, config = Findings(), free_port(), folder / "checks.yaml"
    config.write_text(
        "version: 1\ndefaults: {interval: 1s, timeout: 800ms}\nchecks:\n"
        + "".join(
            f"  c{number}: {{type: http, url: 'http://127.0.0.1:{port}/'}}\n" for number in range(CHECKS)
        )
    )
    with target("--http", str(port), "--after", "0.1"):
        with exporter(config, folder, environ=wall.environ) as running:
            _until_well(running, {})
            with _seen(running, found):
                for number in range(rounds):
                    _jump_forward(running, wall, (number + 1) * HOUR, found)
                    _jump_back(running, wall, number * HOUR, found)
            found.codes.append(running.stop())
        # The history reaches an hour into the future of the clock that was set back.
        with exporter(config, folder, environ=wall.environ) as running:
            with _seen(running, found):
                _until_well(running, {})
            found.codes.append(running.stop())
    return found, read(running.storage)


@contextmanager
def _seen(running: Exporter, found: Findings) -> Iterator[None]:
    watcher = Watcher()
    with watched(running, watcher):
        yield
    down, scrapes = watcher.taken()
    found.down, found.scrapes = found.down + down, found.scrapes + scrapes


def _jump_forward(running: Exporter, wall: Wall, seconds: int, found: Findings) -> None:
    missed = _missed(running)
    begun = _set(wall, seconds)
    running.until("an hour was missed", lambda: _missed(running) > missed)
    _go_on(running, found, begun)


def _jump_back(running: Exporter, wall: Wall, seconds: int, found: Findings) -> None:
    begun = _set(wall, seconds)
    running.until("the timeline is ahead", lambda: running.total("watchbill_clock_drift_seconds") < -HOUR / 2)
    _go_on(running, found, begun)


def _set(wall: Wall, seconds: int) -> float:
    """Returns when."""
    wall.set(seconds)
    return time.monotonic()


def _missed(running: Exporter) -> float:
    return running.total("watchbill_check_slots_total", 'outcome="missed"')


def _go_on(running: Exporter, found: Findings, begun: float) -> None:
    _until_well(running, successes(running))
    found.jumps += 1
    found.recovery_seconds.append(time.monotonic() - begun)


def _until_well(running: Exporter, before: dict[str, float]) -> None:
    def well() -> bool:
        now = successes(running)
        return len(now) == CHECKS and all(value > before.get(check, 0.0) + 1 for check, value in now.items())

    running.until("every check has had two slots that succeeded", well)


def _claims(found: Findings, history: History, moved: float, ran: float, *, full: bool) -> list[Claim]:
    outcomes = [row.outcome for row in history.rows]
    gaps = [(ended - begun) / 1e6 for reason, begun, ended in history.gaps if reason == "clock"]
    forward = (found.jumps + 1) // 2
    hour = [gap for gap in gaps if abs(gap - HOUR) < 30]
    longest = max(found.recovery_seconds)
    return [
        Claim(
            "a wall clock that jumps an hour shows no target as down",
            f"{found.jumps} jumps, {forward} of them forward, and a restart an hour before its history; {CHECKS} checks, "
            f"{len(outcomes):,} slots, {found.scrapes} scrapes",
            f"{outcomes.count('failure')} failures, {len(found.down)} samples that say down, {outcomes.count('error')} errors; "
            f"noticed, and two more slots of each check, {longest:.1f} s after the clock was set at most",
            "0, 0; 5 s",
            holds=moved > HOUR - 60
            and ran < 60
            and outcomes.count("success") > CHECKS * found.jumps
            and "failure" not in outcomes
            and not found.down
            and found.scrapes > found.jumps
            and (longest <= 5 or not full),
        ),
        Claim(
            "a jump forward is a gap, a jump back repeats nothing",
            f"the same; a process beside it saw its wall clock move by {moved:.0f} s and its monotonic one by {ran:.1f} s",
            f"{len(hour)} gaps of an hour, {len(outcomes) - len(_distinct(history))} slots twice, "
            f"{history.unaccounted} unaccounted; exit codes {' and '.join(map(str, found.codes))}",
            f"{forward}, 0, 0; 0 and 0",
            holds=len(hour) == forward and len(outcomes) == len(_distinct(history)) and not history.unaccounted
            and found.codes == [0, 0],
        ),
    ]  # fmt: skip


def _distinct(history: History) -> set[tuple[str, int]]:
    return {(row.check, row.slot) for row in history.rows}
