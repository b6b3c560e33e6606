"""A failing case made smaller: files, then lines, then characters are left out while it fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tests.fuzz.case import Case

MOST_ATTEMPTS = 400
MOST_SECONDS = 60.0
"""A case that is slow, or large, is made smaller as far as that goes."""
Fails = Callable[[Case], bool]


def smaller(case: Case, fails: Fails) -> Case:
    """The smallest case found that still fails; ``fails`` is asked a few hundred times at most."""
    attempts = _Attempts(fails)
    for name in sorted(case.files):
        fewer = replace(
            case, files={other: content for other, content in case.files.items() if other != name}
        )
        if fewer.files and attempts(fewer):
            case = fewer
    for cut in (
        lambda content: content.splitlines(keepends=True),
        lambda content: [bytes([byte]) for byte in content],
    ):
        for name in sorted(case.files):
            case = _without(case, name, cut(case.files[name]), attempts)
    return case


class _Attempts:
    def __init__(self, fails: Fails) -> None:
        self._fails = fails
        self._left = MOST_ATTEMPTS
        self._until = time.monotonic() + MOST_SECONDS

    def __call__(self, case: Case) -> bool:
        self._left -= 1
        return self._left >= 0 and time.monotonic() < self._until and self._fails(case)


def _without(case: Case, name: str, parts: Sequence[bytes], fails: Fails) -> Case:
    """Delta debugging: halves first, then ever smaller pieces."""
    size = len(parts) // 2
    while size >= 1:
        start = 0
        while start < len(parts):
            left = [*parts[:start], *parts[start + size :]]
            fewer = replace(case, files=_with(case.files, name, b"".join(left)))
            if fails(fewer):
                parts, case = left, fewer
            else:
                start += size
        size //= 2
    return case


def _with(files: Mapping[str, bytes], name: str, content: bytes) -> Mapping[str, bytes]:
    return {**files, name: content}
