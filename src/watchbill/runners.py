"""The tasks that run probes. One that is done waits for the next probe, since waking a task costs a third of making one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
from anyio import TaskHandle
from anyio.abc import TaskGroup

from watchbill.agenda import Running

MOST_PARKED = 100
"""As many wait at most; a burst of probes leaves no thousands of idle tasks behind."""


@dataclass(slots=True, eq=False)
class Runner:
    """One task. ``dismissed``: it was cancelled, so it takes no further probe."""

    running: Running | None
    woken: anyio.Event = field(default_factory=anyio.Event)
    handle: TaskHandle[None] | None = None
    begun: bool = False
    dismissed: bool = False


class Runners:
    """``probe`` runs one probe to its end and never raises but for cancellation."""

    def __init__(self, group: TaskGroup, probe: Callable[[Running], Awaitable[None]]) -> None:
        self._group = group
        self._probe = probe
        self._parked: list[Runner] = []

    def start(self, running: Running) -> None:
        """Have it probed, soon; the runner that waited least long is the warmest."""
        if self._parked:
            runner = self._parked.pop()
            runner.running = running
            runner.woken.set()
        else:
            runner = Runner(running)
            runner.handle = self._group.create_task(self._serve(runner), name="prober")
        running.cancel = lambda: self._dismiss(runner, running)

    async def _serve(self, runner: Runner) -> None:
        while runner.running is not None:
            runner.begun = True
            await self._probe(runner.running)
            runner.running, runner.begun = None, False
            if runner.dismissed or len(self._parked) >= MOST_PARKED:
                return
            runner.woken = anyio.Event()
            self._parked.append(runner)
            await runner.woken.wait()

    @staticmethod
    def _dismiss(runner: Runner, running: Running) -> None:
        # What has not begun yet finds its slot settled when it begins, and ends by itself.
        if runner.running is running and runner.begun and runner.handle is not None:
            runner.dismissed = True
            runner.handle.cancel()
