"""One seed: a machine on which the application is started, changed, attacked, stopped and killed for as long as asked."""

from __future__ import annotations

import gc
import hashlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random

import anyio
from anyio.abc import TaskGroup

from tests.sim.faults import Faults
from tests.sim.file import TARGETS, File
from tests.sim.gaps import WatchedTimeline
from tests.sim.life import Life
from tests.sim.loops import Backend
from tests.sim.lost import LostTime
from tests.sim.machine import Machine
from tests.sim.network import SimulatedNetwork
from tests.sim.pending import Pending
from tests.sim.scrape import check_of, read
from tests.sim.store import Store
from watchbill.agenda import Entry, Running
from watchbill.app import App, open_app
from watchbill.board import CheckState
from watchbill.domain.errors import UnknownCheckError, WatchbillError
from watchbill.domain.messages import ExecuteChecks, RecordHeartbeat, ReloadConfig
from watchbill.domain.units import SECOND
from watchbill.ports import Execute, Ports
from watchbill.testing import inline, judge_inline

TRACE_LINES = 60
SCRAPE_EVERY = 25
LIVES_SECONDS = (20.0, 300.0, 3600.0, 3600.0)
DIES_AFTER_STEPS = (None, 400, 60_000, 400_000)
"""The end of a process: in good order, in its start, soon, or some time later."""
MANY_LEFT = 120


@dataclass(frozen=True)
class Size:
    """How large a run is. ``seconds`` are simulated; ``without`` are faults that do not happen."""

    checks: int = 50
    seconds: float = 3600.0
    backend: Backend = "asyncio"
    without: frozenset[str] = frozenset()
    dense: bool = False


@dataclass
class World:
    """What outlives the processes (their network, store and file, on one machine), who acts on them, and what came of it.

    ``patch_execute`` has every probe of a process watched. ``broken``: the first promise that was not kept, after so
    many seconds of the loop's clock; ``story`` the last lines before it.
    """

    seed: int
    size: Size
    machine: Machine
    patch_execute: Callable[[Callable[[Execute], Execute]], None]
    capacity: int
    """For how many events that wait to be stored there is room."""
    happened: Counter[str] = field(default_factory=Counter)
    broken: str | None = None
    broken_after: float = 0.0
    story: deque[str] = field(default_factory=lambda: deque(maxlen=TRACE_LINES))

    def __post_init__(self) -> None:
        self.random = self._drawn_for("people")
        self.faults = Faults(self._drawn_for("faults"), self.size.without)
        self.network = SimulatedNetwork(self._drawn_for("network"), self.machine.monotonic, targets=TARGETS)
        self.store = Store(self._drawn_for("store"), self.machine.monotonic, LostTime())
        self.file = File(self._drawn_for("file"), self.size.checks, dense=self.size.dense)
        self.file.stand_still = self.machine.stand_still
        self.digest = hashlib.blake2b(digest_size=8)

    def _drawn_for(self, what: str) -> Random:
        return Random(f"{self.seed} {what}")

    def tell(self, line: str) -> None:
        line = f"{self.machine.monotonic():.6f} {line}"
        self.digest.update(line.encode())
        if self.broken is None:
            self.story.append(line)

    # --- an hour ------------------------------------------------------------------------------------

    async def run(self) -> None:
        while self.machine.monotonic() < self.size.seconds and self.broken is None:
            life = self._begin()
            try:
                await self._live(life)
            except Exception as error:
                life.frozen = False
                life.breaks(f"raised {_innermost(error)!r}")
            self._end(life)
            await anyio.sleep(self.random.choice((0, 0.5, 5, 20, 90)) * self.random.random())
        if self.broken is None:
            await self._close_accounts()

    async def _close_accounts(self) -> None:
        for row in await self.store.coverage(since=0, until=self.store.accounted_until):
            ended = row.success + row.failure + row.error + row.skipped + row.excused
            if row.unaccounted or row.expected != ended + row.missed:
                self.broken, self.broken_after = f"coverage does not add up: {row}", self.size.seconds

    # --- a process ----------------------------------------------------------------------------------

    def _begin(self) -> Life:
        self.machine.wall_ahead -= self.faults.clock_set_back() * SECOND
        clock = WatchedTimeline(monotonic=self.machine.monotonic, wall=self.machine.wall)
        pending = Pending(self.capacity, self.store.account.dropped)
        self.file.save()
        self.store.serves(pending)
        self.network.open_connections = 0
        self.happened["lives"] += 1
        self.tell("a process starts")
        return Life(self.machine, self.network, self.store, self.file, clock, pending, self.tell)

    async def _live(self, life: Life) -> None:
        self.patch_execute(life.watch.watching)
        with anyio.CancelScope() as process:

            def end() -> None:
                life.gaps.ends()
                life.frozen = self.store.frozen = True
                process.cancel()

            def kill() -> None:
                self.tell("killed")
                self.happened["kills"] += 1
                end()

            life.end = end
            if (most := self.random.choice(DIES_AFTER_STEPS)) is not None and self.faults.happens("crashes"):
                self.machine.dies_after(self.random.randrange(1, most), kill)
            with anyio.fail_after(3 * self.size.seconds):
                await self._run(life)

    async def _run(self, life: Life) -> None:
        ports = Ports(
            clock=life.clock,
            network=self.network,
            storage=self.store,
            load_config=self.file.load,
            offload=inline,
            judge=judge_inline,
            way_lost=self.network.way_lost,
        )
        loaded = self.file.newest()
        async with open_app(loaded, ports, recorder=life.hear) as app:
            life.begins(app)
            async with anyio.create_task_group() as people:
                await self._while_it_runs(life, app, people)
                people.cancel_scope.cancel()
            self.tell("stops")
            life.gaps.ends()
        life.conclude(app)

    async def _while_it_runs(self, life: Life, app: App, people: TaskGroup) -> None:
        ends = self.machine.monotonic() + self.random.choice(LIVES_SECONDS)
        steps = 0
        while self.machine.monotonic() < min(ends, self.size.seconds) and life.broken is None:
            await anyio.sleep(self.random.choice((0.1, 1, 5, 20)) * self.random.random())
            self._act(life, app, people)
            life.compare(app)
            steps += 1
            if steps % SCRAPE_EVERY == 0:
                life.scrape(app)
        self._count_objects(life, app)

    def _end(self, life: Life) -> None:
        self.machine.lives()
        life.gaps.ends()
        self.store.process_ended()
        self.happened["rows"] = self.store.rows
        self.happened["slots"] = self.store.account.looked_at
        for reason, slots in self.store.account.missed.items():
            self.happened[f"missed: {reason}"] = slots
        self.happened["gaps"] += life.gaps.told
        self.happened["dropped"] += life.pending.dropped_rows
        self.happened["probes"] += life.watch.probes
        self.happened["scrapes"] += life.scraper.scrapes
        if life.broken is not None:
            self.broken, self.broken_after = life.broken, life.broken_at

    def _count_objects(self, life: Life, app: App) -> None:
        """Once, of the first process that is not killed: what it no longer needs is gone."""
        if self.happened["counted"] or life.frozen:
            return
        self.happened["counted"] += 1
        gc.collect()
        found = Counter(type(one) for one in gc.get_objects())
        checks = len(app.board.checks)
        bounds = {
            Running: life.watch.running + MANY_LEFT,
            Entry: 2 * checks + MANY_LEFT,
            CheckState: 2 * checks + MANY_LEFT,
        }
        for kind, most in bounds.items():
            if found[kind] > most:
                life.breaks(f"{found[kind]} objects of {kind.__name__} are left")

    # --- what happens to it -------------------------------------------------------------------------

    def _act(self, life: Life, app: App, people: TaskGroup) -> None:
        fault = self.faults.draw()
        if fault is None:
            return
        self.happened[fault] += 1
        match fault:
            case "edits":
                self.tell(self.file.edit())
                people.start_soon(self._reload, life, app)
            case "mistakes":
                self.tell(self.file.spoil())
                people.start_soon(self._reload, life, app)
            case "asks":
                self.tell("is asked to reload three times")
                for _ in range(3):
                    people.start_soon(self._reload, life, app)
            case "manual":
                people.start_soon(self._run_now, app)
            case "scrapes":
                people.start_soon(self._expose, life, app)
            case "heartbeats":
                people.start_soon(self._call_in, app)
            case _:
                self.tell(self._to_the_machine(fault))
                if fault == "clock":
                    life.hurries_not()

    def _to_the_machine(self, fault: str) -> str:
        actions: Mapping[str, Callable[[], str]] = {
            "targets": self.network.change_target,
            "troubles": self.network.change_trouble,
            "healing": self.network.heal,
            "stalls": lambda: self.faults.stall(self.machine),
            "clock": lambda: self.faults.set_clock(self.machine),
            "store": lambda: self.faults.spoil(self.store),
        }
        return actions[fault]()

    async def _reload(self, life: Life, app: App) -> None:
        """Whoever asks may lose patience; what has begun is finished all the same."""
        life.reloads_under_way += 1
        patience = self.random.choice((3600, 3600, 3600, 0.5))
        try:
            with anyio.move_on_after(patience):
                await app.bus.send(ReloadConfig("test"))
        except (WatchbillError, RuntimeError):
            pass
        finally:
            life.reloads_under_way -= 1

    async def _run_now(self, app: App) -> None:
        await self._unless_gone(app.bus.send(ExecuteChecks((self.random.choice(list(app.board.checks)),))))

    async def _expose(self, life: Life, app: App) -> None:
        """A scrape that lets others run in between shows every check that was there all the time."""
        before = set(app.board.checks)
        _, parts = await app.metrics.expose("application/openmetrics-text")
        lasting = before & app.board.checks.keys()
        shown = {check_of(key) for key in read(b"".join(parts).decode())}
        if not lasting <= shown:
            life.breaks(f"a scrape lacks {sorted(lasting - shown)}")

    async def _call_in(self, app: App) -> None:
        for check_id, state in list(app.board.checks.items()):
            if state.check.type == "heartbeat" and self.random.random() < 0.7:
                await self._unless_gone(app.bus.send(RecordHeartbeat(check_id)))

    async def _unless_gone(self, sent: Awaitable[object]) -> None:
        try:
            await sent
        except UnknownCheckError:
            return


def _innermost(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
