"""One process: what it says of each check, held against the truth and against what it said before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tests.sim.file import File
from tests.sim.machine import Machine
from tests.sim.mirror import Mirror
from tests.sim.network import SimulatedNetwork
from tests.sim.probing import Watch
from tests.sim.scrape import Scraper
from tests.sim.store import ROWS, Store
from watchbill.app import App
from watchbill.clock import Clock
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

STUCK_SECONDS = 200.0
"""A slot is open for an interval and a timeout at most; the longest interval is two minutes."""
UNWRITTEN_SECONDS = 12.0
"""After so long a row is stored, where the store works (its slowest commit takes two seconds, a pause five)."""
EVERYTHING_EVERY = 8
"""So often what nobody spoke of is looked at, too."""
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
    clock: Clock
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
    _touched: set[str] = field(default_factory=set)
    """Of whom something was heard since they were looked at."""
    _compared: int = 0
    _registered: set[str] = field(default_factory=set)
    _unwritten: deque[float] = field(default_factory=deque)
    """When each row was produced that is not stored yet."""
    _written: int = 0
    _rows_before: int = 0
    _progress: tuple[Instant, float] = (0, 0.0)

    def __post_init__(self) -> None:
        self.watch = Watch(self.machine, self.network, self.clock, self.mirror, self.breaks)
        self.watch.unhurried_until = float("inf")
        self._rows_before = self.store.rows
        self._progress = 0, self.machine.monotonic()

    def breaks(self, promise: str) -> None:
        if not self.frozen and self.broken is None:
            self.broken, self.broken_at = promise, self.machine.monotonic()
            self.tell(f"BROKEN: {promise}")
            self.end()

    def hurries_not(self) -> None:
        """Slots may run late for a while: where there is little capacity, for as long as that is so."""
        limit = 0 if self.loaded is None else self.loaded.config.limits.concurrent_probes
        self.watch.may_hurry_after(HURRY_AFTER_SECONDS if limit >= len(self.mirror.checks) else float("inf"))

    # --- events -------------------------------------------------------------------------------------

    def hear(self, event: Event | Command) -> None:
        if self.frozen:
            return
        if isinstance(event, ROWS):
            self.produced += 1
            self._unwritten.append(self.machine.monotonic())
        match event:
            case CheckSucceeded(result) | CheckFailed(result) | CheckErrored(result):
                self.tell(
                    f"{result.check_id} {result.trigger} {result.slot} {result.outcome} {result.reason or ''}"
                    f" after {result.duration_seconds:.6f} s"
                )
                self._touched.add(result.check_id)
                if (told := self.mirror.checks.get(result.check_id)) is not None:
                    told.take(result)
                elif result.trigger is not Trigger.MANUAL:
                    self.breaks(f"a result of {result.check_id}, which is not registered")
                self.watch.judge(result)
            case SlotSkipped():
                self.tell(f"{event.check_id} {event.slot} skipped: {event.reason}")
                self._touched.add(event.check_id)
                self.watch.judge_skip(event)
                if (told := self.mirror.checks.get(event.check_id)) is not None:
                    told.slots[Outcome.SKIPPED] += 1
            case _:
                self._hear_of_change(event)

    def _hear_of_change(self, event: Event | Command) -> None:
        match event:
            case CheckRegistered():
                self._registered.add(event.check.id)
                self._touched.add(event.check.id)
                self.hurries_not()
                self.mirror.registered(event)
            case CheckDeleted():
                self._touched.add(event.check.id)
                self.mirror.deleted(event)
            case SlotsMissed():
                self.tell(f"gap {event.reason} {event.start} to {event.end}")
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
            return
        was, now = self.file.declared_in(before), self.file.declared_in(event.loaded)
        touched = {name for name, declared in now.items() if was.get(name) != declared}
        if registered != touched:
            self.breaks(f"a reload touched {sorted(registered ^ touched)}, or did not where it should")
        gone = len(set(was) - set(now) - set(event.loaded.config.moved))
        if gone > MASS_DELETE_FLOOR and 2 * gone > len(was):
            self.breaks(f"a reload deleted {gone} of {len(was)} checks")

    # --- after every step ---------------------------------------------------------------------------

    def compare(self, app: App) -> None:
        """Every promise that can be held against what is in memory now."""
        if self.frozen or self.broken is not None:
            return
        self._compared += 1
        everything = self._compared % EVERYTHING_EVERY == 0
        self._compare_board(app, app.board.checks.keys() if everything else self._touched)
        self._touched = set()
        self._compare_history(app)
        self._compare_bounds(app)
        self._compare_progress(app)
        if everything and not self.reloads_under_way:
            self._compare_running(app)

    def scrape(self, app: App) -> None:
        found = self.scraper.differences(app, self.mirror)
        if found is not None:
            self.breaks(found)

    def _compare_board(self, app: App, check_ids: Collection[str]) -> None:
        for check_id in check_ids:
            state, told = app.board.checks.get(check_id), self.mirror.checks.get(check_id)
            if state is None or told is None:
                if (state is None) is not (told is None):
                    self.breaks(f"{check_id} is on the board or registered, not both")
            elif (
                found := told.difference(state, missed_at_start=self.mirror.missed_at_start.get(check_id, 0))
            ) is not None:
                self.breaks(f"{check_id}: {found}")
        for service, status in app.board.services.items():
            if status is not self.mirror.service(service):
                self.breaks(
                    f"{service} is {status} on the board, {self.mirror.service(service)} by its checks"
                )

    def _compare_history(self, app: App) -> None:
        """What is acknowledged is stored, what was produced is somewhere, and does not wait for long."""
        writer, stored = app.writer.statistics(), self.store.rows - self._rows_before
        if writer.rows > stored:
            self.breaks(f"{writer.rows} rows are acknowledged, {stored} are stored")
        if self.produced > writer.rows + writer.dropped_rows + writer.pending:
            self.breaks(f"{self.produced} rows were produced, but {writer}")
        if self.produced != app.produced:
            self.breaks(f"{self.produced} rows were produced, {app.produced} were counted")
        while self._unwritten and self._written < writer.rows + writer.dropped_rows:
            self._unwritten.popleft()
            self._written += 1
        oldest = self._unwritten[0] if self._unwritten else float("inf")
        since = max(oldest, self.store.well_since)
        patience = UNWRITTEN_SECONDS + writer.pending / 2  # where batches are small, a backlog takes its time
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
