"""``python -m bench [SECTION...]``: what the probe path costs, beside blackbox_exporter's."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import machine, peer
from bench.declared import TYPES
from bench.sections import BY_DEFAULT, SECTIONS, Setting
from bench.tables import Table, written
from bench.targets import ROOT, open_targets

PAGE = ROOT / "docs/performance.md"


def main() -> int:
    parser = arguments()
    asked = parser.parse_args()
    if unknown := [section for section in asked.sections if section not in SECTIONS]:
        parser.error(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    machine.leave_measured_core()
    machine.prioritise(asked.nice)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        targets = stack.enter_context(open_targets())
        title = machine.described(peer.described())
        print(title, flush=True)
        for section in asked.sections or BY_DEFAULT:
            (folder / section).mkdir()
            for table in SECTIONS[section](Setting(folder / section, targets, asked)):
                print(f"\n{table.text()}\n", flush=True)
                if asked.write and table.name in BY_DEFAULT:
                    write(title, table)
    return 0


def write(title: str, table: Table) -> None:
    page = PAGE.read_text(encoding="utf-8")
    page = written(page, table.name, f"{table.markdown()}\n\nMeasured {title}.")
    PAGE.write_text(page, encoding="utf-8")


def arguments() -> argparse.ArgumentParser:
    def listed(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> list[int]:
        return [int(number) for number in listed(text)]

    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"of {', '.join(SECTIONS)}; without any, all but profile",
    )
    parser.add_argument("--types", type=listed, help=f"of {','.join(TYPES)}: ratios, profile")
    parser.add_argument("--rates", type=numbers, help="probes a second: ratios, profile")
    parser.add_argument("--runs", type=int, help="of each side: ratios")
    parser.add_argument("--seconds", type=float, help="of each window")
    parser.add_argument("--quick", action="store_true", help="one run, one rate, short windows")
    parser.add_argument("--nice", type=int, default=0, help="priority of all of it")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/performance.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
