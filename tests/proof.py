"""What a proof has to say for itself: one claim a line of docs/reliability.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """``tried`` says what was done and how often, ``found`` what came of it. One that tried nothing does not hold."""

    what: str
    tried: str
    found: str
    wanted: str
    holds: bool
