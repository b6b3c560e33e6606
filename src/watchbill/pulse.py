"""Whether this event loop keeps time: how late its timers fire, and when it last stood still.

One task that sleeps a tenth of a second at a time. A stall is seen by whoever asks first, also before that task
has run again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskStatus

from watchbill.board import Histogram
from watchbill.clock import Clock
from watchbill.domain.units import Instant

PERIOD_SECONDS = 0.1
STALL_SECONDS = 2.0
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)


@dataclass(slots=True)
class Pulse:
    """Measured on the monotonic clock, so that setting the wall clock is neither lag nor stall."""

    clock: Clock
    lag: Histogram = field(default_factory=lambda: Histogram.over(LAG_BOUNDS))
    _beat: float = 0.0
    _stalled_at: Instant = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        self._beat = self.clock.monotonic()
        task_status.started()
        while True:
            before = self.clock.monotonic()
            await anyio.sleep(PERIOD_SECONDS)
            self.stalled_at()
            self._beat = self.clock.monotonic()
            self.lag.observe(max(0.0, self._beat - before - PERIOD_SECONDS))

    def stalled_at(self) -> Instant:
        """When a stall of more than two seconds was last seen to have ended; 0: never."""
        beat = self.clock.monotonic()
        if beat - self._beat > STALL_SECONDS + PERIOD_SECONDS:
            self._beat, self._stalled_at = beat, self.clock.now()
        return self._stalled_at
