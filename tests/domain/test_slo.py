"""The arithmetic of objectives, against numbers worked out by hand."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchbill.domain.slo import LONG_TO_SHORT, PAIRS, SHORTEST_SHORT, Budget, pairs_of
from watchbill.domain.units import parse_duration

MONTH = timedelta(days=30)
SCRAPE = timedelta(seconds=15)


def budget(objective: str, interval: str, window: str = "30d", checks: int = 1) -> Budget:
    return Budget(Decimal(objective), parse_duration(window), parse_duration(interval), checks)


@pytest.mark.parametrize(
    ("objective", "interval", "window", "failures", "resolved"),
    [
        ("99", "5m", "30d", "86.4", True),
        ("99.9", "60s", "30d", "43.2", True),
        ("99.9", "5m", "30d", "8.64", True),
        ("99.99", "60s", "30d", "4.32", True),
        ("99.99", "5m", "30d", "0.864", False),
        ("99.9", "5m", "7d", "2.016", True),
        ("99.99", "10s", "1d", "0.864", False),
        ("99.9", "30m", "30d", "1.44", False),
        ("99.9", "1296s", "30d", "2", True),
    ],
)
def test_what_allows_fewer_than_two_failures_is_not_resolved(
    objective: str, interval: str, window: str, failures: str, resolved: bool
) -> None:
    found = budget(objective, interval, window)
    assert (found.failures, found.resolved) == (Decimal(failures), resolved)


@pytest.mark.parametrize(
    ("objective", "interval", "checks", "each"),
    [
        ("99", "10s", 1, [52, 130, 260, 260]),
        ("99", "60s", 1, [9, 22, 44, 44]),
        ("99.9", "60s", 1, [1, 3, 5, 5]),
        ("99.9", "5m", 1, [1, 1, 1, 1]),
        ("99.99", "10s", 1, [1, 2, 3, 3]),
        ("99.9", "60s", 10, [9, 22, 44, 44]),
        ("95", "1h", 1, [1, 2, 4, 4]),  # 3.6 failures in a day, and more than that take 4
    ],
)
def test_so_many_failures_burn_faster_than_each_pair_allows(
    objective: str, interval: str, checks: int, each: list[int]
) -> None:
    assert [budget(objective, interval, checks=checks).failures_of(pair) for pair in pairs_of(MONTH)] == each


def test_a_threshold_that_is_met_exactly_takes_one_failure_more() -> None:
    assert budget("99", "36s").failures_of(PAIRS[3]) == 73  # 1 % of 7,200 slots are 72


@pytest.mark.parametrize(
    ("window", "each"),
    [
        ("30d", ["1h/5m", "6h/30m", "1d/2h", "3d/6h"]),
        ("7d", ["14m/1m10s", "1h24m/7m", "5h36m/28m", "16h48m/1h24m"]),
        ("90d", ["3h/15m", "18h/1h30m", "3d/6h", "9d/18h"]),
    ],
)
def test_windows_follow_that_of_the_objective(window: str, each: list[str]) -> None:
    assert [str(pair) for pair in pairs_of(parse_duration(window))] == each


@given(hours=st.integers(24, 366 * 24))
def test_each_pair_stands_for_the_same_share_of_any_budget(hours: int) -> None:
    window = timedelta(hours=hours)
    shares = [float(pair.factor) * (pair.long / window) for pair in pairs_of(window)]
    assert shares == pytest.approx([0.02, 0.05, 0.1, 0.1], rel=0.05)
    assert all(pair.long == LONG_TO_SHORT * pair.short for pair in pairs_of(window))


@pytest.mark.parametrize(
    ("objective", "interval", "scrape", "kept"),
    [
        ("99.9", "60s", "15s", ["1h/5m", "6h/30m", "1d/2h", "3d/6h"]),
        ("99.9", "75s", "15s", ["1h/5m", "6h/30m", "1d/2h", "3d/6h"]),
        ("99.9", "76s", "15s", ["6h/30m", "1d/2h", "3d/6h"]),
        ("99.9", "60s", "76s", ["6h/30m", "1d/2h", "3d/6h"]),
        ("99", "30m", "15s", ["1d/2h", "3d/6h"]),
        ("95", "2h", "15s", []),
        ("93", "60s", "15s", ["1h/5m", "6h/30m", "1d/2h", "3d/6h"]),  # 1.008 of all: never
    ],
)
def test_a_pair_that_intervals_or_scrapes_are_too_rare_for_is_left_out(
    objective: str, interval: str, scrape: str, kept: list[str]
) -> None:
    found = budget(objective, interval)
    left = [str(pair) for pair in pairs_of(MONTH) if not found.left_out(pair, parse_duration(scrape))]
    assert left == [pair for pair in kept if objective != "93" or pair != "1h/5m"]


def test_why_a_pair_is_left_out_is_said() -> None:
    assert budget("90", "60s").left_out(PAIRS[0], SCRAPE) == (
        "all of it failing burns 10 times the budget, never over 14.4"
    )
    assert budget("99", "5m").left_out(PAIRS[0], SCRAPE) == (
        "with the interval of 5m its short window is at least 20m, and the long one 12 times that"
    )
    assert "the scrape interval of 2m" in budget("99", "60s").left_out(PAIRS[0], timedelta(minutes=2))


@given(
    objective=st.decimals(1, Decimal("99.999"), places=3),
    interval=st.integers(1, 86_400),
    scrape=st.integers(1, 600),
    days=st.integers(1, 366),
)
def test_what_is_kept_keeps_the_distances(objective: Decimal, interval: int, scrape: int, days: int) -> None:
    found = Budget(objective, timedelta(days=days), timedelta(seconds=interval))
    for pair in pairs_of(found.window):
        if not found.left_out(pair, timedelta(seconds=scrape)):
            assert pair.short.total_seconds() >= SHORTEST_SHORT * max(interval, scrape)
            assert pair.long >= LONG_TO_SHORT * pair.short
            assert pair.factor * found.share < 1


@given(
    objective=st.decimals(1, Decimal("99.999"), places=3),
    interval=st.integers(1, 3600),
    checks=st.integers(1, 20),
)
def test_the_fewest_failures_burn_faster_than_the_factor_and_one_fewer_does_not(
    objective: Decimal, interval: int, checks: int
) -> None:
    found = Budget(objective, MONTH, timedelta(seconds=interval), checks)
    for pair in PAIRS:
        slots = checks * Decimal(int(pair.long.total_seconds())) / interval
        fewest = found.failures_of(pair)
        assert fewest > pair.factor * found.share * slots >= fewest - 1


def test_two_failures_of_the_month_are_their_share_of_the_budget() -> None:
    assert float(budget("99.9", "60s").share_of(2)) == pytest.approx(2 / 43.2)
    assert float(budget("99.9", "60s", checks=4).share_of(2)) == pytest.approx(2 / 43.2 / 4)
