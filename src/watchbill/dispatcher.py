"""Starts probes as far as there is capacity, and sees each to its end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence

import anyio
import structlog
from anyio.abc import TaskGroup

from watchbill.agenda import Agenda, Entry, Running
from watchbill.board import Histogram
from watchbill.clock import Clock
from watchbill.domain.messages import Event, ExecuteChecks
from watchbill.domain.results import SkipReason, Trigger
from watchbill.domain.units import SECOND, Instant
from watchbill.endings import Endings
from watchbill.runners import Runners

DELAY_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)

log = structlog.get_logger()


class Dispatcher:
    """``send`` runs one probe and returns once its result has been published.

    ``running`` are the probes under way; without capacity, what else is to run waits for one of them to end.
    ``delay``: start minus slot.
    """

    def __init__(
        self,
        *,
        agenda: Agenda,
        clock: Clock,
        send: Callable[[ExecuteChecks], Awaitable[Sequence[Event]]],
        endings: Endings,
        latest_result: Callable[[str], Instant | None],
        capacity: int,
    ) -> None:
        self._agenda = agenda
        self._clock = clock
        self._send = send
        self._endings = endings
        self._latest_result = latest_result
        self._capacity = capacity
        self._queue: deque[Entry] = deque()
        self._newcomers: deque[Entry] = deque()
        self._runners: Runners | None = None
        self._idle: anyio.Event | None = None
        self._stopping = False
        self.running: set[Running] = set()
        self.delay = Histogram.over(DELAY_BOUNDS)

    def begin(self, group: TaskGroup) -> None:
        """Nothing starts before there is this group to run it in."""
        self._runners = Runners(group, self._probe)

    def limit(self, capacity: int) -> None:
        self._capacity = capacity
        self._start_waiting()

    def waiting(self) -> int:
        """How many due slots wait for capacity."""
        return len(self._queue)

    def open_slots(self) -> Iterator[Instant]:
        """Those that were due and have not ended."""
        for running in self.running:
            if not running.settled and running.trigger is Trigger.SCHEDULE:
                yield running.slot
            if running.entry.waiting is not None:
                yield running.entry.waiting
        for entry in self._queue:
            if entry.waiting is not None:
                yield entry.waiting

    # --- what is to run -------------------------------------------------------------------------------

    async def slots_due(self, entry: Entry, now: Instant) -> None:
        """Of the slots due now the newest is to run; those before it, and it if one still runs, are skipped."""
        slot, newest = entry.next_slot, entry.newest_slot(now)
        self._agenda.expect(entry, newest + entry.interval)
        running = entry.running
        if running is not None and running.trigger is Trigger.SCHEDULE:
            await self._endings.skip(range(slot, newest + 1, entry.interval), entry, SkipReason.OVERLAP)
            return
        overdue, entry.waiting = entry.waiting, newest
        if overdue is not None:
            await self._endings.skip([overdue], entry, SkipReason.OVERLOAD)
        elif running is None:
            self._queue.append(entry)
        else:
            # A probe outside the slots gives way, saying nothing; the slot starts when that has ended.
            running.settled = True
            running.cancel()
        if slot < newest:
            await self._endings.skip(range(slot, newest, entry.interval), entry, SkipReason.OVERLOAD)
        self._start_waiting()

    def newcomer(self, entry: Entry) -> None:
        """It is to be probed once outside its slots."""
        self._newcomers.append(entry)
        self._start_waiting()

    async def retire(self, entry: Entry, at: Instant) -> None:
        """It runs no more; its slots until then are skipped."""
        self._agenda.remove(entry)
        await self._endings.cut_short(entry, SkipReason.DELETED)
        if entry.waiting is not None and entry.running is None:
            self._queue.remove(entry)
        await self._endings.skip_waiting(entry, SkipReason.DELETED)
        await self._endings.skip(range(entry.next_slot, at + 1, entry.interval), entry, SkipReason.DELETED)

    # --- probes ---------------------------------------------------------------------------------------

    def _start_waiting(self) -> None:
        """As far as there is capacity: slots first, then newcomers whose slot has not come yet."""
        runners = self._runners
        if runners is None:
            return
        while self._queue and self._may_start():
            entry = self._queue.popleft()
            slot, entry.waiting = entry.waiting, None
            if slot is not None:
                self._start(runners, entry, slot, Trigger.SCHEDULE)
        while self._newcomers and self._may_start():
            entry = self._newcomers.popleft()
            if self._is_in_want(entry):
                self._start(runners, entry, self._clock.now(), Trigger.REGISTERED)

    def _may_start(self) -> bool:
        return len(self.running) < self._capacity and not self._stopping

    def _is_in_want(self, entry: Entry) -> bool:
        """Whether a probe outside the slots would tell what no slot has told or is about to."""
        busy = entry.running is not None or entry.waiting is not None
        if busy or self._agenda.entries.get(entry.check_id) is not entry:
            return False
        latest = self._latest_result(entry.check_id)
        return latest is None or self._clock.now() - latest >= entry.interval

    def _start(self, runners: Runners, entry: Entry, slot: Instant, trigger: Trigger) -> None:
        running = entry.running = Running(entry, slot, trigger)
        self.running.add(running)
        runners.start(running)

    async def _probe(self, running: Running) -> None:
        started_at = self._clock.now()
        slot = running.slot if running.trigger is Trigger.SCHEDULE else None
        if slot is not None:
            self.delay.observe((started_at - slot) / SECOND)
        try:
            if not running.settled:  # it may have been cut short before it began
                await self._send(ExecuteChecks((running.entry.check_id,), running.trigger, slot))
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() == -math.inf:
                await self._endings.cut_short(running.entry, SkipReason.SHUTDOWN)
                raise
            # Nobody cancelled this: a future of some library was cancelled, and that must not end its siblings.
            log.exception("probe.crashed", check=running.entry.check_id)
            await self._endings.crash(running, started_at)
        except Exception:  # the border: one broken probe must not end the others
            log.exception("probe.crashed", check=running.entry.check_id)
            await self._endings.crash(running, started_at)
        finally:
            self._finished(running)

    def _finished(self, running: Running) -> None:
        entry = running.entry
        self.running.discard(running)
        entry.running = None
        if entry.waiting is not None:
            self._queue.append(entry)
        self._start_waiting()
        if self._idle is not None and not self.running:
            self._idle.set()

    # --- the end --------------------------------------------------------------------------------------

    async def drain(self, grace_seconds: float) -> None:
        """Start nothing more, let what runs finish for a while, and skip the rest."""
        self._stopping = True
        for entry in self._agenda.entries.values():
            await self._endings.skip_waiting(entry, SkipReason.SHUTDOWN)
        self._queue.clear()
        self._newcomers.clear()
        with anyio.move_on_after(grace_seconds):
            await self.until_idle()
        for entry in self._agenda.entries.values():
            await self._endings.cut_short(entry, SkipReason.SHUTDOWN)

    async def until_idle(self) -> None:
        """Until no probe is left; nothing is started any more."""
        if self.running:
            self._idle = self._idle or anyio.Event()
            await self._idle.wait()
