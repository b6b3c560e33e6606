"""Proofs that were made, one file each under ``.prove/``, so that a run that was interrupted goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.proof import Claim


@dataclass(frozen=True)
class Proof:
    """What one section showed. ``trouble``: why it came to no end; ``sources``: the digest of what was proven."""

    section: str
    full: bool
    sources: str
    revision: str
    machine: str
    at: str
    seconds: float
    claims: tuple[Claim, ...]
    trouble: str = ""

    @property
    def holds(self) -> bool:
        """It came to its end, claims something, and all of it is so."""
        return not self.trouble and bool(self.claims) and all(claim.holds for claim in self.claims)


class Shelf:
    """``.prove/``: a proof in full and a quick one of the same section lie beside each other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, proof: Proof) -> None:
        self._folder.mkdir(exist_ok=True)
        path = self._path(proof.section, full=proof.full)
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(asdict(proof), indent=1), encoding="utf-8")
        aside.replace(path)

    def get(self, section: str, *, full: bool) -> Proof | None:
        """What does not read as a proof (of another shape, cut short) is none."""
        try:
            stored = json.loads(self._path(section, full=full).read_text(encoding="utf-8"))
            return Proof(**{**stored, "claims": tuple(Claim(**claim) for claim in stored["claims"])})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def proven(self, section: str, *, full: bool, sources: str) -> Proof | None:
        """One that holds and is of these very sources; a quick one is implied by one in full."""
        kept = [self.get(section, full=True)] + ([] if full else [self.get(section, full=False)])
        return next((proof for proof in kept if proof and proof.holds and proof.sources == sources), None)

    def _path(self, section: str, *, full: bool) -> Path:
        return self._folder / f"{section}{'' if full else '.quick'}.json"
