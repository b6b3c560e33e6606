"""Two event loops on virtual time: trio, whose order of ready tasks is drawn from the seed, and asyncio, which is faster.

Both tell the machine before every step of any task, so that time can pass there and the process can die there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableSet
from contextvars import Context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Literal, Protocol, TypeVar

import anyio
import trio
import trio.testing
from anyio._backends import _asyncio as anyio_internals
from trio._core import _run as trio_internals

T = TypeVar("T")
Backend = Literal["asyncio", "trio"]
TURN_SECONDS = 1e-6
"""What a turn of the loop takes at least, so that a task that spins does not stop time."""


class InOrder(MutableSet[Any]):
    """A set that is gone through in the order in which things came, wherever they lie in memory."""

    def __init__(self) -> None:
        self._items: dict[Any, None] = {}

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, value: Any) -> None:
        self._items[value] = None

    def discard(self, value: Any) -> None:
        self._items.pop(value, None)


class Stepping(Protocol):
    """What is told before every step. ``step_seconds``: what one takes on this machine.

    ``early``: by how many seconds the next timers fire too early, as those of uvloop do.
    """

    step_seconds: float

    def early(self) -> float: ...

    def step(self) -> None: ...

    def runs_on(
        self, *, now: Callable[[], float], jump: Callable[[float], None], tasks: Callable[[], int]
    ) -> None:
        """The loop's own clock; ``jump`` moves it forwards, as when the process stood still."""
        ...


class StandstillError(Exception):
    """Nothing will ever happen again."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop without a selector: where nothing is ready, it is the time of the next timer."""

    def __init__(self, machine: Stepping) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._machine = machine
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = count()

    def time(self) -> float:
        return self._virtual_now

    def jump(self, seconds: float) -> None:
        self._virtual_now += seconds

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """In a heap of tuples, which compare far faster than handles do."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._order), timer))
        return timer

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        now, early = self._virtual_now + TURN_SECONDS, self._machine.early()
        if not ready:
            while timers and timers[0][2]._cancelled:
                heappop(timers)
            if timers:
                now = max(now, timers[0][0] - early)
            elif not self._stopping:
                raise StandstillError("every task waits for another")
        self._virtual_now = now
        while timers and timers[0][0] - early <= now:
            ready.append(heappop(timers)[2])
        step, seconds = self._machine.step, self._machine.step_seconds
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                self._virtual_now += seconds
                step()
                handle._run()

    def _process_events(self, event_list: object) -> None:
        """There are no events from outside."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""


class _Steps(trio.abc.Instrument):
    def __init__(self, machine: Stepping, clock: trio.testing.MockClock) -> None:
        self._machine = machine
        self._clock = clock

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._machine.step_seconds:
            self._clock.jump(self._machine.step_seconds)
        self._machine.step()


def run(backend: Backend, seed: int, machine: Stepping, main: Callable[[], Awaitable[T]]) -> T:
    """The same seed is the same run."""
    return (_run_on_trio if backend == "trio" else _run_on_asyncio)(seed, machine, main)


def _run_on_asyncio(seed: int, machine: Stepping, main: Callable[[], Awaitable[T]]) -> T:
    def new_loop() -> VirtualLoop:
        loop = VirtualLoop(machine)
        machine.runs_on(now=loop.time, jump=loop.jump, tasks=lambda: len(asyncio.all_tasks(loop)))
        return loop

    options: Mapping[str, Any] = {"loop_factory": new_loop}
    # anyio keeps the tasks of a scope in sets, and cancels them in their order, which is that of addresses.
    vars(anyio_internals)["set"] = InOrder
    try:
        return anyio.run(main, backend="asyncio", backend_options=dict(options))
    finally:
        del vars(anyio_internals)["set"]


def _run_on_trio(seed: int, machine: Stepping, main: Callable[[], Awaitable[T]]) -> T:
    clock = trio.testing.MockClock(autojump_threshold=0)
    machine.runs_on(
        now=clock.current_time, jump=clock.jump, tasks=lambda: trio.lowlevel.current_statistics().tasks_living
    )
    # Which of the ready tasks goes first is random in trio; here it is part of the seed.
    before = trio_internals._r, trio_internals._ALLOW_DETERMINISTIC_SCHEDULING
    trio_internals._r = Random(seed)
    trio_internals._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    try:
        return trio.run(main, clock=clock, instruments=[_Steps(machine, clock)])
    finally:
        trio_internals._r, trio_internals._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
