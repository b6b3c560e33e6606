"""The machine on which the application runs: its clocks, its stalls, and the instant at which the process dies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from watchbill.domain.units import SECOND, Instant, Micros
from watchbill.testing import START

STALLS = (0.06, 0.3, 1.5, 2.5, 4.0, 30.0)
STALLS_KEPT = 64
EARLY_SECONDS = (0.0, 0.0, 0.0, 0.0003, 0.0015)


@dataclass
class Machine:
    """``step`` is called before every step of any task.

    ``stalls_every``: between so many steps, in the mean, everything stands still for a while, as under SIGSTOP; 0: never.
    """

    random: Random
    stalls_every: int = 0
    step_seconds: float = 0.0
    timers_are_early: bool = False
    wall_ahead: Micros = 0
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """The last ones, from and to on the loop's clock."""
    _steps: int = 0
    _due: float = 0
    _stall_due: float = math.inf
    _death_due: float = math.inf
    _kill: Callable[[], None] = lambda: None
    _jump: Callable[[float], None] = lambda _: None
    monotonic: Callable[[], float] = lambda: 0.0
    tasks: Callable[[], int] = lambda: 0
    """How many there are on this loop."""
    timeline: Callable[[], Instant] = lambda: 0
    lost: Callable[[Instant, Instant], None] = lambda begin, end: None
    """The clock of the process that runs here, and what is told of each stall on it."""

    def __post_init__(self) -> None:
        self._plan_stall()

    # --- the clocks ---------------------------------------------------------------------------------

    def wall(self) -> Instant:
        return START + round(self.monotonic() * SECOND) + self.wall_ahead

    def stand_still(self, seconds: float) -> None:
        since, at = self.monotonic(), self.timeline()
        self._jump(seconds)
        self.stalls.append((since, self.monotonic()))
        del self.stalls[:-STALLS_KEPT]
        self.lost(at, self.timeline())

    def stood_still(self, since: float) -> bool:
        """Whether it did at any time after that, on the loop's clock."""
        return bool(self.stalls) and self.stalls[-1][1] >= since

    # --- what happens between two steps -------------------------------------------------------------

    def runs_on(
        self, *, now: Callable[[], float], jump: Callable[[float], None], tasks: Callable[[], int]
    ) -> None:
        self.monotonic, self._jump, self.tasks = now, jump, tasks

    def early(self) -> float:
        return self.random.choice(EARLY_SECONDS) if self.timers_are_early else 0.0

    def step(self) -> None:
        self._steps += 1
        if self._steps >= self._due:
            self._happen()

    def dies_after(self, steps: int, kill: Callable[[], None]) -> None:
        self._death_due, self._kill = self._steps + steps, kill
        self._plan()

    def lives(self) -> None:
        """Nobody kills it any more."""
        self._death_due = math.inf
        self._plan()

    def _happen(self) -> None:
        if self._steps >= self._death_due:
            self._death_due = math.inf
            self._kill()
        if self._steps >= self._stall_due:
            self._plan_stall()
            self.stand_still(self.random.choice(STALLS))
        self._plan()

    def _plan_stall(self) -> None:
        every = self.stalls_every
        self._stall_due = self._steps + self.random.expovariate(1 / every) if every else math.inf
        self._plan()

    def _plan(self) -> None:
        self._due = min(self._stall_due, self._death_due)
