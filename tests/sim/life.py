"""One process: what it says of each check, held against the truth and against what it said before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.sim.file import File
from tests.sim.gaps import Gaps, WatchedTimeline
from tests.sim.machine import Machine
from tests.sim.mirror import Mirror
from tests.sim.network import SimulatedNetwork
from tests.sim.pending import ROWS, Pending, Row, Slot, slot_of
from tests.sim.probing import Watch
from tests.sim.scrape import Scraper
from tests.sim.store import Store
from watchbill.app import App
from watchbill.domain.checks import Http
from watchbill.domain.config import LoadedConfig
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckStatusChanged,
    CheckSucceeded,
    Command,
    ConfigRejected,
    ConfigReloaded,
    Event,
    HeartbeatReceived,
    ServiceStatusChanged,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.plan import MASS_DELETE_FLOOR
from watchbill.domain.results import Outcome, Trigger
from watchbill.domain.schedule import offset_of
from watchbill.domain.units import Instant
from watchbill.storage.writer import HISTORY_EVENTS

STUCK_SECONDS = 200.0
"""A slot is open for an interval and a timeout at most; the longest interval is two minutes."""
UNWRITTEN_SECONDS = 12.0
"""After so long a row is stored, where the store works (its slowest commit takes two seconds, a pause five)."""
IDLE_TASKS = 140
HURRY_AFTER_SECONDS = 10.0
"""So long after a start or a reload slots may still run late."""


@dataclass
class Life:
    """``tell`` takes a line of the story, which is hashed: the same seed tells the same."""

    machine: Machine
    network: SimulatedNetwork
    store: Store
    file: File
    clock: WatchedTimeline
    pending: Pending
    tell: Callable[[str], None]
    end: Callable[[], None] = lambda: None
    """Ends it at once."""
    broken: str | None = None
    broken_at: float = 0.0
    frozen: bool = False
    produced: int = 0
    loaded: LoadedConfig | None = None
    reloads_under_way: int = 0
    mirror: Mirror = field(default_factory=Mirror)
    scraper: Scraper = field(default_factory=Scraper)
    _ended: set[Slot] = field(default_factory=set)
    _registered: set[str] = field(default_factory=set)
    _unwritten: deque[tuple[float, int]] = field(default_factory=deque)
    """When each row was produced that is not stored yet, and how many events waited then."""
    _written: int = 0
    _rows_before: int = 0
    _progress: tuple[Instant, float] = (0, 0.0)

    def __post_init__(self) -> None:
        self.watch = Watch(self.machine, self.network, self.clock, self.mirror, self.breaks)
        self.watch.unhurried_until = float("inf")
        self.gaps = Gaps(self.machine, self.clock, self.store.account, lambda: self.store.opened, self.breaks)
        self._rows_before = self.store.rows
        self._progress = 0, self.machine.monotonic()

    def breaks(self, promise: str) -> None:
        if not self.frozen and self.broken is None:
            self.broken, self.broken_at = promise, self.machine.monotonic()
            self.tell(f"BROKEN: {promise}")
            self.end()

    def begins(self, app: App) -> None:
        """Slots are started from here on."""
        self.gaps.begins()
        self.compare(app)
        app.bus.subscribe(ROWS, partial(self._after, app), name="simulation")

    def hurries_not(self) -> None:
        """Slots may run late for a while: where there is little capacity, for as long as that is so."""
        limit = 0 if self.loaded is None else self.loaded.config.limits.concurrent_probes
        self.watch.may_hurry_after(HURRY_AFTER_SECONDS if limit >= len(self.mirror.checks) else float("inf"))

    # --- events -------------------------------------------------------------------------------------

    def hear(self, event: Event | Command) -> None:
        if self.frozen:
            return
        if isinstance(event, HISTORY_EVENTS):
            self.pending.heard(event)
        if isinstance(event, ROWS):
            self.produced += 1
            if (slot := slot_of(event)) in self._ended:
                self.breaks(f"a slot ends twice: {event}")
            if slot is not None:
                self._ended.add(slot)
            self._unwritten.append((self.machine.monotonic(), self.pending.count))
        match event:
            case CheckSucceeded(result) | CheckFailed(result) | CheckErrored(result):
                self.tell(
                    f"{result.check_id} {result.trigger} {result.slot} {result.outcome} {result.reason or ''}"
                    f" after {result.duration_seconds:.6f} s"
                )
                if (told := self.mirror.checks.get(result.check_id)) is not None:
                    told.take(result)
                elif result.trigger is not Trigger.MANUAL:
                    self.breaks(f"a result of {result.check_id}, which is not registered")
                self.watch.judge(result)
            case SlotSkipped():
                self.tell(f"{event.check_id} {event.slot} skipped: {event.reason}")
                self.watch.judge_skip(event)
                if (told := self.mirror.checks.get(event.check_id)) is not None:
                    told.slots[Outcome.SKIPPED] += 1
            case _:
                self._hear_of_change(event)

    def _hear_of_change(self, event: Event | Command) -> None:
        match event:
            case CheckRegistered():
                self.gaps.registered(event.check.id, event.at)
                self._registered.add(event.check.id)
                self.hurries_not()
                self.mirror.registered(event)
            case CheckDeleted():
                self.mirror.deleted(event)
            case SlotsMissed():
                self.tell(f"gap {event.reason} {event.start} to {event.end}")
                self.gaps.hear(event)
                self.mirror.missed(event.counts)
            case HeartbeatReceived():
                self.mirror.checks[event.check_id].last_seen = event.at
            case CheckStatusChanged(flip):
                if self.mirror.checks[flip.check_id].status is not flip.after:
                    self.breaks(f"{flip} does not follow from its results")
            case ServiceStatusChanged():
                self.tell(f"service {event.service} {event.after}")
            case ConfigReloaded():
                self._reloaded(event)
            case ConfigRejected():
                self.tell(f"rejected: {event.error[:80]}")
                self.scraper.reloaded_well = False
            case _:
                pass

    def _reloaded(self, event: ConfigReloaded) -> None:
        self.tell(f"loaded: {event.plan.counts()}")
        before, self.loaded = self.loaded, event.loaded
        registered, self._registered = self._registered, set()
        self.hurries_not()
        self.scraper.reloaded_well = True
        if before is None:
            config = event.loaded.config
            self.mirror.restored(self.store.opened.renamed(config.checks, config.moved), event.at)
            said = self.mirror.missed_at_start
            for name, missed in self.store.missed_since(event.at).items():
                if said.get(name, 0) != missed:
                    self.breaks(f"{said.get(name, 0)} slots of {name} are said to be missed, {missed} were")
            return
        was, now = self.file.declared_in(before), self.file.declared_in(event.loaded)
        touched = {name for name, declared in now.items() if was.get(name) != declared}
        if registered != touched:
            self.breaks(f"a reload touched {sorted(registered ^ touched)}, or did not where it should")
        gone = len(set(was) - set(now) - set(event.loaded.config.moved))
        if gone > MASS_DELETE_FLOOR and 2 * gone > len(was):
            self.breaks(f"a reload deleted {gone} of {len(was)} checks")

    # --- after every event --------------------------------------------------------------------------

    def _after(self, app: App, event: Row) -> None:
        """Everybody has heard of it: what is said of its check, and the books of history."""
        if self.frozen or self.broken is not None:
            return
        check_id = event.check_id if isinstance(event, SlotSkipped) else event.result.check_id
        if check_id in self.mirror.checks:
            self._compare_check(app, check_id)
        self._compare_history(app)

    # --- after every step ---------------------------------------------------------------------------

    def compare(self, app: App) -> None:
        """Every promise that can be held against what is in memory now."""
        if self.frozen or self.broken is not None:
            return
        self._compare_board(app)
        self._compare_history(app)
        self.gaps.overdue()
        self._compare_bounds(app)
        self._compare_progress(app)
        if not self.reloads_under_way:
            self._compare_running(app)

    def scrape(self, app: App) -> None:
        found = self.scraper.differences(app, self.mirror)
        if found is not None:
            self.breaks(found)

    def _compare_board(self, app: App) -> None:
        if either := app.board.checks.keys() ^ self.mirror.checks.keys():
            return self.breaks(f"{sorted(either)} are on the board or registered, not both")
        for check_id in self.mirror.checks:
            self._compare_check(app, check_id)
        failed = {name: times for name, times in app.bus.statistics().handler_errors.items() if times}
        if failed:
            self.breaks(f"subscribers failed: {failed}")
        for service, status in app.board.services.items():
            if status is not self.mirror.service(service):
                self.breaks(
                    f"{service} is {status} on the board, {self.mirror.service(service)} by its checks"
                )
        return None

    def _compare_check(self, app: App, check_id: str) -> None:
        missed_at_start = self.mirror.missed_at_start.get(check_id, 0)
        state, told = app.board.checks[check_id], self.mirror.checks[check_id]
        if (found := told.difference(state, missed_at_start=missed_at_start)) is not None:
            self.breaks(f"{check_id}: {found}")

    def _compare_history(self, app: App) -> None:
        """What is acknowledged is stored, what was produced is somewhere, and does not wait for long."""
        writer, stored = app.writer.statistics(), self.store.rows - self._rows_before
        if writer.rows > stored:
            self.breaks(f"{writer.rows} rows are acknowledged, {stored} are stored")
        if (writer.pending, writer.dropped_rows) != (self.pending.count, self.pending.dropped_rows):
            self.breaks(
                f"{self.pending.count} events wait, {self.pending.dropped_rows} rows went, but {writer}"
            )
        if self.produced != app.produced:
            self.breaks(f"{self.produced} rows were produced, {app.produced} were counted")
        while self._unwritten and self._written < writer.rows + writer.dropped_rows:
            self._unwritten.popleft()
            self._written += 1
        oldest, before_it = self._unwritten[0] if self._unwritten else (float("inf"), 0)
        since = max(oldest, self.store.well_since)
        patience = UNWRITTEN_SECONDS + before_it / 2  # where batches are small, a backlog takes its time
        if self.machine.monotonic() - since > patience and not self.machine.stood_still(since):
            self.breaks(f"a row waits for {self.machine.monotonic() - oldest} s, though the store works")

    def _compare_bounds(self, app: App) -> None:
        running = self.watch.running
        kept = sum(
            isinstance(c.check, Http) and c.check.connection == "reuse" for c in self.mirror.checks.values()
        )
        if self.network.open_connections > running + kept:
            self.breaks(
                f"{self.network.open_connections} connections of {running} probes and {kept} kept ones"
            )
        if (tasks := self.machine.tasks()) > 4 * running + IDLE_TASKS:
            self.breaks(f"{tasks} tasks for {running} probes")
        scheduler = app.scheduler
        if scheduler.under_way > running + 2 * len(scheduler._agenda.entries):
            self.breaks(f"{scheduler.under_way} probes are said to run, {running} do")
        if (size := scheduler._agenda.size()) > 4 * len(scheduler._agenda.entries) + 1_010:
            self.breaks(f"{size} instants are kept for {len(scheduler._agenda.entries)} checks")

    def _compare_progress(self, app: App) -> None:
        """Accounting goes on: no slot stays open for ever."""
        until, now = app.scheduler.accounted_until(), self.machine.monotonic()
        if until > self._progress[0] or not app.scheduler._agenda.entries:
            self._progress = until, now
        elif now - self._progress[1] > STUCK_SECONDS:
            self.breaks(f"a slot is open for {now - self._progress[1]} s")

    def _compare_running(self, app: App) -> None:
        """What runs is the last valid configuration, each check on its own grid."""
        if self.loaded is None or app.loaded is not self.loaded:
            return self.breaks("what runs is not the configuration that was loaded last")
        checks = app.loaded.config.checks
        if app.board.checks.keys() != checks.keys():
            return self.breaks(
                f"{sorted(app.board.checks.keys() ^ checks.keys())} run or are declared, not both"
            )
        for check_id, check in checks.items():
            slot, interval = app.scheduler.next_slot(check_id), check.interval_micros
            if (slot is not None) is not check.enabled:
                return self.breaks(
                    f"{check_id} is {'' if check.enabled else 'not '}enabled, its next slot {slot}"
                )
            if slot is not None and (slot - offset_of(check_id, interval)) % interval:
                return self.breaks(f"the next slot {slot} of {check_id} is not on its grid")
        return None

    # --- at its end ---------------------------------------------------------------------------------

    def conclude(self, app: App) -> None:
        """After it was stopped in good order."""
        self.compare(app)
        if self.watch.running:
            self.breaks(f"probes that outlive the process: {+self.watch.under_way}")
        if self.network.open_connections:
            self.breaks(f"{self.network.open_connections} connections are left open")
        writer = app.writer.statistics()
        if writer.pending:
            return
        stored = self.store.rows - self._rows_before
        if stored + writer.dropped_rows < self.produced:
            self.breaks(
                f"{self.produced} rows were produced, {stored} are stored and {writer.dropped_rows} dropped"
            )
        declared = {
            check.id: (check.interval_micros, offset_of(check.id, check.interval_micros))
            for check in app.loaded.config.checks.values()
            if check.enabled
        }
        if self.store.expected_now() != declared:
            self.breaks("the spans that are open are not those of the declared checks")
