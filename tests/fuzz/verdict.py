"""What is said of one configuration that was loaded, and which of it breaks a promise."""

from __future__ import annotations

from dataclasses import dataclass

MOST_SECONDS = 2.0
MOST_BYTES = 200 << 20


@dataclass(frozen=True)
class Complaint:
    """``kind`` is what stays the same while a case is made smaller."""

    kind: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """Of loading as the worker loads: ``seconds`` of CPU, ``wall_seconds``, the peak of resident ``memory_bytes``, of which
    the judge held ``held_bytes`` before it began; ``size_bytes`` of all files."""

    name: str
    accepted: bool = False
    checks: int = 0
    problems: tuple[str, ...] = ()
    seconds: float = 0.0
    wall_seconds: float = 0.0
    memory_bytes: int = 0
    held_bytes: int = 0
    size_bytes: int = 0
    complaints: tuple[Complaint, ...] = ()
    reached: frozenset[str] = frozenset()
    """Which keys an accepted configuration declared, as ``Model.key``."""
    near: bool = True
    """Whether it may run here: nothing in it asks beyond this machine."""

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(complaint.kind for complaint in self.complaints)
