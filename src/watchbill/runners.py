"""The tasks that run probes. One that is done waits for the next probe, since waking a task costs a third of making one."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from anyio import TaskHandle
from anyio.abc import TaskGroup

from watchbill.agenda import Running

MOST_IDLE = 100
"""As many wait at most; a burst of probes leaves no thousands of idle tasks behind."""


@dataclass(slots=True, eq=False)
class Runner:
    """One task. ``dismissed``: it was cancelled, so it takes no further probe."""

    handle: TaskHandle[None] | None = None
    dismissed: bool = False

    def dismiss(self) -> None:
        if self.handle is not None:
            self.dismissed = True
            self.handle.cancel()


class Runners:
    """``probe`` runs one probe to its end and raises nothing but cancellation.

    What is started begins in order, each in a task of its own.
    """

    def __init__(self, group: TaskGroup, probe: Callable[[Running], Awaitable[None]]) -> None:
        self._group = group
        self._probe = probe
        self._begins: deque[Running] = deque()
        self._turn = anyio.Semaphore(0, fast_acquire=True)
        self._idle = 0

    def start(self, running: Running) -> None:
        """Have it probed, soon."""
        self._begins.append(running)
        if self._idle:
            self._idle -= 1
            self._turn.release()
        else:
            runner = Runner()
            runner.handle = self._group.create_task(self._serve(runner), name="prober")

    async def _serve(self, runner: Runner) -> None:
        while True:
            running = self._begins.popleft()
            running.cancel = runner.dismiss
            await self._probe(running)
            # From here on nobody may cancel this task for the sake of that probe.
            running.cancel = lambda: None
            if runner.dismissed or self._idle >= MOST_IDLE:
                return
            self._idle += 1
            await self._turn.acquire()
