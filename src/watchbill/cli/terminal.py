"""How answers look: colour, tables, counts, and foreign text made harmless.

Colour is click's: it goes to a terminal only. ``NO_COLOR`` is obeyed by the command group.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

import click

Colour = Literal["red", "green", "yellow", "blue", "cyan", "grey"]
Row = Sequence[str]


def paint(text: str, colour: Colour, *, bold: bool = False) -> str:
    return click.style(text, fg="bright_black" if colour == "grey" else colour, bold=bold or None)


def plain(text: object) -> str:
    """Foreign text without what a terminal would obey: control characters and text direction are escaped."""
    shown = text if isinstance(text, str) else str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def count(number: int, thing: str, things: str = "") -> str:
    """``1 check``, ``1,200 checks``."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def say(text: str) -> None:
    """Talk, on stderr."""
    click.echo(text, err=True)


def table(header: Row, rows: Sequence[Row], *, right: Sequence[bool]) -> list[str]:
    """Lines with columns as wide as their widest cell; ``right`` says which are flush right."""
    widths = [max(len(click.unstyle(row[i])) for row in [header, *rows]) for i in range(len(header))]
    return [_line([paint(cell, "grey") for cell in header], widths, right)] + [
        _line(row, widths, right) for row in rows
    ]


def _line(row: Row, widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = []
    for cell, width, flush_right in zip(row, widths, right, strict=True):
        padding = " " * (width - len(click.unstyle(cell)))
        cells.append(padding + cell if flush_right else cell + padding)
    return "  ".join(cells).rstrip()


def seconds(value: float) -> str:
    """A measured time in the unit that people read: ``0.4ms``, ``48.2ms``, ``1.25s``."""
    return f"{value * 1000:.1f}ms" if value < 0.99995 else f"{value:.2f}s"


def can_show(characters: str) -> bool:
    """Whether stdout's encoding has these characters."""
    try:
        characters.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
