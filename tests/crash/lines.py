"""What another process says through a pipe, line by line, and until when."""

from __future__ import annotations

import os
import select
import time

HANG_GUARD_SECONDS = 60.0


class Lines:
    """``heard`` are the whole lines so far; half a line, as a kill leaves it, is none."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self.heard: list[str] = []
        self.ended = False

    def until(self, beginning: str, *, seconds: float = HANG_GUARD_SECONDS) -> str | None:
        """The first line yet to come that begins so; ``None`` where the other side ended before."""
        deadline = time.monotonic() + seconds
        at = len(self.heard)
        while not self.ended:
            for line in self.heard[at:]:
                at += 1
                if line.startswith(beginning):
                    return line
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"never said: {beginning}; the last lines were {self.heard[-5:]}")
            self._read(left)
        return None

    def during(self, seconds: float) -> None:
        """Listen for so long, or until the other side ends."""
        deadline = time.monotonic() + seconds
        while not self.ended and (left := deadline - time.monotonic()) > 0:
            self._read(left)

    def next(self, *, seconds: float) -> None:
        """Wait for more, or for the end."""
        self._read(seconds)

    def _read(self, seconds: float) -> None:
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return
        piece = os.read(self._descriptor, 65_536)
        self.ended = not piece
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self.heard += [line.decode(errors="replace") for line in lines]
