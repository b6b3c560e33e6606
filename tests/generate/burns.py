"""When burn-rate alerts ring: by arithmetic over slots, and by promtool over the rules that were generated."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import pairwise
from math import gcd
from pathlib import Path

import yaml

from watchbill.domain.checks import parse_check
from watchbill.domain.config import Config
from watchbill.domain.objectives import Slo
from watchbill.domain.slo import FEWEST_FAILURES, Pair, Severity
from watchbill.generate.asked import Asked
from watchbill.generate.indicators import Indicator, indicators
from watchbill.generate.rules import rule_file
from watchbill.generate.slos import slo_groups

Fails = Callable[[int, float], bool]
"""(number of a slot, its second) -> whether it is a failure."""
GOT = re.compile(r"got:.* ([-+.0-9eE]+)\"?$", re.MULTILINE)
NEVER = -1.0
MOST_SAMPLES = 9_900
"""Of one series that a rule may read: promtool ends at 10,000."""


@dataclass(frozen=True)
class Cell:
    """One check with one objective, looked at for ``seconds``: when it is probed, scraped and how it fails.

    ``phase`` and ``scraped_at``: the second of the first slot, and of the first scrape; rules are evaluated at every multiple of ``scrape``.
    """

    objective: float
    interval: int
    seconds: int
    fails: Fails
    phase: int = 1
    scrape: int = 15
    scraped_at: int = 0
    window: str = "30d"

    @property
    def bound(self) -> int:
        """An interval, a scrape and an evaluation."""
        return self.interval + 2 * self.scrape

    @cached_property
    def config(self) -> Config:
        check = parse_check(
            {"id": "shop.home", "type": "icmp", "host": "127.0.0.1", "interval": f"{self.interval}s"}
        )
        slo = {"match": {"check": check.id}, "availability": self.objective, "window": self.window}
        return Config.model_construct(
            checks={check.id: check}, slos={"shop": Slo.model_validate(slo)}, services={}
        )

    @property
    def asked(self) -> Asked:
        return Asked(scrape_interval=timedelta(seconds=self.scrape))

    @property
    def indicator(self) -> Indicator:
        return indicators(self.config, self.asked)[0]

    @cached_property
    def slots(self) -> list[tuple[float, bool]]:
        times = range(self.phase, self.seconds + 1, self.interval)
        return [(at, self.fails(number, at)) for number, at in enumerate(times)]


@dataclass(frozen=True)
class Ringing:
    """The first and the last second of a time at which alerts of one severity fire; ``NEVER`` where they do not."""

    first: float
    last: float


@dataclass(frozen=True)
class Time:
    """Where to look for alerts of a severity: from one second to another."""

    severity: Severity
    since: int
    until: int


def by_arithmetic(cell: Cell, time: Time) -> Ringing:
    """From every slot as it ends and every slot as it leaves a window."""
    spans = [
        (max(start, time.since), min(end, time.until))
        for pair in cell.indicator.pairs(cell.asked.scrape_interval).get(time.severity, ())
        for start, end in _ringing(cell, pair)
        if start <= time.until and end > time.since
    ]
    return Ringing(
        min((start for start, _ in spans), default=NEVER), max((end for _, end in spans), default=NEVER)
    )


def _ringing(cell: Cell, pair: Pair) -> Iterator[tuple[float, float]]:
    threshold = float(pair.factor * cell.indicator.budget.share)
    lengths = [window.total_seconds() for window in (pair.long, pair.short)]
    changes = sorted(
        (at + delay, which, bad, sign)
        for at, bad in cell.slots
        for which, length in enumerate(lengths)
        for delay, sign in ((0.0, 1), (length, -1))
        if at + delay <= cell.seconds
    )
    bad, judged = [0, 0], [0, 0]
    for (at, which, failed, sign), (until, *_) in pairwise([*changes, (float(cell.seconds), 0, False, 0)]):
        judged[which] += sign
        bad[which] += sign * failed
        if until > at and bad[0] >= FEWEST_FAILURES and all(bad[i] > threshold * judged[i] for i in (0, 1)):
            yield at, until


def by_promtool(cell: Cell, folder: Path, *times: Time) -> list[Ringing]:
    """What the generated rules do, as promtool sees it."""
    found = numbers(
        cell, folder, [(_firing(cell, time, of), time.until) for time in times for of in ("min", "max")]
    )
    return [Ringing(*pair) for pair in zip(found[::2], found[1::2], strict=True)]


def numbers(cell: Cell, folder: Path, questions: Sequence[tuple[str, int]]) -> list[float]:
    """What expressions come to at a second. promtool is asked whether it is something else, and tells."""
    groups, _ = slo_groups(cell.config, cell.asked)
    if cell.seconds // cell.scrape > MOST_SAMPLES:
        groups = groups[:1]  # without what looks back on the whole month
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(rule_file(groups), encoding="utf-8")
    return [_number(said) for said in _answers(cell, folder, questions)]


def _firing(cell: Cell, time: Time, of: str) -> str:
    series = (
        f'ALERTS{{alertname="WatchbillErrorBudgetBurn", alertstate="firing", severity="{time.severity}"}}'
    )
    length = time.until - time.since
    return f"sum({of}_over_time(timestamp({series})[{length}s:{cell.scrape}s])) or vector({NEVER:g})"


def _answers(cell: Cell, folder: Path, questions: Sequence[tuple[str, int]]) -> list[str]:
    impossible = [{"labels": "{}", "value": -2}]
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{cell.scrape}s",
        "tests": [
            {
                **_scraped(cell),
                "promql_expr_test": [
                    {"expr": expr, "eval_time": f"{at}s", "exp_samples": impossible} for expr, at in questions
                ],
            }
        ],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(document, width=10**9), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    said = (done.stdout + done.stderr).split("expr:")[1:]
    assert len(said) == len(questions), done.stdout + done.stderr
    return said


def _number(said: str) -> float:
    found = GOT.search(said)
    assert found is not None, said
    return float(found[1])


def _scraped(cell: Cell) -> dict[str, object]:
    """Scrapes and evaluations need not coincide: between scrapes, ``_`` is nothing."""
    step = gcd(cell.scrape, cell.scraped_at)
    good: list[str] = []
    bad: list[str] = []
    counts, slots = [0, 0], iter([*cell.slots, (float("inf"), False)])
    at, failed = next(slots)
    for second in range(0, cell.seconds + 1, step):
        if second % cell.scrape != cell.scraped_at % cell.scrape:
            good.append("_")
            bad.append("_")
            continue
        while at <= second:
            counts[failed] += 1
            at, failed = next(slots)
        good.append(str(counts[0]))
        bad.append(str(counts[1]))
    name = 'watchbill_check_slots_total{check="shop.home", type="icmp", outcome='
    return {
        "interval": f"{step}s",
        "input_series": [
            {"series": f'{name}"success"}}', "values": " ".join(good)},
            {"series": f'{name}"failure"}}', "values": " ".join(bad)},
        ],
    }


def down(since: int, until: float = float("inf")) -> Fails:
    return lambda _, at: since <= at < until


def burning(rate: float, objective: float, *, since: int) -> Fails:
    """So much of it fails, spread evenly, that the budget burns at ``rate``."""
    share = rate * (100 - objective) / 100

    def fails(number: int, at: float) -> bool:
        return at >= since and int((number + 1) * share) > int(number * share)

    return fails
