"""Has every slot of every check started once, when it is due.

One sleeping task; a task exists only for a running probe. Slots are taken from the grid, never from
"now": early timers run nothing twice and late ones lose nothing. What it promises is in docs/concurrency.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import anyio
import structlog
from anyio.abc import TaskStatus

from watchbill.agenda import Agenda
from watchbill.board import Histogram
from watchbill.clock import Clock
from watchbill.dispatcher import Dispatcher
from watchbill.domain.messages import CheckDeleted, CheckRegistered, ConfigReloaded, Event, ExecuteChecks
from watchbill.domain.results import GapReason, Trigger
from watchbill.domain.stalls import Stall
from watchbill.domain.units import SECOND, Instant, Micros
from watchbill.endings import Endings
from watchbill.pacing import LATE, MOST_STARTS_A_TURN, starts_a_turn, tick_length
from watchbill.pulse import Pulse

LONGEST_SLEEP: Micros = SECOND

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SchedulerStatistics:
    """``delay``: start minus slot. ``lag``: how late a timer of this event loop fires."""

    delay: Histogram
    lag: Histogram
    checks: int
    running: int
    waiting: int
    crashes: int


class Scheduler:
    """``send`` runs one probe and returns once its result has been published; before it publishes, it asks
    :meth:`claim`. Subscribers of slot events must not suspend: a slot ends in one step.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        send: Callable[[ExecuteChecks], Awaitable[Sequence[Event]]],
        publish: Callable[[Event], Awaitable[None]],
        latest_result: Callable[[str], Instant | None] = lambda _: None,
        location: str = "",
        capacity: int = 1000,
    ) -> None:
        self._clock = clock
        self._agenda = Agenda()
        self._pulse = Pulse(clock)
        self._endings = Endings(clock=clock, publish=publish, location=location)
        self._dispatcher = Dispatcher(
            agenda=self._agenda,
            clock=clock,
            send=send,
            endings=self._endings,
            latest_result=latest_result,
            capacity=capacity,
        )
        self._held: list[Instant] = []
        self._sleeping: anyio.CancelScope | None = None
        self._stopping = False
        self._last_tick: Instant = clock.now()
        self._planned: Instant = self._last_tick
        self._corrected_at: Instant = self._last_tick
        self._stall_seen_at: Instant = 0

    # --- subscribers ----------------------------------------------------------------------------------

    async def registered(self, event: CheckRegistered) -> None:
        """Take a check in, or its new revision; an unchanged interval keeps the next slot where it was."""
        check = event.check
        interval = check.interval_micros
        entry = self._agenda.entries.get(check.id)
        if not check.enabled:
            if entry is not None:
                await self._dispatcher.retire(entry, event.at)
        elif entry is None:
            self._agenda.add(check.id, interval=interval, at=event.at)
        elif entry.interval != interval:
            if entry.next_slot <= event.at:
                await self._dispatcher.slots_due(entry, event.at)
            self._agenda.change_grid(entry, interval=interval, at=event.at)
        self._wake_for(self._agenda.earliest())

    async def deleted(self, event: CheckDeleted) -> None:
        entry = self._agenda.entries.get(event.check.id)
        if entry is not None:
            await self._dispatcher.retire(entry, event.at)

    def configured(self, event: ConfigReloaded) -> None:
        self._dispatcher.limit(event.loaded.config.limits.concurrent_probes)

    # --- questions ------------------------------------------------------------------------------------

    def accounted_until(self) -> Instant:
        """The earliest slot that is still open; every slot before it has ended."""
        open_slots = [self._clock.now(), *self._held, *self._dispatcher.open_slots()]
        earliest = self._agenda.earliest()
        if earliest is not None:
            open_slots.append(earliest)
        return min(open_slots)

    @contextmanager
    def hold(self, at: Instant) -> Iterator[None]:
        """While checks are being registered as of ``at``, their slots after it are open, though not known yet."""
        self._held.append(at)
        try:
            yield
        finally:
            self._held.remove(at)

    def claim(self, check_id: str, trigger: Trigger, slot: Instant | None) -> bool:
        """Whether this probe may still say how its slot ended; asking settles it."""
        if trigger is Trigger.MANUAL:
            return True
        entry = self._agenda.entries.get(check_id)
        running = None if entry is None else entry.running
        if running is None or running.settled or running.trigger is not trigger:
            return False
        if slot is not None and running.slot != slot:
            return False
        running.settled = True
        return True

    def stalls_since(self, started_at: Instant) -> Sequence[Stall]:
        """When this process stood still since then."""
        return self._pulse.stalls_since(started_at)

    def is_late(self) -> bool:
        """Whether a slot is due that should have been started by now; what is in no hurry lets it go first."""
        earliest = self._agenda.earliest()
        if earliest is None:
            return False
        return self._clock.now() - earliest > tick_length(self._agenda.slots_per_second) + LATE

    @property
    def under_way(self) -> int:
        """How many probes are."""
        return len(self._dispatcher.running)

    @property
    def last_tick(self) -> Instant:
        return self._last_tick

    def next_slot(self, check_id: str) -> Instant | None:
        entry = self._agenda.entries.get(check_id)
        return None if entry is None else entry.next_slot

    def statistics(self) -> SchedulerStatistics:
        return SchedulerStatistics(
            delay=self._dispatcher.delay,
            lag=self._pulse.lag,
            checks=len(self._agenda.entries),
            running=len(self._dispatcher.running),
            waiting=self._dispatcher.waiting(),
            crashes=self._endings.crashes,
        )

    # --- running --------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start slots until it is told to drain; returns when no probe is left."""
        async with anyio.create_task_group() as group:
            self._dispatcher.begin(group)
            self._last_tick = self._planned = self._clock.now()
            task_status.started()
            while not self._stopping:
                await self._sleep()
                if not self._stopping:
                    await self._tick()
            group.start_soon(partial(self._pulse.run, probing=self._dispatcher.running), name="loop lag")
            await self._dispatcher.until_idle()
            group.cancel_scope.cancel()

    async def drain(self, grace_seconds: float) -> None:
        """Start nothing more, let what runs finish for a while, and skip the rest."""
        self._stopping = True
        self._wake()
        await self._dispatcher.drain(grace_seconds)

    async def _sleep(self) -> None:
        now = self._clock.now()
        due = self._agenda.earliest() or now + LONGEST_SLEEP
        next_tick = self._last_tick + tick_length(self._agenda.slots_per_second)
        self._planned = min(max(due, next_tick), now + LONGEST_SLEEP)
        with anyio.CancelScope() as self._sleeping:
            await self._pulse.sleep_until(self._planned, probing=self._dispatcher.running)
        self._sleeping = None

    def _wake(self) -> None:
        if self._sleeping is not None:
            self._sleeping.cancel()

    def _wake_for(self, instant: Instant | None) -> None:
        if instant is not None and instant < self._planned:
            self._wake()

    async def _tick(self) -> None:
        """Start what is due. Everything before ``last_tick`` has been looked at."""
        await self._pass_over_lost_time()
        now = self._last_tick = self._clock.now()
        started, most = 0, starts_a_turn(self._agenda.slots_per_second)
        while not self._stopping and (due := self._agenda.pop_due(now)) is not None:
            entry, trigger = due
            if trigger is Trigger.SCHEDULE:
                await self._dispatcher.slots_due(entry, now)
            else:
                self._dispatcher.newcomer(entry)
            started += 1
            if started < most or (started < MOST_STARTS_A_TURN and self.is_late()):
                continue
            started = 0
            await self._pulse.turn()
            if self._pulse.stalled_at() != self._stall_seen_at:
                return  # what is due now is another matter

    async def _pass_over_lost_time(self) -> None:
        """After time that passed without us: leave only the newest due slot of each check, record one gap."""
        stalled_at = self._pulse.stalled_at()
        jump = self._follow_wall_clock()
        if stalled_at == self._stall_seen_at and not jump:
            return
        reason = GapReason.CLOCK if stalled_at == self._stall_seen_at else GapReason.STALL
        self._stall_seen_at = stalled_at
        start, now = min(self._agenda.earliest() or self._last_tick, self._last_tick), self._clock.now()
        missed = self._agenda.pass_over(now)
        log.warning(
            "schedule.gap", reason=reason, seconds=(now - start) / SECOND, missed=sum(missed.values())
        )
        await self._endings.miss(start, now, reason, counts=missed)

    def _follow_wall_clock(self) -> Micros:
        now = self._clock.now()
        if now - self._corrected_at < SECOND:
            return 0
        jump = self._clock.correct()
        self._corrected_at = now + jump
        return jump
