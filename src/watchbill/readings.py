"""The numbers of one check at one instant: what ``/metrics`` shows, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from watchbill.board import CheckState, Histogram
from watchbill.domain.units import Instant

Pairs: TypeAlias = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One series of a family. ``own``: its labels beside those of the check."""

    family: str
    value: float
    own: Pairs = ()


class Observed(NamedTuple):
    """One histogram of a family."""

    family: str
    histogram: Histogram
    own: Pairs = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """``labels`` are those of every series, the declared ones too; ``target`` is one more of ``probe_*``.

    ``since``: from when on the check's slots were counted; ``observed_since``: its histograms.
    """

    labels: Mapping[str, str]
    declared: Mapping[str, str]
    target: str
    since: Instant
    observed_since: Instant
    samples: Sequence[Sample]
    histograms: Sequence[Observed]


Read: TypeAlias = Callable[[CheckState, Instant], Reading]
"""``read(state, now)``"""
