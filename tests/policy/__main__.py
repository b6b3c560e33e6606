"""``python -m tests.policy [secrets|reach|calls|dependencies]``: all or some of it in full. Exits 1 where a claim does not hold."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.policy import calls, dependencies, reach, secrets
from tests.proof import Claim

SECTIONS: dict[str, Callable[..., list[Claim]]] = {
    "secrets": secrets.prove,
    "reach": reach.prove,
    "calls": calls.prove,
    "dependencies": dependencies.prove,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.policy", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"of {', '.join(SECTIONS)}; by default all")
    parser.add_argument("--quick", action="store_true", help="as in make test")
    parser.add_argument("--seed", type=int, default=1, help="which of the ways a quick reach takes")
    asked = parser.parse_args()
    if unknown := set(asked.what) - SECTIONS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    provers = SECTIONS | {"reach": partial(reach.prove, seed=asked.seed)}
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.what or SECTIONS:
            found = provers[name](Path(folder) / name, full=not asked.quick)
            claims += found
            for claim in found:
                word = "holds " if claim.holds else "BROKEN"
                print(f"{word} {claim.what}: {claim.tried} -> {claim.found}", flush=True)
    return int(not all(claim.holds for claim in claims))


if __name__ == "__main__":
    sys.exit(main())
