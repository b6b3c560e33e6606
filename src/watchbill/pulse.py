"""Whether this event loop keeps time: how late its timers fire, and when it stood still.

The scheduler's own sleep is the pulse, cut into short pieces: it would wake up for its slots anyway, and waking up is
what costs. A stall is a timer that fires more than 50 ms late; while probes are in flight the pieces are so short that none of
100 ms goes unseen. Whoever asks looks at the clock first, so a probe that ends in the very turn after a stall is told of it too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from watchbill.board import Histogram
from watchbill.clock import Clock
from watchbill.domain.stalls import LONG, UNSEEN, Stall
from watchbill.domain.units import SECOND, Instant

PERIOD = 100_000
PROBING_PERIOD = UNSEEN
LATE_SECONDS = 0.05
STALLS_KEPT = 256
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)


@dataclass(slots=True)
class Pulse:
    """One task's sleep. Measured on the monotonic clock, so that setting the wall clock is neither lag nor stall."""

    clock: Clock
    lag: Histogram = field(default_factory=lambda: Histogram.over(LAG_BOUNDS))
    _due: float = math.inf
    """When that task should have run again: now, unless it sleeps."""
    _stalls: deque[Stall] = field(default_factory=lambda: deque(maxlen=STALLS_KEPT))
    _ended: Instant = 0
    _long_ended: Instant = 0

    async def sleep_until(self, instant: Instant, *, probing: Collection[object] = ()) -> None:
        """Return once the clock is there. ``probing``: what is in flight; it may change meanwhile."""
        self._look()
        while (left := instant - self.clock.now()) > 0:
            period = PROBING_PERIOD if probing else PERIOD
            due = self._due = self.clock.monotonic() + min(left, period) / SECOND
            try:
                if left > period:
                    await anyio.sleep(period / SECOND)
                else:
                    await self.clock.sleep_until(instant)
            finally:
                woken = self._due = self._look()
            self.lag.observe(max(0.0, woken - due))

    async def turn(self) -> None:
        """Let everybody else run once."""
        self._due = self._look()
        await anyio.lowlevel.checkpoint()
        self._due = self._look()

    async def run(self, *, probing: Collection[object] = ()) -> None:
        """Sleep until cancelled; then there is no pulse any more."""
        try:
            while True:
                await self.sleep_until(self.clock.now() + SECOND, probing=probing)
        finally:
            self._due = math.inf

    def stalls_since(self, start: Instant) -> Sequence[Stall]:
        """The stalls that ended after that."""
        self._look()
        if self._ended <= start:
            return ()
        return [stall for stall in self._stalls if stall.end > start]

    def stalled_at(self) -> Instant:
        """When a stall of more than two seconds was last seen to have ended; 0: never."""
        self._look()
        return self._long_ended

    def _look(self) -> float:
        now = self.clock.monotonic()
        if now - self._due > LATE_SECONDS:
            self._note(now - self._due)
            self._due = now + PERIOD / SECOND  # that task, if it sleeps, wakes within its period
        return now

    def _note(self, late_seconds: float) -> None:
        self._ended = self.clock.now()
        stall = Stall(self._ended - round(late_seconds * SECOND), self._ended)
        self._stalls.append(stall)
        if stall.end - stall.begin > LONG:
            self._long_ended = self._ended
