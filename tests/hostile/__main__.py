"""``python -m tests.hostile [--quick]``: every hostile server at once against a real exporter. Exits 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.hostile.proof import prove


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds instead of twelve or more")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        claims = prove(Path(folder), full=not asked.quick)
    for claim in claims:
        print(f"{'holds ' if claim.holds else 'BROKEN'} {claim.what}: {claim.found} ({claim.tried})")
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
