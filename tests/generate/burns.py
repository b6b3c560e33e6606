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
    """The first and the last second at which alerts of one severity fire; ``NEVER`` where they do not."""

    first: float
    last: float


def by_arithmetic(cell: Cell, severity: Severity) -> Ringing:
    """From every slot as it ends and every slot as it leaves a window."""
    spans = [
        span
        for pair in cell.indicator.pairs(cell.asked.scrape_interval).get(severity, ())
        for span in _ringing(cell, pair)
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


def by_promtool(cell: Cell, folder: Path) -> dict[Severity, Ringing]:
    """What the generated rules do, as promtool sees it: it is asked what they are not, and tells what they are."""
    groups, _ = slo_groups(cell.config, cell.asked)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(rule_file(groups), encoding="utf-8")
    asked: list[tuple[Severity, str]] = [
        (severity, of) for severity in ("critical", "warning") for of in ("min", "max")
    ]
    found = [
        _number(output)
        for output in _answers(cell, folder, [_firing(cell, severity, of) for severity, of in asked])
    ]
    times = dict(zip(asked, found, strict=True))
    return {
        severity: Ringing(times[severity, "min"], times[severity, "max"])
        for severity in ("critical", "warning")
    }


def _firing(cell: Cell, severity: str, of: str) -> str:
    series = f'ALERTS{{alertname="WatchbillErrorBudgetBurn", alertstate="firing", severity="{severity}"}}'
    return f"sum({of}_over_time(timestamp({series})[{cell.seconds}s:{cell.scrape}s])) or vector({NEVER:g})"


def _answers(cell: Cell, folder: Path, expressions: Sequence[str]) -> list[str]:
    impossible = [{"labels": "{}", "value": -2}]
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{cell.scrape}s",
        "tests": [
            {
                **_scraped(cell),
                "promql_expr_test": [
                    {"expr": expr, "eval_time": f"{cell.seconds}s", "exp_samples": impossible}
                    for expr in expressions
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
        timeout=300,
    )
    said = (done.stdout + done.stderr).split("expr:")[1:]
    assert len(said) == len(expressions), done.stdout + done.stderr
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
