"""Numbers of the bench: quantiles of samples and of histograms."""

from __future__ import annotations

import math

import pytest
from bench.numbers import histogram_quantile, quantile

BEFORE = {'lag_bucket{le="0.01"}': 10.0, 'lag_bucket{le="0.1"}': 10.0, 'lag_bucket{le="+Inf"}': 10.0}


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0, 2.0], 0.5, 1.0), ([1.0, 2.0], 0.99, 2.0), ([7.0], 0.01, 7.0)],
)
def test_a_quantile_is_one_of_the_values(values: list[float], share: float, found: float) -> None:
    assert quantile(values, share) == found


def test_nothing_has_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))


def test_a_histograms_quantile_is_of_what_lies_between_two_scrapes_and_tells_its_bound() -> None:
    after = {'lag_bucket{le="0.01"}': 14.0, 'lag_bucket{le="0.1"}': 20.0, 'lag_bucket{le="+Inf"}': 20.0}
    value, bound = histogram_quantile(BEFORE, after, "lag", 0.7)
    assert value == pytest.approx(0.01 + 0.09 / 2)
    assert bound == 0.1


def test_a_quantile_beyond_the_last_bound_says_so() -> None:
    after = {**BEFORE, 'lag_bucket{le="+Inf"}': 20.0}
    assert histogram_quantile(BEFORE, after, "lag", 0.5) == (0.1, math.inf)
