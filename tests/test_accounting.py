"""Whatever happens, in whatever order: every slot of every check is exactly one row, or missed in a gap.

Random runs of the whole application on virtual time: slow and broken probes, little capacity, reloads with every kind of
change, stalls at any step of any task, clocks that are set, a slow and failing store, stops and kills. The same seed is the same
run: ``python -m tests.test_accounting 0 1000`` tries a thousand, and names those that fail.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from trio._core import _run as trio_internals

from tests.sim.seeds import quiet
from watchbill.app import App, open_app
from watchbill.clock import Timeline
from watchbill.domain.checks import Check, parse_check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import ConfigError, Problem, StorageError, WatchbillError
from watchbill.domain.history import Batch
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckSucceeded,
    Command,
    Event,
    ExecuteChecks,
    ReloadConfig,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.results import Failure, Outcome, Reason, Result, Trigger
from watchbill.domain.units import SECOND, Instant, Micros
from watchbill.ports import Ports
from watchbill.storage.memory import MemoryStorage
from watchbill.testing import START, FakeConfigFile, FakeNetwork, config_of, inline, judge_inline

INTERVALS = ("1s", "2s", "3s", "5s", "10s", "1m")
COUNTED = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ERROR, Outcome.SKIPPED, Outcome.EXCUSED)
FAILED = (Failure(Reason.STATUS, "status must be 2xx, got 500"),)


def slot_of(event: Event) -> Instant | None:
    """The slot that an event is the row of."""
    match event:
        case CheckSucceeded(result) | CheckFailed(result) | CheckErrored(result):
            return result.slot if result.trigger is Trigger.SCHEDULE else None
        case SlotSkipped():
            return event.slot
        case _:
            return None


@dataclass
class Sources:
    """The two clocks of a machine; a stall moves both, setting the time the wall clock alone."""

    origin: float
    monotonic_ahead: Micros = 0
    wall_ahead: Micros = 0

    def monotonic(self) -> float:
        return trio.current_time() - self.origin + self.monotonic_ahead / SECOND

    def wall(self) -> Instant:
        return START + round((trio.current_time() - self.origin) * SECOND) + self.wall_ahead

    def stand_still(self, micros: Micros) -> None:
        self.monotonic_ahead += micros
        self.wall_ahead += micros


@dataclass(eq=False)
class Stalls(trio.abc.Instrument):
    """Now and then time passes between two steps of any two tasks, as under SIGSTOP."""

    random: Random
    sources: Sources
    one_in: int

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.random.randrange(self.one_in) == 0:
            self.sources.stand_still(round(self.random.choice((0.3, 1.5, 2.5, 4, 30)) * SECOND))


class Store(MemoryStorage):
    """A store that is slow, fails at times, and keeps nothing more once the process is ``killed``."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.killed = False

    async def commit(self, batch: Batch) -> None:
        await anyio.sleep(self.random.choice((0, 0, 0.01, 0.3, 2)))
        if self.random.random() < 0.05:
            raise StorageError("the disk is full", retryable=True)
        if self.killed:
            return
        known = self.accounted_until
        for event in batch.events:
            slot = slot_of(event)
            assert slot is None or slot >= known, f"{event} ended after it was accounted for"
            if isinstance(event, CheckRegistered | CheckDeleted):
                assert event.at >= known, f"{event} changes what was accounted for"
        await super().commit(batch)
        await self.assert_accounted(since=known - 60 * SECOND)

    @property
    def accounted_until(self) -> Instant:
        return self._accounted.get("", 0)

    async def assert_accounted(self, *, since: Instant = 0) -> None:
        for row in await self.coverage(since=since, until=self.accounted_until):
            assert row.unaccounted == 0, f"{row} of {await self.spans(row.check_id)}"
            ended = row.success + row.failure + row.error + row.skipped + row.excused
            assert row.expected == ended + row.missed, row

    def assert_on_grid(self) -> None:
        for key, rows in self._rows.items():
            slots = Counter(row.slot for row in rows if row.trigger == Trigger.SCHEDULE)
            assert {slot for slot, times in slots.items() if times > 1} == set(), f"two rows, key {key}"
            for slot in slots:
                spans = [span.named("") for span in self._spans[key]]
                assert sum(span.expected(slot - 1, slot) for span in spans) == 1, f"{slot} of {spans}"


@dataclass
class Probes:
    """An executor whose probes take their time, fail, raise, or are cancelled by nobody."""

    random: Random
    clock: Timeline
    slowest: float
    under_way: Counter[str] = field(default_factory=Counter)

    async def __call__(
        self, check: Check, *, slot: Instant | None = None, trigger: Trigger = Trigger.SCHEDULE
    ) -> Result:
        begun = self.clock.now()
        assert slot is None or begun >= slot, f"{check.id} is probed before its slot"
        if trigger is not Trigger.MANUAL:
            assert self.under_way[check.id] == 0, f"{check.id} is probed twice at once"
            self.under_way[check.id] += 1
        try:
            await anyio.sleep(self.random.choice((0, 0, 0.001, 0.2, self.slowest)))
        finally:
            if trigger is not Trigger.MANUAL:
                self.under_way[check.id] -= 1
            with anyio.CancelScope(shield=True):  # closing takes its time, also when it was cancelled
                await anyio.sleep(self.random.choice((0, 0, 0, 1.2)))
        if self.random.random() < 0.02:
            raise ZeroDivisionError(check.id)
        failures = FAILED if self.random.random() < 0.2 else ()
        return Result(
            check_id=check.id,
            location="",
            slot=begun if slot is None else slot,
            trigger=trigger,
            started_at=begun,
            duration_seconds=(self.clock.now() - begun) / SECOND,
            outcome=Outcome.FAILURE if failures else Outcome.SUCCESS,
            failures=failures,
        )


@dataclass
class Life:
    """What one process said of each check, since the board holds it."""

    board: dict[str, Counter[Outcome]] = field(default_factory=lambda: defaultdict(Counter))
    seen: dict[str, dict[Outcome, int]] = field(default_factory=dict)

    def hear(self, event: Event | Command) -> None:
        match event:
            case CheckRegistered() if event.previous is None or event.previous.type != event.check.type:
                self.board[event.check.id].clear()
                self.seen.pop(event.check.id, None)
            case CheckDeleted():
                self.seen.pop(event.check.id, None)
            case SlotSkipped():
                self.board[event.check_id][Outcome.SKIPPED] += 1
            case CheckSucceeded(result) | CheckFailed(result) | CheckErrored(result):
                self.board[result.check_id][result.outcome] += result.trigger is Trigger.SCHEDULE
            case SlotsMissed():
                for check_id, missed in event.counts.items():
                    self.board[check_id][Outcome.MISSED] += missed
            case _:
                pass

    def compare(self, app: App) -> None:
        for check_id, state in app.board.checks.items():
            for outcome in COUNTED:
                assert state.slots[outcome] == self.board[check_id][outcome], f"{check_id} {outcome}"
            assert state.slots[Outcome.MISSED] >= self.board[check_id][Outcome.MISSED]
            before = self.seen.get(check_id, {})
            assert all(state.slots[outcome] >= before.get(outcome, 0) for outcome in Outcome)
            self.seen[check_id] = dict(state.slots)


class World:
    """A machine on which the application is started, changed, stopped and killed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.sources = Sources(trio.current_time())
        self.store = Store(self.random)
        self.file = FakeConfigFile(config_of())
        self.used: list[str] = []
        self.lives = 0
        self.checks: dict[str, dict[str, Any]] = {}
        self.moved: dict[str, str] = {}
        self.slowest = self.random.choice((0.5, 2.0, 8.0))
        self.limits = {"concurrent_probes": self.random.choice((1, 3, 100)), "mass_delete": "allow"}
        for _ in range(self.random.randrange(1, 12)):
            self.checks[self.name()] = self.declared()

    def name(self) -> str:
        self.used.append(f"c{len(self.used)}")
        return self.used[-1]

    def declared(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"interval": self.random.choice(INTERVALS), "timeout": "1s"}
        if self.random.random() < 0.15:
            fields["enabled"] = False
        if self.random.random() < 0.2:
            return {**fields, "type": "tcp", "host": "a.test", "port": self.random.randrange(1, 5)}
        return {**fields, "type": "http", "url": f"http://a.test/{self.random.randrange(5)}"}

    def loaded(self) -> LoadedConfig:
        checks = [parse_check({"id": name, **fields}) for name, fields in self.checks.items()]
        return config_of(*checks, moved=dict(self.moved), limits=self.limits)

    def edit(self) -> None:
        """Change the file as people do: any of these to any number of checks."""
        for name in list(self.checks):
            match self.random.randrange(12):
                case 0:
                    self.checks[name] = self.declared()
                case 1:
                    self.checks[name] = {**self.checks[name], "interval": self.random.choice(INTERVALS)}
                case 2:
                    parked = self.checks[name].get("enabled", True)
                    self.checks[name] = {**self.checks[name], "enabled": not parked}
                case 3:
                    del self.checks[name]
                case 4:
                    self.move(name, self.name())
                case 5:
                    between = self.name()
                    self.move(name, between)
                    self.move(between, self.name())
                case _:
                    pass
        for _ in range(self.random.choice((0, 0, 1, 3))):
            self.checks[self.name()] = self.declared()
        if self.random.random() < 0.1:
            for name in [old for old in self.used[:8] if old not in self.checks][:2]:
                self.checks[name] = self.declared()
                self.moved.pop(name, None)
        self.limits = {**self.limits, "concurrent_probes": self.random.choice((1, 3, 100))}

    def move(self, old: str, new: str) -> None:
        self.checks[new] = self.checks.pop(old)
        self.moved[old] = new

    async def live(self) -> None:
        """One process, from its start to its end."""
        self.sources.wall_ahead -= (
            self.random.choice((0, 0, 1, 60, 3600)) * SECOND
        )  # set back while nobody ran
        clock = Timeline(monotonic=self.sources.monotonic, wall=self.sources.wall)
        self.file.content = self.loaded()
        ports = Ports(
            clock=clock,
            network=FakeNetwork(),
            storage=self.store,
            load_config=self.file.load,
            offload=inline,
            judge=judge_inline,
        )
        life = Life()
        self.store.killed = False
        probes = Probes(self.random, clock, self.slowest)
        async with open_app(self.loaded(), ports, execute=probes, recorder=life.hear) as app:
            for _ in range(self.random.choice((1, 5, 30))):
                await self.step(app)
                life.compare(app)
            self.store.killed = self.random.random() < 0.5
        life.compare(app)
        self.lives += 1

    async def step(self, app: App) -> None:
        await anyio.sleep(self.random.choice((0, 0.1, 1, 5)) * self.random.random())
        match self.random.randrange(10):
            case 0 | 1 | 2:
                self.edit()
                self.file.content = self.loaded()
                await app.bus.send(ReloadConfig("test"))
            case 3:
                self.file.content = ConfigError((Problem("checks.yaml", 1, 1, "no"),))
                with pytest.raises(WatchbillError):
                    await app.bus.send(ReloadConfig("test"))
            case 4:
                self.sources.stand_still(round(self.random.choice((1.0, 2.2, 20)) * SECOND))
            case 5:
                self.sources.wall_ahead += self.random.choice((-3600, -1, 1, 3, 600)) * SECOND
            case 6 if app.board.checks:
                await self.run_now(app, self.random.choice(list(app.board.checks)))
            case _:
                await anyio.sleep(3 * self.random.random())

    async def run_now(self, app: App, check_id: str) -> None:
        try:
            await app.bus.send(ExecuteChecks((check_id,)))
        except ZeroDivisionError:
            return


async def run(seed: int) -> World:
    world = World(seed)
    if world.random.random() < 0.4:
        trio.lowlevel.add_instrument(
            Stalls(Random(seed), world.sources, one_in=world.random.choice((300, 3000)))
        )
    for _ in range(4):
        await world.live()
        await anyio.sleep(20 * world.random.random())
    world.store.killed = False
    await world.store.assert_accounted()
    world.store.assert_on_grid()
    return world


async def yield_to_busy_loop(random: Random) -> None:
    """Others run first, and now and then they take their time."""
    await anyio.sleep(random.choice((0,) * 20 + (0.02, 1.5)))


def simulate(seed: int) -> World:
    with pytest.MonkeyPatch.context() as patch:
        # Which of the ready tasks goes first is random in trio; here it is part of the seed.
        patch.setattr(trio_internals, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(trio_internals, "_r", Random(seed))
        patch.setattr("anyio.lowlevel.checkpoint", partial(yield_to_busy_loop, Random(seed)))
        return trio.run(run, seed, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


@pytest.mark.parametrize("seed", range(30))
def test_every_slot_is_one_row_or_missed_in_a_gap(seed: int) -> None:
    world = simulate(seed)
    assert world.lives == 4


def find_failures(seeds: range) -> Iterator[str]:
    for seed in seeds:
        try:
            simulate(seed)
        except Exception as error:
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            yield f"{seed}: {type(error).__name__} {error}"


if __name__ == "__main__":
    with quiet():
        failures = list(find_failures(range(int(sys.argv[1]), int(sys.argv[2]))))
    print(*failures, sep="\n")
    sys.exit(bool(failures))
