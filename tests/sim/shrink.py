"""A failing seed made small: fewer faults, fewer checks and less time that still break the same promise."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.sim.faults import KINDS
from tests.sim.seeds import Told
from tests.sim.world import Size

Simulate = Callable[[int, Size], Told]
SMALL = tuple((checks, seconds) for seconds in (120.0, 600.0) for checks in (2, 6))
SMALL_SEEDS = 40
MARGIN_SECONDS = 5.0
TRACE_LINES = 25


def shrink(told: Told, simulate: Simulate) -> Told:
    """The smallest that was found; at worst what was given."""
    promise = _kind(told.broken)

    def fails(seed: int, size: Size) -> Told | None:
        tried = simulate(seed, size)
        return tried if tried.broken is not None and _kind(tried.broken) == promise else None

    found = next((small for size in _small(told.size) if (small := _first(size, fails))), told)
    for smaller in (_without_faults, _with_fewer_checks):
        found = smaller(_cut(found, fails), fails)
    return _cut(found, fails)


def _kind(promise: str | None) -> str:
    """A promise without names and numbers."""
    return re.sub(r"[a-z]*\d[\d.]*", "#", promise or "")[:30]


def _small(size: Size) -> Iterator[Size]:
    for checks, seconds in SMALL:
        if checks < size.checks and seconds < size.seconds:
            yield replace(size, checks=checks, seconds=seconds)


def _first(size: Size, fails: Callable[[int, Size], Told | None]) -> Told | None:
    """Another seed may break the same promise in a small world."""
    return next((told for seed in range(SMALL_SEEDS) if (told := fails(seed, size))), None)


def _cut(told: Told, fails: Callable[[int, Size], Told | None]) -> Told:
    seconds = round(told.broken_after + MARGIN_SECONDS)
    if seconds >= told.size.seconds:
        return told
    return fails(told.seed, replace(told.size, seconds=float(seconds))) or told


def _without_faults(told: Told, fails: Callable[[int, Size], Told | None]) -> Told:
    for kind in sorted(KINDS):
        without = told.size.without | {kind}
        told = fails(told.seed, replace(told.size, without=without)) or told
    return told


def _with_fewer_checks(told: Told, fails: Callable[[int, Size], Told | None]) -> Told:
    for checks in (1, 2, 3, 5, 8, 12, 25):
        if checks < told.size.checks and (fewer := fails(told.seed, replace(told.size, checks=checks))):
            return fewer
    return told


def command(told: Told, *, plant: str | None = None) -> str:
    """What to type to see it again."""
    size = told.size
    words = ["python -m tests.sim --seeds 1", f"--first {told.seed}", f"--checks {size.checks}"]
    words += [f"--seconds {size.seconds:g}", f"--backend {size.backend}"]
    words += [f"--without {','.join(sorted(size.without))}"] if size.without else []
    words += ["--dense"] if size.dense else []
    words += [f"--plant {plant}"] if plant else []
    return " ".join(words)


def described(told: Told, *, plant: str | None = None) -> str:
    """The promise, the way to see it again, and what went before."""
    size = told.size
    lines = [
        f"seed {told.seed}, {size.checks} checks, {size.backend}, after {told.broken_after:.3f} s: {told.broken}",
        f"  again: {command(told, plant=plant)}",
        *(f"  | {line}" for line in told.trace[-TRACE_LINES:]),
    ]
    return "\n".join(lines)
