"""``python -m tests.prove [SECTION...]``: attack what Watchbill promises, and say what was found. Exits 1 where a claim
does not hold."""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import machine
from tests.proof import Claim
from tests.prove import page, revision
from tests.prove.proofs import Proof, Shelf
from tests.prove.sections import SECTIONS

SHELF = revision.ROOT / ".prove"


def main(given: Sequence[str] | None = None) -> int:
    parser = arguments()
    asked = parser.parse_args(given)
    if unknown := [section for section in asked.sections if section not in SECTIONS]:
        parser.error(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    if asked.write and asked.quick:
        parser.error("the page holds what was proven in full: --write or --quick, not both")
    shelf, sources = Shelf(SHELF), revision.digest_of()
    if asked.list:
        print("\n".join(listed(shelf, sources)))
        return 0
    proofs = []
    for section in asked.sections or SECTIONS:
        known = None if asked.again else shelf.proven(section, full=not asked.quick, sources=sources)
        if known is None:
            print(f"{section} ...", flush=True)
        proof = known or prove(section, full=not asked.quick, sources=sources)
        shelf.put(proof)
        proofs.append(proof)
        print(f"{page.told(proof)}\n", flush=True)
        if asked.write:
            page.write(proof)
    failed = [proof.section for proof in proofs if not proof.holds]
    print(
        f"{len(proofs) - len(failed)} of {len(proofs)} sections hold{': not ' * bool(failed)}{', '.join(failed)}"
    )
    return 1 if failed or not proofs else 0


def prove(section: str, *, full: bool, sources: str) -> Proof:
    """Run it in a process of its own. What it prints goes by; how it ended is told."""
    begun = time.monotonic()
    with tempfile.NamedTemporaryFile("r", suffix=".json", encoding="utf-8") as answer:
        command = [sys.executable, "-m", "tests.prove.once", SECTIONS[section], answer.name]
        command += ["--full"] if full else []
        code = subprocess.run(command, cwd=revision.ROOT, check=False).returncode
        told = Path(answer.name).read_text(encoding="utf-8")
    claims = tuple(Claim(**claim) for claim in json.loads(told)) if told else ()
    trouble = "" if claims else "it claimed nothing"
    if code:
        trouble = f"its process ended with {code}"
    return Proof(
        section=section,
        full=full,
        sources=sources,
        revision=revision.named(),
        machine=machine.named(),
        at=datetime.datetime.now(datetime.UTC).date().isoformat(),
        seconds=time.monotonic() - begun,
        claims=claims,
        trouble=trouble,
    )


def listed(shelf: Shelf, sources: str) -> list[str]:
    """A line a section: what is known of it."""
    width = max(map(len, SECTIONS), default=0)
    return [f"{section:<{width}}  {_known(shelf, section, sources)}" for section in SECTIONS]


def _known(shelf: Shelf, section: str, sources: str) -> str:
    proof = shelf.get(section, full=True) or shelf.get(section, full=False)
    if proof is None:
        return "never proven here"
    verdict = "holds" if proof.holds else "does not hold"
    manner = "in full" if proof.full else "quickly"
    changed = "" if proof.sources == sources else "; the sources have changed since"
    return f"{verdict}: {len(proof.claims)} claims, {manner}, {proof.at}, revision {proof.revision}{changed}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; without any, all"
    )
    parser.add_argument("--quick", action="store_true", help="seconds of each; of the soak two minutes")
    parser.add_argument(
        "--again", action="store_true", help="also what these very sources have proven before"
    )
    parser.add_argument("--write", action="store_true", help="write the tables into docs/reliability.md")
    parser.add_argument("--list", action="store_true", help="say what is proven, and prove nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
