"""What compiling the expressions of one configuration may take: a few characters can stand for megabytes and seconds."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationInfo

MOST_INSTRUCTIONS = 1_000_000
"""Of compiled patterns: about half a second and seventy megabytes."""


class Effort:
    """Counts down over one configuration; each distinct text is paid for once."""

    def __init__(self) -> None:
        self._left = MOST_INSTRUCTIONS
        self._paid: set[str] = set()

    def pay(self, text: str, cost: Callable[[str], int]) -> None:
        """:raises ValueError: with this one, or one before, it is more than all may take."""
        if self._left >= 0 and text not in self._paid:
            self._paid.add(text)
            self._left -= cost(text)
        if self._left < 0:
            raise ValueError(
                "all patterns and JSON Schemas together take too much to compile; use fewer or simpler ones"
            )


def pay(info: ValidationInfo, text: str, cost: Callable[[str], int]) -> None:
    """Where the text is part of a configuration, rather than made in a program.

    :raises ValueError: see :meth:`Effort.pay`.
    """
    effort = info.context.get("effort") if info.context else None
    if effort is not None:
        effort.pay(text, cost)
