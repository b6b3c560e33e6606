"""Types and helpers of the command line's tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import Result

GOLDEN = Path(__file__).parent / "golden"
NOW = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z

Answer = tuple[int, Any]
Answers = dict[str, Answer | Callable[[Any], Answer]]
Run = Callable[..., Result]


@dataclass
class Exporter:
    """A loopback server that answers "METHOD /path" with (status, JSON or text) and remembers what it was asked."""

    url: str
    answers: Answers = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)


def golden(name: str, text: str, **replaced: str) -> None:
    """Compare with tests/cli/golden/NAME; WRITE_GOLDEN=1 writes it instead.

    ``replaced``: what differs from run to run, as name=text, written as <name>.
    """
    for key, value in replaced.items():
        text = text.replace(value, f"<{key}>")
    path = GOLDEN / name
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
