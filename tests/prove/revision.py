"""What was proven: the sources themselves, and the name by which people find them."""

from __future__ import annotations

import subprocess
from hashlib import blake2b
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROVEN = ("src", "tests", "bench", "schemas", "constraints.txt", "pyproject.toml")
_KINDS = frozenset({".py", ".json", ".txt", ".toml", ".yaml", ".sql"})


def digest_of(root: Path = ROOT) -> str:
    """Of all that a proof runs; a change of the documentation alone proves nothing anew."""
    whole = blake2b(digest_size=16)
    for path in sorted(file for name in PROVEN for file in _files(root / name)):
        whole.update(str(path.relative_to(root)).encode() + b"\0")
        whole.update(blake2b(path.read_bytes()).digest())
    return whole.hexdigest()


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return [path for path in place.rglob("*") if path.suffix in _KINDS and path.is_file()]


def named(root: Path = ROOT) -> str:
    """The commit, with a ``+`` where something is not committed; outside a checkout what the digest begins with."""
    head = _git(root, "rev-parse", "--short", "HEAD")
    if head is None:
        return digest_of(root)[:8]
    return head + ("+" if _git(root, "status", "--porcelain", "--", *PROVEN) else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()
