"""Faults of the exporter's own side: descriptors, name servers, routes, stops, stalls, clocks.

None may show a target as down, and each must be over soon after it ends. Most run within namespaces, see
:mod:`tests.runtime.inside`; the clock has an exporter of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.proof import Claim
from tests.runtime import clocks
from tests.runtime.history import SECOND, History, Row, read
from tests.runtime.inside import FAULTS, Record
from tests.runtime.target import ROOT
from tests.runtime.world import NAMESPACES, no_namespaces

SEED = 3
ROUNDS = 5
QUICKLY = (
    "no descriptor left",
    "a deaf name server",
    "a name server without a way out",
    "no address",
    "a long stall of the event loop",
)
RECOVERED_WITHIN_SECONDS = 5.0
MOST_STARTS = 2
"""Of one check within its interval: the slot that is late, and the next one."""
GUARD_SECONDS = 1800


@dataclass(frozen=True)
class Suffered:
    """One life of an exporter and the faults in it."""

    checks: int
    code: int
    records: Sequence[Record]
    history: History

    def rows_of(self, fault: str) -> list[Row]:
        """The slots from just before such a fault, which it may have met under way, until all was well."""
        spans = [(each.begun - SECOND, each.recovered) for each in self.records if each.fault == fault]
        return [row for row in self.history.rows if any(begun <= row.slot < ended for begun, ended in spans)]


def prove(folder: Path, *, full: bool) -> list[Claim]:
    (folder / "faults").mkdir()
    (folder / "clocks").mkdir()
    missing = no_namespaces()
    if missing:
        return [_not_tried(missing), *clocks.prove(folder / "clocks", full=full)]
    answer = folder / "answer.json"
    rounds, only = (ROUNDS, ()) if full else (1, QUICKLY)
    command = [*NAMESPACES, sys.executable, "-m", "tests.runtime.inside", str(folder / "faults"), str(answer)]
    with subprocess.Popen([*command, str(rounds), str(SEED), *only], cwd=ROOT) as inside:
        try:
            of_clocks = clocks.prove(folder / "clocks", full=full)
            if inside.wait(GUARD_SECONDS):
                raise RuntimeError("the faults came to no end; what was printed says why")
        finally:
            inside.terminate()
    told = json.loads(answer.read_text())
    suffered = Suffered(
        told["checks"],
        told["code"],
        [Record(**record) for record in told["records"]],
        read(folder / "faults/history.duckdb"),
    )
    names = dict.fromkeys(record.fault for record in suffered.records)
    return [*(_claim(suffered, name, full=full) for name in names), *_of_all(suffered), *of_clocks]


def _not_tried(why: str) -> Claim:
    tried = f"nothing: {' '.join(NAMESPACES)} fails here ({why}); it needs root"
    return Claim("a fault of our own side shows no target as down", tried, "", "0", holds=False)


def _claim(suffered: Suffered, name: str, *, full: bool) -> Claim:
    records = [record for record in suffered.records if record.fault == name]
    outcomes = Counter(row.outcome for row in suffered.rows_of(name))
    errors = Counter(row.reason for row in suffered.rows_of(name) if row.outcome == "error")
    gaps = [
        gap for gap in suffered.history.gaps
        if gap[0] == "stall" and any(each.begun - SECOND <= gap[1] < each.recovered for each in records)
    ]  # fmt: skip
    reasons = FAULTS[name].reasons
    bitten = sum(errors[reason] for reason in reasons) + len(gaps) * ("stall" in reasons)
    lasted = [(each.ended - each.begun) / SECOND for each in records]
    recovery = max(each.recovered - each.ended for each in records) / SECOND
    down = sum(len(each.down) for each in records)
    scrapes = [each.scrapes for each in records]
    said = [f"{count} errors ({reason})" for reason, count in errors.items()] + [f"{len(gaps)} gaps"] * bool(
        gaps
    )
    return Claim(
        f"{name} shows no target as down",
        f"{len(records)} times, {min(lasted):.1f} to {max(lasted):.1f} s, {suffered.checks} checks, "
        f"{outcomes.total()} slots, {sum(scrapes)} scrapes; seed {SEED}",
        f"{outcomes['failure']} failures, {down} samples that say down; {', '.join(said) or 'no error'}; "
        f"all well after {recovery:.1f} s at most",
        f"0, 0; {RECOVERED_WITHIN_SECONDS:.0f} s",
        holds=bitten > 0
        and min(scrapes) > 0
        and not outcomes["failure"]
        and not down
        and (recovery <= RECOVERED_WITHIN_SECONDS or not full),
    )


def _of_all(suffered: Suffered) -> list[Claim]:
    history = suffered.history
    distinct = {(row.check, row.slot) for row in history.rows}
    failures = sum(row.outcome == "failure" for row in history.rows)
    starts = most_starts(history.rows)
    return [
        Claim(
            "every slot is accounted for through all of them, and none is a failure",
            f"{len(history.rows):,} slots, {len(history.gaps)} gaps, {len(suffered.records)} faults",
            f"{history.unaccounted} unaccounted, {len(history.rows) - len(distinct)} twice, {failures} failures; "
            f"exit code {suffered.code}",
            "0, 0, 0; 0",
            holds=bool(history.rows)
            and not history.unaccounted
            and not failures
            and len(distinct) == len(history.rows)
            and suffered.code == 0,
        ),
        Claim(
            "the schedule goes on without bursts",
            f"{len(history.rows):,} slots",
            f"{starts} starts of one check within its interval at most",
            f"{MOST_STARTS}",
            holds=0 < starts <= MOST_STARTS,
        ),
    ]


def most_starts(rows: Sequence[Row], *, interval: int = SECOND) -> int:
    """Of one check, within any stretch of time as long as its interval."""
    by_check: dict[str, list[int]] = {}
    for row in rows:
        if row.started_at is not None:
            by_check.setdefault(row.check, []).append(row.started_at)
    most = 0
    for starts in by_check.values():
        starts.sort()
        first = 0
        for index, start in enumerate(starts):
            while start - starts[first] >= interval:
                first += 1
            most = max(most, index - first + 1)
    return most
