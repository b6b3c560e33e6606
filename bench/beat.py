"""How long a task that wants to run every millisecond has to wait for its event loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import anyio


@dataclass
class Beat:
    """Waits in seconds: of the wall clock, other programs on the machine among them, and of the loop's own CPU time."""

    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            wall, cpu = time.perf_counter(), time.thread_time()
            await anyio.sleep(0.001)
            self.walls.append(time.perf_counter() - wall - 0.001)
            self.cpus.append(time.thread_time() - cpu)

    def clear(self) -> None:
        self.walls.clear()
        self.cpus.clear()


def milliseconds(waits: list[float], share: float = 1.0) -> float:
    """The wait that so large a share of them did not exceed."""
    ordered = sorted(waits)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]
