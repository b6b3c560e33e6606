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
        self._at = 0
        self.heard: list[str] = []
        self.ended = False

    def until(self, beginning: str, *, seconds: float = HANG_GUARD_SECONDS) -> str | None:
        """The next line that begins so, after the one found last; ``None`` where the other side ended before."""
        deadline = time.monotonic() + seconds
        while True:
            while self._at < len(self.heard):
                self._at += 1
                if self.heard[self._at - 1].startswith(beginning):
                    return self.heard[self._at - 1]
            left = deadline - time.monotonic()
            if self.ended:
                return None
            if left <= 0:
                raise AssertionError(f"never said: {beginning}; the last lines were {self.heard[-5:]}")
            self._read(left)

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
