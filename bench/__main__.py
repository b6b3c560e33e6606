"""``python -m bench [SECTION...]``: what the probe path costs, beside blackbox_exporter's."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import hanging, latency, machine, peer, ratios, saturation, scale
from bench.declared import TYPES
from bench.tables import Table, written
from bench.targets import ROOT, Targets, open_targets

PAGE = ROOT / "docs/performance.md"


@dataclass(frozen=True)
class Setting:
    """Where a section works, and against what."""

    folder: Path
    targets: Targets
    asked: argparse.Namespace


def measure_ratios(setting: Setting) -> Table:
    asked = setting.asked
    cells = ratios.compare(
        setting.folder, setting.targets,
        kinds=asked.types, rates=asked.rates, runs=asked.runs, seconds=asked.seconds,
    )  # fmt: skip
    return ratios.table(cells)


def measure_scale(setting: Setting) -> Table:
    """10,000 checks every 10 s; the cost of one is compared at the same rate, with 1,000 checks every second."""
    seconds = setting.asked.seconds or 300
    steady = max(seconds / 5, 15)
    large = scale.loaded(
        setting.folder / "large", setting.targets, checks=10_000, interval=10, seconds=seconds, steady=steady
    )
    small = scale.loaded(
        setting.folder / "small", setting.targets, checks=1_000, interval=1, seconds=1, steady=steady
    )
    return scale.table(large, small)


def measure_saturation(setting: Setting) -> Table:
    setting.folder.mkdir()
    return saturation.measure(
        setting.folder, setting.targets, kind="http", seconds=setting.asked.seconds or 15
    )


def measure_hanging(setting: Setting) -> Table:
    return hanging.measure(setting.folder, setting.targets, seconds=setting.asked.seconds or 40)


def measure_latency(setting: Setting) -> Table:
    return latency.measure(setting.folder, seconds=setting.asked.seconds or 20)


SECTIONS: dict[str, Callable[[Setting], Table]] = {
    "ratios": measure_ratios,
    "saturation": measure_saturation,
    "scale": measure_scale,
    "hanging": measure_hanging,
    "latency": measure_latency,
}


def main() -> int:
    asked = arguments().parse_args()
    machine.leave_measured_core()
    machine.prioritise(asked.nice)
    tables = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        targets = stack.enter_context(open_targets())
        title = machine.described(peer.described())
        print(title, flush=True)
        for section in asked.sections or SECTIONS:
            tables.append(SECTIONS[section](Setting(folder / section, targets, asked)))
            print("\n" + tables[-1].markdown() + "\n", flush=True)
    if asked.write:
        write(title, tables)
    return 0


def write(title: str, tables: Iterable[Table]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for table in tables:
        page = written(page, table.name, f"{table.markdown()}\n\nMeasured {title}.")
    PAGE.write_text(page, encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    def listed(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default"
    )
    parser.add_argument("--types", type=listed, default=list(TYPES), help="such as http,tcp")
    parser.add_argument(
        "--rates", type=lambda text: [int(rate) for rate in listed(text)], default=[100, 500, 1000]
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, help="of each window; by default as long as the section needs"
    )
    parser.add_argument(
        "--nice", type=int, default=0, help="priority of all of it; below 0 where others work here too"
    )
    parser.add_argument("--write", action="store_true", help="write the tables into docs/performance.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
