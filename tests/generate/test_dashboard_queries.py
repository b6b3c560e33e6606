"""What the queries of dashboards that compute something come to, by promtool."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.generate.boards import substituted
from watchbill.generate.dashboards.queries import (
    availability_over_time,
    first_failure,
    weighted_availability,
    weighted_coverage,
)

CHOSEN = 'job=~"w"'
WINDOW = {"__range": "10m", "window": "10m"}


def _slots(check: str, outcome: str, values: str, instance: str = "i") -> dict[str, str]:
    labels = f'job="w",instance="{instance}",check="{check}",service="shop",outcome="{outcome}"'
    return {"series": f"watchbill_check_slots_total{{{labels}}}", "values": values}


def _interval(check: str, values: str, instance: str = "i") -> dict[str, str]:
    labels = f'job="w",instance="{instance}",check="{check}",service="shop"'
    return {"series": f"watchbill_check_interval_seconds{{{labels}}}", "values": values}


# Each 10 seconds and always down, each minute and always up: half of the time, and a seventh of the slots.
FAST_DOWN_SLOW_UP = [
    _slots("fast", "failure", "0+6x20"), _slots("fast", "success", "0x20"), _interval("fast", "10x20"),
    _slots("slow", "success", "0+1x20"), _slots("slow", "failure", "0x20"), _interval("slow", "60x20"),
]  # fmt: skip
# The process that ran it is gone, and another at another address has its check.
MOVED = [
    _slots("one", "failure", "0+1x10 stale"), _slots("one", "success", "0x10 stale"), _interval("one", "60x10 stale"),
    _slots("one", "failure", "_x14 0x6", "k"), _slots("one", "success", "_x14 0+1x6", "k"), _interval("one", "_x14 60x6", "k"),
]  # fmt: skip
GONE = [
    _slots("one", "success", "0+3x10 stale"),
    _slots("one", "failure", "0+1x10 stale"),
    _interval("one", "15x10 stale"),
]
# Of ten slots that were due six have a verdict; what was excused was not meant to.
HALF_WATCHED = [
    _slots("one", "success", "0+6x20"), _slots("one", "error", "0+3x20"), _slots("one", "missed", "0+1x20"),
    _slots("one", "failure", "0x20"), _slots("one", "excused", "0+9x20"), _interval("one", "10x20"),
]  # fmt: skip
FAILING = (
    'watchbill_check_failing{job="w",check="%s",service="shop",type="tcp",location="eu",reason="refused"}'
)
FAILS = [
    # Since minute 5 but for one that it was well; since minute 19; until minute 10.
    {"series": FAILING % "long", "values": "_x5 1x6 stale 1x8"},
    {"series": FAILING % "new", "values": "_x19 1x3"},
    {"series": FAILING % "mended", "values": "1x10 stale"},
]
ROW = '{check="%s", service="shop", type="tcp", location="eu"}'


@pytest.mark.parametrize(
    ("series", "query", "wanted"),
    [
        (FAST_DOWN_SLOW_UP, weighted_availability(CHOSEN, "$__range"), {"{}": 0.5}),
        (FAST_DOWN_SLOW_UP, availability_over_time(CHOSEN, "$window", "service"), {'{service="shop"}': 0.5}),
        (MOVED, f"{weighted_availability(CHOSEN, '20m')} < bool 0.4", {"{}": 1}),
        (GONE, weighted_availability(CHOSEN, "20m"), {"{}": 0.75}),
        (MOVED, availability_over_time(CHOSEN, "5m", "service"), {'{service="shop"}': 1}),
        (HALF_WATCHED, weighted_coverage(CHOSEN, "$__range", "service"), {'{service="shop"}': 0.6}),
        (FAILS, first_failure(CHOSEN), {ROW % "long": 900, ROW % "new": 60}),
    ],
    ids=["interval weighs", "over time", "moved", "gone", "moved, over time", "coverage", "first failure"],
)
def test_a_query_comes_to_what_its_panel_says(
    series: list[dict[str, str]], query: str, wanted: dict[str, float], tmp_path: Path
) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (make test-deps)")
    # Debian's promtool compares exactly: in thousandths, as whole numbers.
    samples = [{"labels": labels, "value": round(1000 * value)} for labels, value in wanted.items()]
    expr = f"round(1000 * ({substituted(query, WINDOW)}))"
    asked = {"expr": expr, "eval_time": "20m", "exp_samples": samples}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [asked]}
    text = {"evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "tests.yml").write_text(json.dumps(text))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
