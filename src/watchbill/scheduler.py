"""Starts every slot of every check once, and says how each one ended that no probe ended.

One heap, one sleeping task; a task exists only for a running probe. Slots are taken from the grid, never from
"now": early timers run nothing twice and late ones lose nothing. What it promises is in docs/concurrency.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup, TaskStatus

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
from watchbill.domain.schedule import first_slot_after, last_slot_until, offset_of
from watchbill.domain.units import SECOND, Instant, Micros

TICK: Micros = 5_000
"""Slots due within one tick are started together: waking up costs more than starting."""
STALL: Micros = 2 * SECOND
LONGEST_SLEEP: Micros = SECOND
FIRST_PROBE_WITHIN: Micros = 5 * SECOND
LAG_PERIOD: Micros = SECOND // 10
DELAY_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Running:
    """One probe under way. ``settled``: its slot has been accounted for; what it still finds is dropped."""

    entry: Entry
    slot: Instant
    trigger: Trigger
    scope: anyio.CancelScope
    settled: bool = False


@dataclass(slots=True, eq=False)
class Entry:
    """One scheduled check. ``version`` tells its heap items from those of an earlier grid."""

    check_id: str
    interval: Micros
    offset: Micros
    next_slot: Instant
    version: int = 0
    running: Running | None = None
    waiting: Instant | None = None
    """A due slot that has not started, for want of capacity."""


Item = tuple[Instant, int, Entry, int, Trigger]


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
    lag: Histogram = field(default_factory=lambda: Histogram.over(LAG_BOUNDS))
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
        self._entries: dict[str, Entry] = {}
        self._heap: list[Item] = []
        self._order = count()
        self._queue: deque[Entry] = deque()
        self._running: set[Running] = set()
        self._sleeping: anyio.CancelScope | None = None
        self._group: TaskGroup | None = None
        self._idle = anyio.Event()
        self._stopping = False
        self._last_tick: Instant = clock.now()
        self._planned: Instant = self._last_tick
        self._corrected_at: Instant = self._last_tick
        self._stalled_at: Instant = 0
        self._counters = Counters()

    # --- subscribers ----------------------------------------------------------------------------------

    async def registered(self, event: CheckRegistered) -> None:
        """Take a check in, or its new revision; an unchanged interval keeps the next slot where it was."""
        check = event.check
        entry = self._entries.get(check.id)
        if not check.enabled:
            if entry is not None:
                await self._retire(entry, event.at)
            return
        interval = check.interval_micros
        if entry is not None and entry.interval == interval:
            return
        offset = offset_of(check.id, interval)
        first = first_slot_after(event.at, interval=interval, offset=offset)
        if entry is None:
            entry = self._entries[check.id] = Entry(check.id, interval, offset, first)
            self._push_first_probe(entry, event.at)
        else:
            if entry.next_slot <= event.at:
                await self._slots_due(entry, event.at)
            entry.interval, entry.offset, entry.next_slot = interval, offset, first
            entry.version += 1
        self._push(entry)
        self._wake_for(first)

    async def deleted(self, event: CheckDeleted) -> None:
        entry = self._entries.get(event.check.id)
        if entry is not None:
            await self._retire(entry, event.at)

    def configured(self, event: ConfigReloaded) -> None:
        self._capacity = event.loaded.config.limits.concurrent_probes

    # --- questions ------------------------------------------------------------------------------------

    def accounted_until(self) -> Instant:
        """The earliest slot that is still open; every slot before it has ended."""
        open_slots = [self._clock.now()]
        for running in self._running:
            if not running.settled:
                open_slots.append(running.slot)
            if running.entry.waiting is not None:
                open_slots.append(running.entry.waiting)
        open_slots += [entry.waiting for entry in self._queue if entry.waiting is not None]
        if self._heap:
            open_slots.append(self._heap[0][0])
        return min(open_slots)

    def claim(self, check_id: str, trigger: Trigger, slot: Instant | None) -> bool:
        """Whether this probe may still say how its slot ended; asking settles it."""
        entry = self._entries.get(check_id)
        if trigger is Trigger.MANUAL or entry is None or entry.running is None:
            return trigger is Trigger.MANUAL
        running = entry.running
        if running.settled or running.trigger is not trigger or (slot is not None and running.slot != slot):
            return False
        running.settled = True
        return True

    def stalled_since(self, started_at: Instant) -> bool:
        """Whether this process stood still at some time since then."""
        return self._stalled_at >= started_at or self._clock.now() - self._planned > STALL

    @property
    def last_tick(self) -> Instant:
        return self._last_tick

    def next_slot(self, check_id: str) -> Instant | None:
        entry = self._entries.get(check_id)
        return None if entry is None else entry.next_slot

    def statistics(self) -> SchedulerStatistics:
        counters = self._counters
        return SchedulerStatistics(
            delay=counters.delay,
            lag=counters.lag,
            checks=len(self._entries),
            running=len(self._running),
            waiting=len(self._queue),
            crashes=counters.crashes,
        )

    # --- running --------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Start slots until it is told to drain; returns when no probe is left."""
        self._last_tick = self._planned = self._clock.now()
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(self._measure_lag, name="loop lag")
            task_status.started()
            while not self._stopping:
                await self._sleep()
                if not self._stopping:
                    await self._tick()
            if self._running:
                await self._idle.wait()
            group.cancel_scope.cancel()
        self._group = None

    async def drain(self, grace_seconds: float) -> None:
        """Start nothing more, let what runs finish for a while, and skip the rest."""
        self._stopping = True
        self._wake()
        for entry in self._entries.values():
            await self._skip_waiting(entry, SkipReason.SHUTDOWN)
        self._queue.clear()
        if self._running:
            with anyio.move_on_after(grace_seconds):
                await self._idle.wait()
        for entry in self._entries.values():
            await self._cut_short(entry, SkipReason.SHUTDOWN)

    async def _sleep(self) -> None:
        now = self._clock.now()
        due = self._heap[0][0] if self._heap else now + LONGEST_SLEEP
        # Not bounded by now: a plan that lies in the past when the last tick took long is a stall.
        self._planned = min(max(due, self._last_tick + TICK), now + LONGEST_SLEEP)
        with anyio.CancelScope() as self._sleeping:
            await self._clock.sleep_until(self._planned)
        self._sleeping = None

    def _wake(self) -> None:
        if self._sleeping is not None:
            self._sleeping.cancel()

    def _wake_for(self, instant: Instant) -> None:
        if instant < self._planned:
            self._wake()

    async def _tick(self) -> None:
        """Start what is due. Everything before ``last_tick`` has been looked at."""
        now = self._clock.now()
        stalled = now - self._planned > STALL
        jump = self._follow_wall_clock(now)
        if stalled or jump:
            now = self._clock.now()
            await self._pass_over(now, GapReason.STALL if stalled else GapReason.CLOCK)
        self._last_tick = now
        while self._heap and self._heap[0][0] <= now and not self._stopping:
            _, _, entry, version, trigger = heappop(self._heap)
            if version != entry.version or self._entries.get(entry.check_id) is not entry:
                continue
            if trigger is Trigger.SCHEDULE:
                await self._slots_due(entry, now)
            elif entry.running is None and entry.waiting is None and not self._is_fresh(entry, now):
                self._start(entry, now, trigger)
            await anyio.lowlevel.checkpoint()

    def _follow_wall_clock(self, now: Instant) -> Micros:
        if now - self._corrected_at < SECOND:
            return 0
        jump = self._clock.correct()
        self._corrected_at = now + jump
        return jump

    async def _slots_due(self, entry: Entry, now: Instant) -> None:
        """Of the slots due now the newest is to run; those before it, and it if one still runs, are skipped."""
        newest = last_slot_until(now, interval=entry.interval, offset=entry.offset)
        slot, entry.next_slot = entry.next_slot, newest + entry.interval
        self._push(entry)
        running = entry.running
        if running is not None and running.trigger is Trigger.SCHEDULE:
            await self._skip(range(slot, newest + 1, entry.interval), entry, SkipReason.OVERLAP)
            return
        if running is not None:
            # A probe outside the slots gives way: it will not say how this slot ends.
            running.settled = True
            running.scope.cancel()
        overdue, entry.waiting = entry.waiting, newest
        if overdue is None:
            self._queue.append(entry)
        else:
            await self._skip([overdue], entry, SkipReason.OVERLOAD)
        await self._skip(range(slot, newest, entry.interval), entry, SkipReason.OVERLOAD)
        self._start_waiting()

    async def _pass_over(self, now: Instant, reason: GapReason) -> None:
        """After time that passed without us: leave only the newest due slot of each check, record one gap."""
        start, missed = self._last_tick, {}
        for entry in self._entries.values():
            if entry.next_slot > now:
                continue
            newest = last_slot_until(now, interval=entry.interval, offset=entry.offset)
            missed[entry.check_id] = (newest - entry.next_slot) // entry.interval
            start = min(start, entry.next_slot)
            entry.next_slot = newest
            entry.version += 1
        self._heap = [item for item in self._heap if item[3] == item[2].version]
        self._heap += [self._item(self._entries[check_id]) for check_id in missed]
        heapify(self._heap)
        if reason is GapReason.STALL:
            self._stalled_at = now
        log.warning(
            "schedule.gap", reason=reason, seconds=(now - start) / SECOND, missed=sum(missed.values())
        )
        await self._publish(SlotsMissed(start, now, reason, self._location, counts=missed))

    # --- probes ---------------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        while self._queue and len(self._running) < self._capacity and not self._stopping:
            entry = self._queue.popleft()
            if entry.waiting is None:
                continue
            if entry.running is not None:
                # Its out-of-slot probe is being cancelled; the slot starts when that has ended.
                continue
            slot, entry.waiting = entry.waiting, None
            self._start(entry, slot, Trigger.SCHEDULE)

    def _start(self, entry: Entry, slot: Instant, trigger: Trigger) -> None:
        if self._group is None:
            return
        running = entry.running = Running(entry, slot, trigger, anyio.CancelScope())
        self._running.add(running)
        if len(self._running) == 1:
            self._idle = anyio.Event()
        self._group.start_soon(self._probe, running, name=f"probe {entry.check_id}")

    async def _probe(self, running: Running) -> None:
        entry, started_at = running.entry, self._clock.now()
        if running.trigger is Trigger.SCHEDULE:
            self._counters.delay.observe((started_at - running.slot) / SECOND)
        try:
            with running.scope:
                try:
                    slot = running.slot if running.trigger is Trigger.SCHEDULE else None
                    await self._send(ExecuteChecks((entry.check_id,), running.trigger, slot))
                except Exception:  # the border: one broken probe must not end the others
                    self._counters.crashes += 1
                    log.exception("probe.crashed", check=entry.check_id)
                    await self._account_for_crash(running, started_at)
        finally:
            self._finished(running)

    async def _account_for_crash(self, running: Running, started_at: Instant) -> None:
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
        if entry.running is running:
            entry.running = None
        if entry.waiting is not None and self._entries.get(entry.check_id) is entry:
            self._queue.append(entry)
        self._start_waiting()
        if not self._running:
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
        running.scope.cancel()
        if running.trigger is Trigger.SCHEDULE:
            await self._skip([running.slot], entry, reason)

    async def _retire(self, entry: Entry, at: Instant) -> None:
        del self._entries[entry.check_id]
        due = range(entry.next_slot, at + 1, entry.interval)
        entry.version += 1
        await self._cut_short(entry, SkipReason.DELETED)
        await self._skip_waiting(entry, SkipReason.DELETED)
        await self._skip(due, entry, SkipReason.DELETED)
        with suppress(ValueError):
            self._queue.remove(entry)

    # --- the heap -------------------------------------------------------------------------------------

    def _item(self, entry: Entry) -> Item:
        return (entry.next_slot, next(self._order), entry, entry.version, Trigger.SCHEDULE)

    def _push(self, entry: Entry) -> None:
        heappush(self._heap, self._item(entry))

    def _push_first_probe(self, entry: Entry, at: Instant) -> None:
        """Newcomers are probed soon, spread like slots, unless history already knows them."""
        within = min(entry.interval, FIRST_PROBE_WITHIN)
        due = at + entry.offset % within
        heappush(self._heap, (due, next(self._order), entry, entry.version, Trigger.REGISTERED))
        self._wake_for(due)

    def _is_fresh(self, entry: Entry, now: Instant) -> bool:
        latest = self._latest_result(entry.check_id)
        return latest is not None and now - latest < entry.interval

    async def _measure_lag(self) -> None:
        while True:
            before = self._clock.now()
            await anyio.sleep(LAG_PERIOD / SECOND)
            self._counters.lag.observe(max(0, self._clock.now() - before - LAG_PERIOD) / SECOND)
