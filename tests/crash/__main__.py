"""``python -m tests.crash kill --n 200``: break it, look, and say what was found. Exits 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

ATTACKS = ("kill", "exporters", "powerloss", "diskfull", "corrupt")
"""Modules of this package with ``run(folder, n, *, seed)``, which returns its findings."""


class Findings(Protocol):
    @property
    def problems(self) -> Sequence[str]: ...

    def summary(self) -> str: ...


class Attack(Protocol):
    def __call__(self, folder: Path, n: int, /, *, seed: int) -> Findings: ...


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("what", choices=ATTACKS)
    parser.add_argument("--n", type=int, default=30, help="how many kills, images, points or files")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    run: Attack = import_module(f"tests.crash.{asked.what}").run
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), asked.n, seed=asked.seed)
    print(found.summary())
    for problem in found.problems:
        print(problem)
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
