"""``python -m tests.soak --minutes 20``: run for long, and say what grew. Exits 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.soak.load import Soak, short
from tests.soak.proof import claims, soaked


def main() -> int:
    usual = Soak()
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=usual.seconds / 60)
    parser.add_argument("--checks", type=int, default=usual.checks)
    parser.add_argument("--interval", type=int, default=usual.interval_seconds, help="seconds")
    asked = parser.parse_args()
    declared = {"checks": asked.checks, "interval_seconds": asked.interval}
    soak = (
        short(asked.minutes, **declared)
        if asked.minutes < 10
        else Soak(seconds=asked.minutes * 60, **declared)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        found = claims(soaked(folder, soak))
    for claim in found:
        print(f"{'holds' if claim.holds else 'DOES NOT HOLD'}: {claim.what}\n  tried {claim.tried}")
        print(f"  found {claim.found}\n  wanted {claim.wanted}")
    return 0 if all(claim.holds for claim in found) else 1


if __name__ == "__main__":
    sys.exit(main())
