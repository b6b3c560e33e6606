"""Bugs of the kind that people make, planted one at a time: a harness that finds none of them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from tests.sim.planted_gaps import PLANTED_GAPS
from watchbill import app, handlers, reload
from watchbill.agenda import Agenda, Entry
from watchbill.board import Board
from watchbill.bus import Bus
from watchbill.dispatcher import Dispatcher
from watchbill.domain import results
from watchbill.domain.history import Batch
from watchbill.domain.messages import ConfigReloaded, Event, SlotsMissed
from watchbill.domain.plan import Plan
from watchbill.domain.results import GapReason, Outcome, Reason, Trigger
from watchbill.domain.units import Instant
from watchbill.endings import Endings
from watchbill.metrics.render import _Kept
from watchbill.probes import connections
from watchbill.runners import Runners
from watchbill.scheduler import Scheduler
from watchbill.storage.buffer import Buffer, rows_in
from watchbill.storage.writer import HistoryWriter

Plant = Callable[[pytest.MonkeyPatch], None]
SELDOM = 300
"""Of so many times it goes wrong once."""


def seldom(turns: count[int]) -> bool:
    return next(turns) % SELDOM == SELDOM - 1


# --- the schedule -------------------------------------------------------------------------------------


def lost_wake_up(patch: pytest.MonkeyPatch) -> None:
    """A probe that is handed to an idle task, which nobody wakes."""
    start, turns = Runners.start, count()

    def forgets(self: Any, running: Any) -> None:
        if self._idle and seldom(turns):
            self._begins.append(running)
        else:
            start(self, running)

    patch.setattr(Runners, "start", forgets)


def slot_run_twice(patch: pytest.MonkeyPatch) -> None:
    expect, turns = Agenda.expect, count()

    def repeats(self: Agenda, entry: Entry, slot: Instant) -> None:
        expect(self, entry, slot - entry.interval if seldom(turns) else slot)

    patch.setattr(Agenda, "expect", repeats)


def slot_dropped(patch: pytest.MonkeyPatch) -> None:
    expect, turns = Agenda.expect, count()

    def leaves_out(self: Agenda, entry: Entry, slot: Instant) -> None:
        expect(self, entry, slot + entry.interval if seldom(turns) else slot)

    patch.setattr(Agenda, "expect", leaves_out)


def next_slot_from_now(patch: pytest.MonkeyPatch) -> None:
    """An interval after this probe, instead of after its slot."""
    slots_due = Dispatcher.slots_due

    async def drifts(self: Dispatcher, entry: Entry, now: Instant) -> None:
        await slots_due(self, entry, now)
        self._agenda.change_grid(entry, interval=entry.interval, at=now)
        self._agenda.expect(entry, now + entry.interval)

    patch.setattr(Dispatcher, "slots_due", drifts)


def probed_early(patch: pytest.MonkeyPatch) -> None:
    pop_due = Agenda.pop_due
    patch.setattr(Agenda, "pop_due", lambda self, now: pop_due(self, now + 1_000))


def probed_twice_at_once(patch: pytest.MonkeyPatch) -> None:
    """The probe that is under way is forgotten when the next slot is due."""
    slots_due = Dispatcher.slots_due

    async def forgets(self: Dispatcher, entry: Entry, now: Instant) -> None:
        if entry.running is not None and entry.running.trigger is Trigger.SCHEDULE:
            entry.running = None
        await slots_due(self, entry, now)

    patch.setattr(Dispatcher, "slots_due", forgets)


def capacity_lost(patch: pytest.MonkeyPatch) -> None:
    """What waits for capacity is forgotten, now and then."""
    finished, turns = Dispatcher._finished, count()

    def forgets(self: Any, running: Any) -> None:
        if self._queue and next(turns) % 20 == 19:
            self._queue.popleft()
        finished(self, running)

    patch.setattr(Dispatcher, "_finished", forgets)


def gap_not_recorded(patch: pytest.MonkeyPatch) -> None:
    """After a stall nobody says which slots were passed over."""

    async def says_nothing(*_: object, **__: object) -> None:
        return

    patch.setattr(Endings, "miss", says_nothing)


def agenda_grows(patch: pytest.MonkeyPatch) -> None:
    """What no longer counts stays in the heap until it is due."""
    patch.setattr(Agenda, "_keep_small", lambda self: None)
    patch.setattr(Agenda, "_drop_stale", lambda self: None)
    change_grid = Agenda.change_grid

    def leaves_more(self: Agenda, entry: Entry, *, interval: int, at: Instant) -> None:
        change_grid(self, entry, interval=interval, at=at)
        self._heap += [(10**18, next(self._order), entry, -1, Trigger.SCHEDULE) for _ in range(100)]

    patch.setattr(Agenda, "change_grid", leaves_more)


def registered_unheld(patch: pytest.MonkeyPatch) -> None:
    """Accounting passes the instant as of which checks are still being registered."""
    patch.setattr(Scheduler, "hold", lambda self, at: nullcontext())


# --- history ------------------------------------------------------------------------------------------


def acknowledged_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    async def hurries(self: Any, batch: Batch) -> None:
        self._batch = None
        self._rows += rows_in(batch.events)
        await self._storage.commit(batch)

    patch.setattr(HistoryWriter, "_commit", hurries)


def sent_again_as_new(patch: pytest.MonkeyPatch) -> None:
    """After a commit of unknown outcome the store cannot tell that it has these rows."""
    commit = HistoryWriter._commit

    async def copies(self: HistoryWriter, batch: Batch) -> None:
        await commit(self, replace(batch))

    patch.setattr(HistoryWriter, "_commit", copies)


def accounted_too_far(patch: pytest.MonkeyPatch) -> None:
    """Slots that are still open count as ended."""
    patch.setattr(Scheduler, "accounted_until", lambda self: self._clock.now())


def row_lost_in_the_buffer(patch: pytest.MonkeyPatch) -> None:
    put, turns = Buffer.put, count()

    def loses(self: Buffer, event: Event) -> None:
        if not seldom(turns):
            put(self, event)

    patch.setattr(Buffer, "put", loses)


def dropped_without_a_gap(patch: pytest.MonkeyPatch) -> None:
    """Rows that found no room are counted, but their slots are not in a gap."""
    patch.setattr(Buffer, "_take_gaps", lambda self: [])


def accounted_past_what_waits(patch: pytest.MonkeyPatch) -> None:
    """A batch accounts for rows that are only in the next one."""
    take = Buffer.take
    patch.setattr(
        Buffer, "take", lambda self, limit, until: replace(take(self, limit, until), accounted_until=until)
    )


def restart_forgets_the_gap(patch: pytest.MonkeyPatch) -> None:
    """Nobody says that there was no process for a while."""
    publish = Bus.publish

    async def leaves_out(self: Bus, event: Event) -> None:
        if not (isinstance(event, SlotsMissed) and event.reason is GapReason.RESTART):
            await publish(self, event)

    patch.setattr(Bus, "publish", leaves_out)


def clock_set_back_repeats_slots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(app, "_go_on_after", lambda opening, clock: None)


def status_forgotten_at_restart(patch: pytest.MonkeyPatch) -> None:
    restore = Board.restore
    patch.setattr(Board, "restore", lambda self, latest, _, last_seen: restore(self, latest, {}, last_seen))


# --- reload -------------------------------------------------------------------------------------------


def counters_reset_at_reload(patch: pytest.MonkeyPatch) -> None:
    configured = Board.configured

    def resets(self: Board, event: ConfigReloaded) -> None:
        configured(self, event)
        for state in self.checks.values():
            state.slots = dict.fromkeys(Outcome, 0)

    patch.setattr(Board, "configured", resets)


def reload_touches_everything(patch: pytest.MonkeyPatch) -> None:
    """An equal check that was parsed anew is registered anew."""
    patch.setattr(reload, "_differ", lambda running, declared: declared is not running)
    patch.setattr(reload, "field_changes", lambda before, after: (before,))


def reload_half_done(patch: pytest.MonkeyPatch) -> None:
    """What is to go stays, now and then."""
    reconcile, turns = reload.reconcile, count()

    async def stops_early(plan: Plan, *given: Any) -> None:
        leaves = plan.removed and next(turns) % 5 == 4
        await reconcile(replace(plan, removed=plan.removed[1:]) if leaves else plan, *given)

    patch.setattr(reload, "reconcile", stops_early)


def mass_delete_allowed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "deletes_most_of", lambda self, running: False)


# --- what is shown ------------------------------------------------------------------------------------


def own_fault_shown_as_down(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(results, "OWN_SIDE", results.OWN_SIDE - {Reason.RESOLVER})


def stall_taken_for_slowness(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(handlers, "judge", lambda result, check, stalls: result)


def metrics_grow_stale(patch: pytest.MonkeyPatch) -> None:
    """A check's lines are kept though its state has changed."""
    patch.setattr(_Kept, "holds_for", lambda self, state, now: self.is_of(state))


def connection_left_open(patch: pytest.MonkeyPatch) -> None:
    turns, shut = count(), connections.shut

    async def forgets(connection: Any) -> None:
        if not seldom(turns):
            await shut(connection)

    for module in ("transport", "tcp", "dns", "tls", "ways"):
        patch.setattr(f"watchbill.probes.{module}.shut", forgets)


PLANTED: Mapping[str, Plant] = {
    plant.__name__: plant
    for plant in (
        lost_wake_up,
        slot_run_twice,
        slot_dropped,
        next_slot_from_now,
        probed_early,
        probed_twice_at_once,
        capacity_lost,
        gap_not_recorded,
        registered_unheld,
        agenda_grows,
        acknowledged_before_the_commit,
        sent_again_as_new,
        accounted_too_far,
        row_lost_in_the_buffer,
        dropped_without_a_gap,
        accounted_past_what_waits,
        restart_forgets_the_gap,
        clock_set_back_repeats_slots,
        status_forgotten_at_restart,
        counters_reset_at_reload,
        reload_touches_everything,
        reload_half_done,
        mass_delete_allowed,
        own_fault_shown_as_down,
        stall_taken_for_slowness,
        metrics_grow_stale,
        connection_left_open,
        *PLANTED_GAPS,
    )
}
