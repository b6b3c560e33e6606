"""Tables as text, and the places in docs/performance.md where they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """``name`` is that of its place in the page. Notes stand below it, a paragraph each."""

    name: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        lines = [
            self.heads,
            ["---" if not column else "--:" for column in range(len(self.heads))],
            *self.rows,
        ]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return "\n\n".join([text, *self.notes])

    def text(self) -> str:
        """For a terminal: columns in line, numbers to the right."""
        lines = [self.heads, *self.rows]
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        aligned = (
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )
        return "\n".join([*aligned, *self.notes]).rstrip()


def written(page: str, name: str, text: str, *, kind: str = "bench") -> str:
    """The page with this between the markers of that kind and name.

    :raises LookupError: the page has no such markers.
    """
    place = re.compile(rf"(<!-- {kind}: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not place.search(page):
        raise LookupError(f"no place for {name} in the page")
    return place.sub(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page, count=1)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f}"
