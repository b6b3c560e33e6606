"""A proof that comes to no end."""

from __future__ import annotations

from pathlib import Path

from tests.proof import Claim


def prove(folder: Path, *, full: bool) -> list[Claim]:
    assert folder.is_dir()
    raise RuntimeError("on purpose" if full else "on purpose, quickly")
