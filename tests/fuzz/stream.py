"""A running exporter that is given one hostile configuration after the other, by request and by signal."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.exporter import Exporter, exporter, free_port
from tests.fuzz.case import ENVIRON, Case
from tests.metrics.states import series_of

KEEPERS = 5
SHARE_OF_SLOTS = 0.8
"""Of those that have passed, which must have been counted: on a busy machine some are counted late."""
MOST_BYTES = 400 << 20
HEARD_WITHIN_SECONDS = 20.0
"""A signal; the largest configuration takes some seconds to be refused."""
RELOADED = "watchbill_config_last_reload_successful"
_CLASHES = ("declared twice", "limits.min_interval")
"""Why what is valid alone may be refused beside the checks that were there before."""


@dataclass
class Stream:
    """What came of it; ``problems`` must stay empty."""

    refused: int = 0
    taken: int = 0
    clashed: int = 0
    by_signal: int = 0
    slots: int = 0
    memory_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return self.refused + self.taken + self.clashed


def run(folder: Path, cases: Sequence[tuple[Case, bool]]) -> Stream:
    """``cases``: each with whether it is valid alone; those that are valid ask nothing beyond this machine."""
    found, port = Stream(), free_port()
    config = folder / "config"
    config.mkdir(parents=True)
    keepers = (
        f"  keeper-{number}: {{type: tcp, host: 127.0.0.1, port: {port}, interval: 1s}}\n"
        for number in range(KEEPERS)
    )
    (config / "keepers.yaml").write_text("version: 1\nchecks:\n" + "".join(keepers))
    with exporter(config, folder / "run", port=port, environ=ENVIRON) as running:
        running.until("every keeper has a slot", lambda: min(_slots(running)) >= 1)
        began, before = time.monotonic(), _slots(running)
        for number, (case, valid) in enumerate(cases):
            _put(case, config / "fuzzed")
            try:
                _reload(running, case, found, valid=valid, by_signal=number % 4 == 2)
                before = _went_on(running, case, before, found)
            except (AssertionError, OSError) as error:  # it would say so of each that follows, too
                found.problems.append(f"{case.name}: {str(error).partition(chr(10))[0]}")
                return found
        passed = time.monotonic() - began
        _at_last(running, passed, found)
        if running.stop() != 0:
            found.problems.append("the exporter did not end with 0")
        log = running.log.read_text(errors="replace")
        if "Traceback" in log or '"exception"' in log:
            found.problems.append(f"a traceback was logged: {log[log.find('Traceback') :][:500]}")
    return found


def _put(case: Case, folder: Path) -> None:
    """As one step: the exporter reads what is there when it is told to."""
    aside = folder.parent.parent / "aside"
    case.write(aside)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def _reload(running: Exporter, case: Case, found: Stream, *, valid: bool, by_signal: bool) -> None:
    was, digest = _successful(running), _digest(running)
    # By signal, only a change shows that it was heard.
    if by_signal and was and not valid:
        found.by_signal += 1
        running.hang_up()
        running.until(
            "the metric is 0 after a signal for what is refused",
            lambda: _successful(running) != was,
            seconds=HEARD_WITHIN_SECONDS,
        )
        accepted, said = _successful(running), ""
    else:
        # After a large one that was taken, every smaller one deletes most of what runs.
        answer = running.request("/-/reload?allow_mass_delete=true", method="POST")
        accepted, said = answer.status == 200, answer.text
    if accepted != _successful(running):
        found.problems.append(f"{case.name}: the reload was {accepted}, the metric says otherwise")
    if not accepted and _digest(running) != digest:
        found.problems.append(f"{case.name}: refused, and yet another configuration runs")
    if accepted and not valid:
        found.problems.append(f"{case.name}: taken, though it is not valid")
    found.taken += accepted
    found.refused += not accepted and not valid
    if valid and not accepted:
        found.clashed += 1
        if not any(clash in said for clash in _CLASHES):
            found.problems.append(f"{case.name}: valid alone, and refused: {said[:300]}")


def _went_on(running: Exporter, case: Case, before: list[float], found: Stream) -> list[float]:
    """No keeper's counter is gone or went back, and the page can be read."""
    now = _slots(running)
    if len(now) != KEEPERS or any(later < earlier for earlier, later in zip(before, now, strict=False)):
        found.problems.append(
            f"{case.name}: slots of checks that were there before went from {before} to {now}"
        )
    return now


def _at_last(running: Exporter, passed: float, found: Stream) -> None:
    slots = _slots(running)
    found.slots = round(sum(slots))
    if min(slots) < SHARE_OF_SLOTS * passed - 1:
        found.problems.append(f"{slots} slots in {passed:.0f} s, one of which is due each second")
    report = running.request("/api/v1/report").json()
    if lost := sum(row["unaccounted"] for row in report["checks"]):
        found.problems.append(f"{lost} slots are unaccounted for")
    if errors := running.total("watchbill_handler_errors_total"):
        found.problems.append(f"{errors} handlers failed")
    found.memory_bytes = round(running.total("process_resident_memory_bytes"))
    if found.memory_bytes > MOST_BYTES:
        found.problems.append(f"the exporter holds {found.memory_bytes >> 20} MB")


def _slots(running: Exporter) -> list[float]:
    """Of each keeper, whatever came of them; the whole page is read on the way."""
    counted: dict[str, float] = {}
    for (name, labels), value in series_of(running.request("/metrics").text).items():
        check = dict(labels).get("check", "")
        if name == "watchbill_check_slots_total" and check.startswith("keeper-"):
            counted[check] = counted.get(check, 0) + value
    return [counted[check] for check in sorted(counted)]


def _successful(running: Exporter) -> bool:
    return running.total(RELOADED) == 1


def _digest(running: Exporter) -> str:
    return str(running.request("/api/v1/config").json()["digest"])
