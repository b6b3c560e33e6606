"""``python -m tests.crash kill --n 200``: break it, look, and say what was found. Exits 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

ATTACKS = ("kill", "exporters", "powerloss", "diskfull", "corrupt")
"""Modules of this package with ``run(folder, n, *, seed)``, whose findings have ``problems`` and a ``summary()``."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("what", choices=ATTACKS)
    parser.add_argument("--n", type=int, default=30, help="how many kills, images, points or files")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    run: Callable[..., object] = import_module(f"tests.crash.{asked.what}").run
    with tempfile.TemporaryDirectory() as folder:
        found: object = run(Path(folder), asked.n, seed=asked.seed)
    print(found.summary())  # type: ignore[attr-defined]
    problems: list[str] = found.problems  # type: ignore[attr-defined]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
