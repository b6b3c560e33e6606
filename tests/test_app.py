"""The whole application over fakes: a check, a reload, a stop, on asyncio and on trio's virtual clock."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from watchbill.app import App, open_app
from watchbill.clock import Timeline
from watchbill.domain.checks import parse_check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import ConfigError, Problem
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckSucceeded,
    ConfigRejected,
    DeleteCheck,
    RegisterCheck,
    ReloadConfig,
    ServiceStatusChanged,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.results import GapReason, Outcome, Reason, SkipReason, Trigger
from watchbill.domain.status import Status
from watchbill.domain.units import SECOND
from watchbill.ports import NetworkError, Ports, Storage
from watchbill.storage import open_storage
from watchbill.testing import (
    FakeConfigFile,
    FakeNetwork,
    Recorder,
    check,
    config_of,
    http_answer,
    inline,
    judge_inline,
    virtual_clock,
)

REUSED = {"interval": "1s", "connection": "reuse"}


@dataclass
class Stand:
    """What an application is opened over; it outlives the application, as disks and networks do."""

    storage: Storage
    clock: Timeline
    network: FakeNetwork = field(default_factory=FakeNetwork)
    file: FakeConfigFile = field(default_factory=lambda: FakeConfigFile(config_of()))
    said: Recorder = field(default_factory=Recorder)

    @asynccontextmanager
    async def open(self, loaded: LoadedConfig, **options: Any) -> AsyncIterator[App]:
        self.file.content = loaded
        for one in loaded.config.checks.values():
            self.network.servers.setdefault((f"{one.id}.test", 80), http_answer())
        ports = Ports(
            clock=self.clock,
            network=self.network,
            storage=self.storage,
            load_config=self.file.load,
            offload=inline,
            judge=judge_inline,
        )
        async with open_app(loaded, ports, recorder=self.said, **options) as app:
            yield app


@asynccontextmanager
async def open_stand() -> AsyncIterator[Stand]:
    async with open_storage("memory:") as storage:
        yield Stand(storage, virtual_clock())


def on_virtual_time(test: Callable[[], Any]) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


async def check_reload_stop(seconds: float) -> None:
    async with open_stand() as stand:
        async with stand.open(config_of(check("home", interval="1s"))) as app:
            await anyio.sleep(seconds)
            assert app.ready()
            assert app.healthy()
            found = {event.result.outcome for event in stand.said.of(CheckSucceeded)}
            assert found == {Outcome.SUCCESS}
            stand.file.content = config_of(check("other", interval="1s"))
            stand.network.servers["other.test", 80] = http_answer(500)
            await app.bus.send(ReloadConfig("test"))
            assert set(app.board.checks) == {"other"}
            await anyio.sleep(seconds)
        failed = stand.said.of(CheckFailed)
        assert {(event.result.check_id, event.result.reason) for event in failed} == {
            ("other", Reason.STATUS)
        }
        assert failed[0].result.message == "status must be 2xx, got 500"
        assert app.writer.statistics().pending == 0
        assert (
            app.writer.statistics().rows == app.produced == len(stand.said.of(CheckSucceeded)) + len(failed)
        )
        assert all(connection.closed for connection in stand.network.connections)


def test_a_check_a_reload_and_a_stop_on_asyncio() -> None:
    anyio.run(check_reload_stop, 2.2)


def test_a_check_a_reload_and_a_stop_on_trio() -> None:
    on_virtual_time(partial(check_reload_stop, 600))


def test_killing_one_member_of_a_service_is_said_once() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            loaded = config_of(*[check(name, service="shop", interval="10s") for name in ("a", "b", "c")])
            async with stand.open(loaded):
                await anyio.sleep(60)
                stand.network.servers["b.test", 80] = NetworkError(Reason.REFUSED, "refused")
                await anyio.sleep(120)
            changes = [(event.before, event.after) for event in stand.said.of(ServiceStatusChanged)]
            assert changes == [(Status.UNKNOWN, Status.UP), (Status.UP, Status.DEGRADED)]

    on_virtual_time(main)


async def coverage(stand: Stand) -> dict[str, Any]:
    rows = await stand.storage.coverage(since=0, until=stand.clock.now() + SECOND)
    return {row.check_id: row for row in rows}


def test_a_restart_is_one_gap_and_everything_is_accounted_for() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            loaded = config_of(check("a", interval="5s"), check("b", interval="60s"))
            async with stand.open(loaded):
                await anyio.sleep(100)
            await anyio.sleep(300)
            async with stand.open(loaded) as app:
                state = app.board.checks["a"]
                assert state.latest is not None
                assert state.status is Status.UP
                assert state.slots[Outcome.MISSED] == 0
                await anyio.sleep(61)
                assert state.slots[Outcome.MISSED] == 60
                await anyio.sleep(39)
            [gap] = stand.said.of(SlotsMissed)
            assert gap.reason is GapReason.RESTART
            row = (await coverage(stand))["a"]
            assert (row.missed, row.unaccounted) == (60, 0)
            assert row.success == row.expected - row.missed
            assert (await coverage(stand))["b"].unaccounted == 0

    on_virtual_time(main)


def test_a_wall_clock_set_back_between_two_runs_demands_no_slot_twice() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            loaded = config_of(check("a", interval="5s"))
            async with stand.open(loaded):
                await anyio.sleep(100)
            ended = stand.clock.now()
            stand.clock = virtual_clock(start=ended - 60 * SECOND)
            async with stand.open(loaded):
                await anyio.sleep(100)
                assert stand.clock.drift() == pytest.approx(-60 * SECOND, abs=5 * SECOND)
            slots = [
                event.result.slot
                for event in stand.said.of(CheckSucceeded)
                if event.result.trigger is Trigger.SCHEDULE
            ]
            assert len(slots) == len(set(slots)) > 30
            row = (await coverage(stand))["a"]
            assert (row.unaccounted, row.missed) == (0, 0)

    on_virtual_time(main)


def test_slots_missed_over_a_restart_are_counted_under_the_new_name() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            async with stand.open(config_of(check("old", interval="5s"))):
                await anyio.sleep(100)
            await anyio.sleep(300)
            new = check("new", interval="7s", url="http://old.test/")
            async with stand.open(config_of(new, moved={"old": "new"})) as app:
                await anyio.sleep(61)
                assert app.board.checks["new"].slots[Outcome.MISSED] == 60
            assert (await coverage(stand))["new"].missed == 60

    on_virtual_time(main)


def test_a_slot_ends_in_one_step_from_the_bus_to_the_board() -> None:
    """Between a slot's end and the writer nothing may suspend: accounting would pass a row that is not there."""

    async def main() -> None:
        async with (
            open_stand() as stand,
            stand.open(config_of(check("a", interval="5s", service="s"))) as app,
        ):
            await anyio.sleep(20)
            result = stand.said.of(CheckSucceeded)[-1].result
            at = stand.clock.now()
            events = [
                *[event(result) for event in (CheckSucceeded, CheckFailed, CheckErrored)],
                *[SlotSkipped("a", "", result.slot, reason) for reason in SkipReason],
                SlotsMissed(at, at, GapReason.STALL, ""),
                CheckRegistered(check("a", interval="6s"), at, "", previous=check("a", interval="5s")),
                CheckDeleted(check("a"), at, ""),
            ]
            for event in events:
                with pytest.raises(StopIteration):
                    app.bus.publish(event).send(None)

    on_virtual_time(main)


def test_a_heartbeat_that_was_parked_is_due_from_the_start_that_expects_it() -> None:
    async def main() -> None:
        async with open_stand() as stand:

            def loaded(**declared: Any) -> LoadedConfig:
                return config_of(parse_check({"id": "job", "type": "heartbeat", "every": "60s", **declared}))

            async with stand.open(loaded()):
                await anyio.sleep(10)
            async with stand.open(loaded(enabled=False)):
                await anyio.sleep(600)
            async with stand.open(loaded()) as app:
                await anyio.sleep(30)
                assert app.board.checks["job"].status is Status.UP
            async with stand.open(loaded()) as app:
                await anyio.sleep(60)
                assert app.board.checks["job"].status is Status.DOWN

    on_virtual_time(main)


def test_a_restart_within_the_interval_probes_nothing_outside_its_slots() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            loaded = config_of(check("a", interval="1h"))
            async with stand.open(loaded):
                await anyio.sleep(10)
            async with stand.open(loaded):
                await anyio.sleep(10)
            triggers = [event.result.trigger for event in stand.said.of(CheckSucceeded)]
            assert triggers == [Trigger.REGISTERED]

    on_virtual_time(main)


def test_a_renamed_check_keeps_its_history_under_a_new_span() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            async with stand.open(config_of(check("old", interval="10s"))) as app:
                await anyio.sleep(100)
                new = check("new", interval="10s", url="http://old.test/")
                stand.file.content = config_of(new, moved={"old": "new"})
                await app.bus.send(ReloadConfig("test"))
                assert app.board.checks["new"].status is Status.UP
                await anyio.sleep(100)
            rows = await stand.storage.results("new", since=0, until=stand.clock.now(), limit=1000)
            assert len(rows) >= 19
            old_span, new_span = await stand.storage.spans("new")
            assert old_span.closed_at == new_span.opened_at
            assert (await coverage(stand))["new"].unaccounted == 0
            assert "old" not in await coverage(stand)

    on_virtual_time(main)


def test_a_rename_while_nobody_runs_keeps_history_too() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            async with stand.open(config_of(check("old", interval="10s"))):
                await anyio.sleep(50)
            new = check("new", interval="10s", url="http://old.test/")
            async with stand.open(config_of(new, moved={"old": "between", "between": "new"})) as app:
                assert app.board.checks["new"].status is Status.UP
                await anyio.sleep(50)
            rows = await stand.storage.results("new", since=0, until=stand.clock.now(), limit=1000)
            assert len(rows) >= 9
            assert (await coverage(stand))["new"].unaccounted == 0

    on_virtual_time(main)


def test_a_bad_configuration_leaves_the_old_one_running() -> None:
    async def main() -> None:
        async with open_stand() as stand, stand.open(config_of(check("a", interval="5s"))) as app:
            await anyio.sleep(20)
            stand.file.content = ConfigError((Problem("checks.yaml", 1, 1, "no"),))
            with pytest.raises(ConfigError):
                await app.bus.send(ReloadConfig("test"))
            before = len(stand.said.of(CheckSucceeded))
            await anyio.sleep(20)
            assert len(stand.said.of(CheckSucceeded)) == before + 4
            assert len(stand.said.of(ConfigRejected)) == 1
            assert "watchbill_config_last_reload_successful 0" in app.metrics.render()[1].decode()

    on_virtual_time(main)


def test_reloading_at_any_moment_loses_and_doubles_no_slot() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            checks = {name: check(name, interval="2s") for name in ("a", "b", "c", "d")}
            async with stand.open(config_of(*checks.values())) as app:
                for step in range(60):
                    await anyio.sleep(0.37)
                    interval = ["2s", "3s", "2s", "5s"][step % 4]
                    one = check("d", interval=interval, url="http://d.test/")
                    await app.bus.send(RegisterCheck(one))
                    if step % 5 == 4:
                        await app.bus.send(DeleteCheck("c"))
                        await app.bus.send(RegisterCheck(checks["c"]))
            for row in (await coverage(stand)).values():
                assert row.unaccounted == 0
                assert row.missed == 0
                assert row.expected == row.success + row.skipped
                rows = await stand.storage.results(row.check_id, since=0, until=stand.clock.now(), limit=1000)
                slots = [found.slot for found in rows if found.trigger is Trigger.SCHEDULE]
                assert len(slots) == len(set(slots)) == row.expected

    on_virtual_time(main)


def test_of_a_thousand_running_checks_a_reload_touches_those_that_changed() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            checks = {f"c{number}": check(f"c{number}", interval="20s") for number in range(1000)}
            async with stand.open(config_of(*checks.values())) as app:
                await anyio.sleep(45)
                commands = Recorder()
                app.bus.subscribe((RegisterCheck, DeleteCheck), commands)
                untouched = [name for name in checks if name not in {"c1", "c2", "c3"}]
                slots = {name: app.scheduler.next_slot(name) for name in untouched}
                counted = {name: dict(app.board.checks[name].slots) for name in untouched}
                del checks["c1"], checks["c2"]
                checks["c3"] = check("c3", interval="20s", timeout="1s")
                checks["fresh"] = check("fresh", interval="20s")
                checks["renamed"] = check("renamed", interval="20s", url="http://c2.test/")
                stand.network.servers["fresh.test", 80] = http_answer()
                stand.file.content = config_of(*checks.values(), moved={"c2": "renamed"})
                await app.bus.send(ReloadConfig("test"))
                assert [(command.check.id, command.moved_from) for command in commands.of(RegisterCheck)] == [
                    ("renamed", "c2"),
                    ("c3", None),
                    ("fresh", None),
                ]
                assert [command.check_id for command in commands.of(DeleteCheck)] == ["c2", "c1"]
                assert {name: app.scheduler.next_slot(name) for name in untouched} == slots
                assert {name: dict(app.board.checks[name].slots) for name in untouched} == counted
                await anyio.sleep(40)
            rows = await coverage(stand)
            assert len(rows) == 1001
            assert {row.unaccounted for row in rows.values()} == {0}
            assert all(row.success + row.skipped == row.expected for row in rows.values())
            assert len(await stand.storage.spans("renamed")) == 2

    on_virtual_time(main)


def test_a_check_that_was_replaced_lives_on_nowhere() -> None:
    """Each reload of ten thousand changed checks would else cost what they take."""

    async def main() -> None:
        async with open_stand() as stand:
            ports = Ports(
                clock=stand.clock,
                network=stand.network,
                storage=stand.storage,
                load_config=stand.file.load,
                offload=inline,
                judge=judge_inline,
            )
            async with open_app(config_of(check("a")), ports) as app:
                former = weakref.ref(app.loaded.config.checks["a"])
                stand.file.content = config_of(check("a", interval="1m"))
                await anyio.sleep(10)
                await app.bus.send(ReloadConfig("test"))
                await anyio.sleep(120)  # a store remembers its last batch
                gc.collect()
                assert former() is None

    on_virtual_time(main)


def test_a_kept_connection_goes_with_its_check() -> None:
    async def run() -> None:
        async with open_stand() as stand:
            connections = stand.network.connections
            checks = [check(name, **REUSED) for name in ("deleted", "changed", "stays")]
            async with stand.open(config_of(*checks)) as app:
                await anyio.sleep(5)
                assert len(connections) == 3
                assert not any(connection.closed for connection in connections)
                stand.file.content = config_of(check("changed", **REUSED, labels={"a": "b"}), checks[2])
                await app.bus.send(ReloadConfig("test"))
                assert sum(connection.closed for connection in connections) == 2
                await anyio.sleep(5)
                assert len(connections) == 4
            assert all(connection.closed for connection in connections)

    on_virtual_time(run)
