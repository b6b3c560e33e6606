"""What was proven as tables: on a terminal and in docs/reliability.md."""

from __future__ import annotations

from bench.tables import written

from tests.prove.proofs import Proof
from tests.prove.revision import ROOT

PAGE = ROOT / "docs/reliability.md"
HEADS = ("claim", "tried", "found", "wanted", "holds")


def table(proof: Proof) -> str:
    """In Markdown, with what it was proven on below."""

    def line(*cells: str) -> str:
        return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"

    rows = [
        line(claim.what, claim.tried, claim.found, claim.wanted, "yes" if claim.holds else "**no**")
        for claim in proof.claims
    ]
    return "\n".join([line(*HEADS), line(*["---"] * len(HEADS)), *rows, "", note(proof)])


def note(proof: Proof) -> str:
    manner = "" if proof.full else " (the quick version)"
    trouble = f" It came to no end: {proof.trouble}." if proof.trouble else ""
    return f"Proven{manner} in {proof.seconds:,.0f} s, {proof.at}, revision {proof.revision}: {proof.machine}.{trouble}"


def told(proof: Proof) -> str:
    """For a terminal, where sentences are too long for columns: a paragraph a claim."""
    lines = [f"{proof.section}: {'holds' if proof.holds else 'DOES NOT HOLD'}"]
    for claim in proof.claims:
        lines += [
            f"  {'yes' if claim.holds else 'NO '}  {claim.what}",
            f"       tried {claim.tried}; found {claim.found}; wanted {claim.wanted}",
        ]
    return "\n".join([*lines, f"  {note(proof)}"])


def write(proof: Proof) -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(written(page, proof.section, table(proof), kind="prove"), encoding="utf-8")
