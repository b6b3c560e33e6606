"""Burn-rate alerts beside the arithmetic: every objective and interval, over the longest window and more, and a month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path

import yaml

from tests.generate.burns import (
    NEVER,
    Cell,
    Ringing,
    Time,
    burning,
    by_arithmetic,
    by_promtool,
    down,
    numbers,
)
from tests.generate.many import many_checks, many_objectives
from tests.generate.objectives import promtool, write_rules, write_tests
from tests.proof import Claim
from watchbill.config import load
from watchbill.domain.errors import ConfigError
from watchbill.generate.asked import Asked
from watchbill.generate.slo_tests import slo_trials

OBJECTIVES, INTERVALS = (99, 99.9, 99.99), (10, 60, 300)
REFUSED = (99.99, 300)
HOUR, DAY = 3600, 86_400
MANY = 500
SCRAPES = {10: 30, 60: 60, 300: 60}
"""By interval. 30 s is the shortest of the usual that leaves three days within the 10,000 samples that promtool loads."""


@dataclass(frozen=True)
class Compared:
    cell: Cell
    time: Time
    meant: Ringing
    found: Ringing

    @property
    def off(self) -> float:
        """In seconds: how much earlier or later it began or ended. A minute too few is as bad as one too many."""
        ends = ((self.meant.first, self.found.first), (self.meant.last, self.found.last))
        return max(abs(meant - found) for meant, found in ends)

    @property
    def holds(self) -> bool:
        both = (self.meant.first == NEVER) == (self.found.first == NEVER)
        return both and self.off <= self.cell.bound

    def __str__(self) -> str:
        cell = self.cell
        return (
            f"{cell.objective:g} % at {cell.interval} s, {self.time.severity}: {self.meant} and {self.found}"
        )


def prove(folder: Path, *, full: bool) -> list[Claim]:
    return [
        _grid(folder / "grid", full=full),
        _phases(folder / "phases", full=full),
        _refused(folder / "refused"),
        *([_month(folder / "month"), _many(folder / "many")] if full else []),
    ]


def _grid(folder: Path, *, full: bool) -> Claim:
    """A quick look leaves out the days before, and what takes days to ring."""
    cells = [each for each in product(OBJECTIVES, INTERVALS) if each != REFUSED]
    chosen = cells if full else cells[:2]
    compared = [
        each
        for number, (objective, interval) in enumerate(chosen)
        for each in _cell(folder / str(number), objective, interval, full=full)
    ]
    days = "4.5 days" if full else "hours"
    return _claim(
        "Burn-rate alerts begin and end when the arithmetic says",
        f"{len(chosen)} objectives and intervals (99, 99.9 and 99.99 % at 10, 60 and 300 s), {days} each, a scrape every 30 or 60 s: "
        "a burn of 4, a burn of 8 and an outage",
        compared,
        rang=3 * len(chosen) if full else len(chosen),
    )


def _cell(folder: Path, objective: float, interval: int, *, full: bool) -> list[Compared]:
    """Two runs: one that rings the tickets slowly, and one that pages slowly, and then at once."""
    start = 3 * DAY if full else 7 * HOUR
    slow = _compared(
        Cell(
            objective,
            interval,
            start + DAY,
            burning(4, objective, since=start),
            phase=3,
            scrape=SCRAPES[interval],
        ),
        folder / "slow",
        [("critical", 0, DAY), ("warning", 0, DAY)],
        start,
    )
    burns, falls = burning(8, objective, since=start), down(start + 10 * HOUR, start + 11 * HOUR)

    def fails(number: int, at: float) -> bool:
        return (at < start + 8 * HOUR and burns(number, at)) or falls(number, at)

    times = [
        ("critical", 0, 10 * HOUR),
        ("critical", 10 * HOUR, 36 * HOUR),
        ("warning", 10 * HOUR, 12 * HOUR),
    ]
    fast = Cell(
        objective, interval, start + 14 * HOUR, fails, phase=7, scrape=SCRAPES[interval], scraped_at=10
    )
    if full:
        return slow + _compared(fast, folder / "fast", times, start)
    short = Cell(objective, interval, start + 12 * HOUR, fails, phase=7, scrape=SCRAPES[interval])
    return _compared(short, folder / "fast", [("critical", 10 * HOUR, 12 * HOUR)], start)


def _compared(cell: Cell, folder: Path, times: Sequence[tuple[str, int, int]], start: int) -> list[Compared]:
    spans = [Time(severity, start + since, start + until) for severity, since, until in times]  # type: ignore[arg-type]
    found = by_promtool(cell, folder, *spans)
    return [
        Compared(cell, time, by_arithmetic(cell, time), ringing)
        for time, ringing in zip(spans, found, strict=True)
    ]


def _phases(folder: Path, *, full: bool) -> Claim:
    """Where slots and scrapes fall between evaluations is chance, so every place is tried."""
    compared = []
    for phase, scraped_at in product(range(0, 60, 7 if full else 29), (0, 5, 10)):
        for interval in (10, 60):
            cell = Cell(
                99.9,
                interval,
                2 * HOUR,
                down(HOUR + 7, HOUR + 900),
                phase=phase % interval,
                scraped_at=scraped_at,
            )
            compared += _compared(cell, folder, [("critical", 0, HOUR)], HOUR)
    return _claim(
        "They do so wherever slots and scrapes fall between evaluations",
        f"99.9 % at 10 s and 60 s, a scrape every 15 s: {len(compared)} combinations",
        compared,
        rang=len(compared),
    )


def _refused(folder: Path) -> Claim:
    folder.mkdir(parents=True)
    text = (
        "version: 1\nchecks:\n  home: {type: icmp, host: 127.0.0.1, interval: 300s}\n"
        "slos:\n  home: {match: {check: home}, availability: 99.99%}\n"
    )
    (folder / "checks.yaml").write_text(text, encoding="utf-8")
    try:
        load(folder / "checks.yaml", environ={})
        said = "nothing"
    except ConfigError as error:
        said = str(error).replace(f"{folder}/", "")
    return Claim(
        "An objective that the interval cannot resolve is refused, with the reason and its place",
        "99.99 % at 300 s",
        said,
        "its line and column, and that fewer than two failures are allowed",
        said.startswith("checks.yaml:5:46: ") and "allows 0.86 failures of home" in said,
    )


def _month(folder: Path) -> Claim:
    """A scrape every 5 minutes, so that a month is within the 10,000 samples."""
    week = burning(2, 99.9, since=10 * DAY)
    outages = [(4 * DAY, 4 * DAY + HOUR), (6 * DAY, 6 * DAY + 400), (25 * DAY, 25 * DAY + 2 * HOUR)]

    def fails(number: int, at: float) -> bool:
        burning_week = at < 17 * DAY and week(number, at)
        return burning_week or any(start <= at < end for start, end in outages)

    cell = Cell(99.9, 300, 30 * DAY, fails, phase=11, scrape=300)
    times = [
        ("critical", 3 * DAY, 5 * DAY),
        ("critical", 10 * DAY, 17 * DAY),
        ("critical", 24 * DAY, 26 * DAY),
    ]
    times += [("warning", 3 * DAY, 5 * DAY), ("warning", 24 * DAY, 26 * DAY)]
    compared = _compared(cell, folder, times, 0)
    bad = sum(failed for _, failed in cell.slots)
    meant = 1 - bad / len(cell.slots)
    [good, left] = numbers(
        cell,
        folder,
        [("slo:watchbill_good:ratio", 30 * DAY), ("slo:watchbill_error_budget_remaining:ratio", 30 * DAY)],
    )
    claim = _claim(
        "Over 30 days alerts, the share of what was good and what is left of the budget are what the slots say",
        f"99.9 % at 300 s, {len(cell.slots):,} slots, {bad} of them bad: two outages, a blip and a week of a slow burn",
        compared,
        rang=4,
    )
    told = f"; good {good:.6f} of {meant:.6f}, budget left {left:.3f} of {1 - (1 - meant) / 0.001:.3f}"
    exact = abs(good - meant) < 1 / len(cell.slots)
    return Claim(
        claim.what, claim.tried, claim.found + told, f"{claim.wanted}; to one slot", claim.holds and exact
    )


def _many(folder: Path) -> Claim:
    folder.mkdir(parents=True)
    declared = many_checks(MANY)
    text = yaml.safe_dump({**declared, "slos": many_objectives(declared)})
    (folder / "checks.yaml").write_text(text, encoding="utf-8")
    config = load(folder / "checks.yaml", environ={}).config
    asked = Asked(scrape_interval=timedelta(minutes=2))
    trials = slo_trials(config, asked)
    write_rules(config, folder, asked)
    write_tests(trials, folder, asked)
    checked, said = promtool("check", "rules", "rules.yml", folder=folder)
    tested, told = promtool("test", "rules", "tests.yml", folder=folder)
    return Claim(
        "promtool accepts the rules of objectives over many checks, and the tests made beside them hold",
        f"{MANY} checks with intervals from 1 s to an hour, {len(config.slos)} objectives, {len(trials)} tests",
        "accepted, and they hold" if checked and tested else f"{said} {told}"[:500],
        "accepted, and they hold",
        checked and tested and len(trials) > 5,
    )


def _claim(what: str, tried: str, compared: Sequence[Compared], *, rang: int) -> Claim:
    wrong = [str(each) for each in compared if not each.holds]
    ringing = [each for each in compared if each.found.first != NEVER]
    worst = max(ringing, key=lambda each: each.off / each.cell.bound)
    return Claim(
        what,
        f"{tried}; {len(ringing)} times rang, {len(compared) - len(ringing)} did not",
        f"at most {worst.off:.0f} s off where {worst.cell.bound} s are allowed"
        + "".join(f"; {each}" for each in wrong[:5]),
        "an interval, a scrape and an evaluation at most",
        not wrong and len(ringing) >= rang,
    )
