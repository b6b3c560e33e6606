"""Numbers from samples and from histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Samples = Mapping[str, float]
"""A scrape: the full name of each sample and its value."""


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed; NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def histogram_quantile(before: Samples, after: Samples, family: str, share: float) -> tuple[float, float]:
    """What lies between two scrapes: interpolated within its bucket as Prometheus does, and that bucket's bound."""
    buckets = sorted(
        (float(name.partition('le="')[2].partition('"')[0]), value - before.get(name, 0))
        for name, value in after.items()
        if name.startswith(family + "_bucket")
    )
    rank, low, counted = share * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            inside = low + (bound - low) * (rank - counted) / max(count - counted, 1)
            return (low if math.isinf(bound) else inside), bound
        low, counted = bound, count
    return math.nan, math.nan
