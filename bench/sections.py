"""The sections of the bench: each measures one thing and tells it in tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from bench import floor, hanging, hostile, latency, phases, profile, ratios, saturation, scale
from bench.declared import TYPES
from bench.tables import Table
from bench.targets import Targets

RATES = (100, 500, 1000)


@dataclass(frozen=True)
class Setting:
    """Where a section works, and against what."""

    folder: Path
    targets: Targets
    asked: argparse.Namespace

    def seconds(self, usual: float, quick: float) -> float:
        """Of a window."""
        return self.asked.seconds or (quick if self.asked.quick else usual)


def measure_ratios(setting: Setting) -> Sequence[Table]:
    asked = setting.asked
    runs = asked.runs or (1 if asked.quick else 5)
    cells = ratios.compare(
        setting.folder,
        setting.targets,
        kinds=asked.types or TYPES,
        rates=asked.rates or (RATES[1:2] if asked.quick else RATES),
        runs=runs,
        seconds=asked.seconds,
    )
    rest = ratios.at_rest(setting.folder / "rest", setting.targets, seconds=10)
    return [ratios.table(cells, f"Medians of {runs} alternating runs of each. {rest}")]


def measure_floor(setting: Setting) -> Sequence[Table]:
    """Where the ratio that is wanted is not reached: TCP at the lowest rate."""
    runs = setting.asked.runs or (1 if setting.asked.quick else 5)
    seconds = setting.seconds(8, quick=8)
    return [floor.measure(setting.folder, setting.targets, rate=RATES[0], runs=runs, seconds=seconds)]


def measure_scale(setting: Setting) -> Sequence[Table]:
    """10,000 checks every 10 s; then the cost of one beside that of 1,000 checks every second, both at once."""
    many = scale.loaded(
        setting.folder / "large",
        setting.targets,
        checks=10_000,
        interval=10,
        seconds=setting.seconds(300, quick=40),
    )
    windows = 1 if setting.asked.quick else 5
    costs = scale.compared(setting.folder, setting.targets, checks=10_000, interval=10, windows=windows)
    return [scale.table(many, costs)]


def measure_saturation(setting: Setting) -> Sequence[Table]:
    seconds = setting.seconds(15, quick=8)
    return [saturation.measure(setting.folder, setting.targets, kind="http", seconds=seconds)]


def measure_hanging(setting: Setting) -> Sequence[Table]:
    return [hanging.measure(setting.folder, setting.targets, seconds=setting.seconds(40, quick=10))]


def measure_latency(setting: Setting) -> Sequence[Table]:
    return [latency.measure(setting.folder, seconds=setting.seconds(20, quick=10))]


def measure_hostile(setting: Setting) -> Sequence[Table]:
    return [hostile.measure()]


def measure_phases(setting: Setting) -> Sequence[Table]:
    return [phases.table(anyio.run(phases.measure_all, 5, backend_options={"use_uvloop": True}))]


def measure_profile(setting: Setting) -> Sequence[Table]:
    asked = setting.asked
    return [
        table
        for kind in asked.types or ["http"]
        for rate in asked.rates or [500]
        for table in profile.measure(
            setting.folder / f"{kind}-{rate}",
            setting.targets,
            kind=kind,
            rate=rate,
            seconds=setting.seconds(10, quick=5),
        )
    ]


SECTIONS: dict[str, Callable[[Setting], Sequence[Table]]] = {
    "ratios": measure_ratios,
    "floor": measure_floor,
    "saturation": measure_saturation,
    "scale": measure_scale,
    "hanging": measure_hanging,
    "latency": measure_latency,
    "phases": measure_phases,
    "hostile": measure_hostile,
    "profile": measure_profile,
}
BY_DEFAULT = tuple(name for name in SECTIONS if name != "profile")
