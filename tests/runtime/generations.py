"""Configurations that follow each other fast: whole, in two parts, and with mistakes.

Each declares the same steady checks and its own choice of others, in an order of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from watchbill.config import load
from watchbill.domain.errors import ConfigError

MISTAKES = ("  : [\n", "    unknown_key: 1\n", "nothing: at all\n", "\x00")
INVALID_SHARE, CUT_SHARE = 0.2, 0.4


@dataclass(frozen=True)
class Generation:
    """``cut``: so much of it is written into the file first, and then the rest; 0: it is written aside, then renamed."""

    number: int
    text: str
    valid: bool
    cut: int

    def digest(self, folder: Path) -> str | None:
        """By which a running exporter calls it; none where it has a mistake."""
        path = folder / f"generation-{self.number}.yaml"
        path.write_text(self.text)
        try:
            return load(path, environ={}).digest
        except ConfigError:
            return None
        finally:
            path.unlink()

    def write(self, file: Path, between: Callable[[], object]) -> None:
        """``between`` is called while a part of it stands there."""
        if not self.cut:
            aside = file.with_suffix(".new")
            aside.write_text(self.text)
            aside.replace(file)
            return
        with file.open("w") as opened:
            opened.write(self.text[: self.cut])
            opened.flush()
            between()
            opened.write(self.text[self.cut :])


def generation(
    number: int, chance: random.Random, *, steady: list[str], others: int, port: int, last: bool = False
) -> Generation:
    """The last one of a row is valid."""
    valid = last or chance.random() >= INVALID_SHARE
    lines = [f"  {check}: {{{declared(port)}, interval: 1s}}\n" for check in steady]
    lines += [
        f"  other-{other}: {{{declared(port)}, interval: {chance.choice(('1s', '2s', '5s'))},"
        f" description: generation {number}}}\n"
        for other in chance.sample(range(others), chance.randint(others // 4, others))
    ]
    chance.shuffle(lines)
    if not valid:
        lines.insert(chance.randrange(len(lines)), chance.choice(MISTAKES))
    head = f"version: 1\nlimits: {{concurrent_probes: {500 + number}}}\nchecks:\n"
    text = head + "".join(lines)
    # At the end of a line, where what stands there so far has no mistake of its own.
    cut = (
        text.index("\n", int(len(text) * chance.uniform(0.3, 0.9))) + 1 if chance.random() < CUT_SHARE else 0
    )
    return Generation(number, text, valid, cut)


def declared(port: int) -> str:
    return f"type: tcp, host: 127.0.0.1, port: {port}"
