"""The timeline: wall time at start plus the monotonic clock, so that it never goes back and never jumps.

Up to two seconds of difference to the wall clock are slewed away; a wall clock that was set back leaves the
timeline ahead, one that was set forward makes it jump once, which the caller accounts for as a gap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import anyio

from watchbill.domain.units import SECOND, Instant, Micros

SLEWED_AT_MOST: Micros = 2 * SECOND
SLEW_STEP: Micros = 5_000


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> Instant: ...

    def monotonic(self) -> float:
        """Seconds since some instant, for durations: never slewed, never set."""
        ...

    async def sleep_until(self, instant: Instant) -> None:
        """Return once ``now() >= instant``, never before."""
        ...

    def drift(self) -> Micros:
        """Wall clock minus timeline."""
        ...

    def correct(self) -> Micros:
        """Follow the wall clock: slew a small difference, jump over a large one forwards.

        Call it about once a second; a step is at most 5 ms. Returns how far the timeline jumped (0 as a rule).
        """
        ...

    def not_before(self, instant: Instant) -> Micros:
        """Be ahead of the wall clock, as after it was set back, if it is before that. Returns how far."""
        ...


class Timeline:
    """A clock over two sources: ``monotonic`` in seconds (any origin), ``wall`` in microseconds since the epoch."""

    def __init__(self, *, monotonic: Callable[[], float], wall: Callable[[], Instant]) -> None:
        self.monotonic = monotonic
        self._wall = wall
        self._anchor = wall() - self._elapsed()
        self._latest: Instant = 0

    def now(self) -> Instant:
        # Slewing back moves the anchor; the timeline waits for it rather than going back.
        self._latest = max(self._latest, self._anchor + self._elapsed())
        return self._latest

    async def sleep_until(self, instant: Instant) -> None:
        while (left := instant - self.now()) > 0:
            await anyio.sleep(left / SECOND)

    def drift(self) -> Micros:
        return self._wall() - self.now()

    def correct(self) -> Micros:
        drift = self.drift()
        if drift > SLEWED_AT_MOST:
            self._anchor += drift
            return drift
        if -SLEWED_AT_MOST <= drift < 0:
            self._anchor -= min(-drift, SLEW_STEP)
        elif drift > 0:
            self._anchor += min(drift, SLEW_STEP)
        return 0

    def not_before(self, instant: Instant) -> Micros:
        behind = max(0, instant - self.now())
        self._anchor += behind
        return behind

    def _elapsed(self) -> Micros:
        return round(self.monotonic() * SECOND)
