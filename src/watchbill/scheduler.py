"""Starts every slot of every check once, and says how each one ended that no probe ended.

One sleeping task; a task exists only for a running probe. Slots are taken from the grid, never from
"now": early timers run nothing twice and late ones lose nothing. What it promises is in docs/concurrency.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
import structlog
from anyio.abc import TaskStatus

from watchbill.agenda import Agenda, Entry, Running
from watchbill.board import Histogram
from watchbill.clock import Clock
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckRegistered,
    ConfigReloaded,
    Event,
    ExecuteChecks,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.results import Failure, GapReason, Outcome, Reason, Result, SkipReason, Trigger
from watchbill.domain.stalls import Stall
from watchbill.domain.units import SECOND, Instant, Micros
from watchbill.pacing import LATE, MOST_STARTS_A_TURN, starts_a_turn, tick_length
from watchbill.pulse import Pulse
from watchbill.runners import Runners

LONGEST_SLEEP: Micros = SECOND
DELAY_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)

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


@dataclass(slots=True)
class Counters:
    delay: Histogram = field(default_factory=lambda: Histogram.over(DELAY_BOUNDS))
    crashes: int = 0


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
        self._send = send
        self._publish = publish
        self._latest_result = latest_result
        self._location = location
        self._capacity = capacity
        self._agenda = Agenda()
        self._pulse = Pulse(clock)
        self._queue: deque[Entry] = deque()
        self._newcomers: deque[Entry] = deque()
        self._running: set[Running] = set()
        self._held: list[Instant] = []
        self._sleeping: anyio.CancelScope | None = None
        self._runners: Runners | None = None
        self._idle: anyio.Event | None = None
        self._stopping = False
        self._last_tick: Instant = clock.now()
        self._planned: Instant = self._last_tick
        self._corrected_at: Instant = self._last_tick
        self._stall_seen_at: Instant = 0
        self._counters = Counters()

    # --- subscribers ----------------------------------------------------------------------------------

    async def registered(self, event: CheckRegistered) -> None:
        """Take a check in, or its new revision; an unchanged interval keeps the next slot where it was."""
        check = event.check
        interval = check.interval_micros
        entry = self._agenda.entries.get(check.id)
        if not check.enabled:
            if entry is not None:
                await self._retire(entry, event.at)
        elif entry is None:
            self._agenda.add(check.id, interval=interval, at=event.at)
        elif entry.interval != interval:
            if entry.next_slot <= event.at:
                await self._slots_due(entry, event.at)
            self._agenda.change_grid(entry, interval=interval, at=event.at)
        self._wake_for(self._agenda.earliest())

    async def deleted(self, event: CheckDeleted) -> None:
        entry = self._agenda.entries.get(event.check.id)
        if entry is not None:
            await self._retire(entry, event.at)

    def configured(self, event: ConfigReloaded) -> None:
        self._capacity = event.loaded.config.limits.concurrent_probes
        self._start_waiting()

    # --- questions ------------------------------------------------------------------------------------

    def accounted_until(self) -> Instant:
        """The earliest slot that is still open; every slot before it has ended."""
        open_slots = [self._clock.now(), *self._held]
        for running in self._running:
            if not running.settled and running.trigger is Trigger.SCHEDULE:
                open_slots.append(running.slot)
            if running.entry.waiting is not None:
                open_slots.append(running.entry.waiting)
        open_slots += [entry.waiting for entry in self._queue if entry.waiting is not None]
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
    def last_tick(self) -> Instant:
        return self._last_tick

    def next_slot(self, check_id: str) -> Instant | None:
        entry = self._agenda.entries.get(check_id)
        return None if entry is None else entry.next_slot

    def statistics(self) -> SchedulerStatistics:
        return SchedulerStatistics(
            delay=self._counters.delay,
            lag=self._pulse.lag,
            checks=len(self._agenda.entries),
            running=len(self._running),
            waiting=len(self._queue),
            crashes=self._counters.crashes,
        )

    # --- running --------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start slots until it is told to drain; returns when no probe is left."""
        async with anyio.create_task_group() as group:
            self._runners = Runners(group, self._probe)
            self._last_tick = self._planned = self._clock.now()
            task_status.started()
            while not self._stopping:
                await self._sleep()
                if not self._stopping:
                    await self._tick()
            group.start_soon(partial(self._pulse.run, probing=self._running), name="loop lag")
            await self._until_idle()
            group.cancel_scope.cancel()

    async def drain(self, grace_seconds: float) -> None:
        """Start nothing more, let what runs finish for a while, and skip the rest."""
        self._stopping = True
        self._wake()
        for entry in self._agenda.entries.values():
            await self._skip_waiting(entry, SkipReason.SHUTDOWN)
        self._queue.clear()
        self._newcomers.clear()
        with anyio.move_on_after(grace_seconds):
            await self._until_idle()
        for entry in self._agenda.entries.values():
            await self._cut_short(entry, SkipReason.SHUTDOWN)

    async def _until_idle(self) -> None:
        """Until no probe is left; nothing is started any more."""
        if self._running:
            self._idle = self._idle or anyio.Event()
            await self._idle.wait()

    async def _sleep(self) -> None:
        now = self._clock.now()
        due = self._agenda.earliest() or now + LONGEST_SLEEP
        next_tick = self._last_tick + tick_length(self._agenda.slots_per_second)
        self._planned = min(max(due, next_tick), now + LONGEST_SLEEP)
        with anyio.CancelScope() as self._sleeping:
            await self._pulse.sleep_until(self._planned, probing=self._running)
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
                await self._slots_due(entry, now)
            else:
                self._newcomers.append(entry)
                self._start_waiting()
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
        await self._publish(SlotsMissed(start, now, reason, self._location, counts=missed))

    def _follow_wall_clock(self) -> Micros:
        now = self._clock.now()
        if now - self._corrected_at < SECOND:
            return 0
        jump = self._clock.correct()
        self._corrected_at = now + jump
        return jump

    async def _slots_due(self, entry: Entry, now: Instant) -> None:
        """Of the slots due now the newest is to run; those before it, and it if one still runs, are skipped."""
        slot, newest = entry.next_slot, entry.newest_slot(now)
        self._agenda.expect(entry, newest + entry.interval)
        running = entry.running
        if running is not None and running.trigger is Trigger.SCHEDULE:
            await self._skip(range(slot, newest + 1, entry.interval), entry, SkipReason.OVERLAP)
            return
        overdue, entry.waiting = entry.waiting, newest
        if overdue is not None:
            await self._skip([overdue], entry, SkipReason.OVERLOAD)
        elif running is None:
            self._queue.append(entry)
        else:
            # A probe outside the slots gives way, saying nothing; the slot starts when that has ended.
            running.settled = True
            running.cancel()
        if slot < newest:
            await self._skip(range(slot, newest, entry.interval), entry, SkipReason.OVERLOAD)
        self._start_waiting()

    # --- probes ---------------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        """As far as there is capacity: slots first, then newcomers whose slot has not come yet."""
        while self._queue and self._may_start():
            entry = self._queue.popleft()
            slot, entry.waiting = entry.waiting, None
            if slot is not None:
                self._start(entry, slot, Trigger.SCHEDULE)
        while self._newcomers and self._may_start():
            entry = self._newcomers.popleft()
            if self._is_in_want(entry):
                self._start(entry, self._clock.now(), Trigger.REGISTERED)

    def _may_start(self) -> bool:
        return len(self._running) < self._capacity and self._runners is not None and not self._stopping

    def _is_in_want(self, entry: Entry) -> bool:
        """Whether a probe outside the slots would tell what no slot has told or is about to."""
        busy = entry.running is not None or entry.waiting is not None
        if busy or self._agenda.entries.get(entry.check_id) is not entry:
            return False
        latest = self._latest_result(entry.check_id)
        return latest is None or self._clock.now() - latest >= entry.interval

    def _start(self, entry: Entry, slot: Instant, trigger: Trigger) -> None:
        assert self._runners is not None  # noqa: S101 - `_may_start` has looked
        running = entry.running = Running(entry, slot, trigger)
        self._running.add(running)
        self._runners.start(running)

    async def _probe(self, running: Running) -> None:
        started_at = self._clock.now()
        slot = running.slot if running.trigger is Trigger.SCHEDULE else None
        if slot is not None:
            self._counters.delay.observe((started_at - slot) / SECOND)
        try:
            if not running.settled:  # it may have been cut short before it began
                await self._send(ExecuteChecks((running.entry.check_id,), running.trigger, slot))
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == -math.inf:
                await self._cut_short(running.entry, SkipReason.SHUTDOWN)
                raise
            # Nobody cancelled this: a future of some library was cancelled, and that must not end its siblings.
            log.exception("probe.crashed", check=running.entry.check_id)
            await self._account_for_crash(running, started_at)
        except Exception:  # the border: one broken probe must not end the others
            log.exception("probe.crashed", check=running.entry.check_id)
            await self._account_for_crash(running, started_at)
        finally:
            self._finished(running)

    async def _account_for_crash(self, running: Running, started_at: Instant) -> None:
        self._counters.crashes += 1
        if running.settled:
            return
        running.settled = True
        result = Result(
            check_id=running.entry.check_id,
            location=self._location,
            slot=running.slot,
            trigger=running.trigger,
            started_at=started_at,
            duration_seconds=(self._clock.now() - started_at) / SECOND,
            outcome=Outcome.ERROR,
            failures=(Failure(Reason.INTERNAL, "the probe crashed; the log has the traceback"),),
        )
        await self._publish(CheckErrored(result))

    def _finished(self, running: Running) -> None:
        entry = running.entry
        self._running.discard(running)
        entry.running = None
        if entry.waiting is not None:
            self._queue.append(entry)
        self._start_waiting()
        if self._idle is not None and not self._running:
            self._idle.set()

    # --- accounting for what does not run -------------------------------------------------------------

    async def _skip(self, slots: Iterable[Instant], entry: Entry, reason: SkipReason) -> None:
        for slot in slots:
            await self._publish(SlotSkipped(entry.check_id, self._location, slot, reason))

    async def _skip_waiting(self, entry: Entry, reason: SkipReason) -> None:
        slot, entry.waiting = entry.waiting, None
        if slot is not None:
            await self._skip([slot], entry, reason)

    async def _cut_short(self, entry: Entry, reason: SkipReason) -> None:
        running = entry.running
        if running is None or running.settled:
            return
        running.settled = True
        running.cancel()
        if running.trigger is Trigger.SCHEDULE:
            await self._skip([running.slot], entry, reason)

    async def _retire(self, entry: Entry, at: Instant) -> None:
        self._agenda.remove(entry)
        await self._cut_short(entry, SkipReason.DELETED)
        if entry.waiting is not None and entry.running is None:
            self._queue.remove(entry)
        await self._skip_waiting(entry, SkipReason.DELETED)
        await self._skip(range(entry.next_slot, at + 1, entry.interval), entry, SkipReason.DELETED)
