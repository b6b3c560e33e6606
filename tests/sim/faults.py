"""What goes wrong, and how often. A kind of fault can be left out without anything else being drawn differently."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.sim.machine import Machine
from tests.sim.store import Store
from watchbill.domain.units import SECOND

WEIGHTS = {
    "targets": 30,
    "edits": 4,
    "mistakes": 2,
    "asks": 1,
    "stalls": 2,
    "clock": 1,
    "store": 2,
    "manual": 3,
    "heartbeats": 6,
    "scrapes": 1,
    "troubles": 2,
    "healing": 2,
}
KINDS = frozenset({*WEIGHTS, "crashes", "slowness", "narrowness"})
"""``crashes``: the process is killed; ``slowness``: stalls between any two steps, reloads that take their time;
``narrowness``: room for few events that wait for the store, and small batches."""
CAPACITIES = (None, None, 20, 200)
BATCHES = (None, None, 7, 60)
STALLS_EVERY = (0, 0, 60_000, 400_000)
STEP_SECONDS = (0.0, 0.0, 2e-5, 1e-4)


@dataclass
class Faults:
    """``without``: what does not happen."""

    random: Random
    without: frozenset[str] = frozenset()
    _kinds: list[str] = field(default_factory=lambda: list(WEIGHTS))
    _weights: list[int] = field(default_factory=lambda: list(WEIGHTS.values()))

    def happens(self, kind: str) -> bool:
        return kind not in self.without

    def draw(self) -> str | None:
        kind = self.random.choices(self._kinds, self._weights)[0]
        return kind if self.happens(kind) else None

    def clock_set_back(self) -> int:
        """By how many seconds, while nobody ran."""
        back = self.random.choice((0, 0, 0, 1, 60, 3600))
        return back if self.happens("clock") else 0

    def stall(self, machine: Machine) -> str:
        seconds = self.random.choice((0.2, 1.0, 2.2, 4.0, 20.0))
        machine.stand_still(seconds)
        return f"everything stands still for {seconds} s"

    def set_clock(self, machine: Machine) -> str:
        seconds = self.random.choice((-3600, -1, 1, 3, 3600))
        machine.wall_ahead += seconds * SECOND
        return f"the wall clock is set by {seconds} s"

    def spoil(self, store: Store) -> str:
        store.fails = self.random.choice((0.0, 0.0, 0.05, 0.9))
        return f"of the commits fail {store.fails:.0%}"
