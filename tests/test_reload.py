"""A reload touches only what changed, and all or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from watchbill import reload
from watchbill.bus import Bus
from watchbill.clock import Timeline
from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import MOST_PROBLEMS, ConfigError, MassDeleteError, Problem
from watchbill.domain.messages import (
    CheckDeleted,
    CheckRegistered,
    Command,
    ConfigRejected,
    ConfigReloaded,
    DeleteCheck,
    Event,
    RegisterCheck,
    ReloadConfig,
)
from watchbill.domain.specs import Spec, spec_of
from watchbill.handlers import delete_check, register_check
from watchbill.reload import Reloading, reload_config
from watchbill.testing import FakeConfigFile, Recorder, check, config_of, virtual_clock

pytestmark = pytest.mark.anyio


@dataclass
class Stand:
    bus: Bus
    file: FakeConfigFile
    said: Recorder
    commands: list[Command] = field(default_factory=list)
    registry: dict[str, Check] = field(default_factory=dict)

    async def reload(self, content: LoadedConfig | Exception, **options: Any) -> Sequence[Event]:
        self.commands.clear()
        self.file.content = content
        return await self.bus.send(ReloadConfig("test", **options))

    def registered(self) -> list[str]:
        return sorted(sent.check.id for sent in self.commands if isinstance(sent, RegisterCheck))

    def deleted(self) -> list[str]:
        return sorted(sent.check_id for sent in self.commands if isinstance(sent, DeleteCheck))


@asynccontextmanager
async def open_stand() -> AsyncIterator[Stand]:
    clock: Timeline = virtual_clock()
    bus, said = Bus(), Recorder()
    stand = Stand(bus, FakeConfigFile(config_of()), said)

    async def send(command: Command) -> Sequence[Event]:
        stand.commands.append(command)
        return await bus.send(command)

    shared: dict[str, Any] = {"registry": stand.registry, "clock": clock, "location": ""}
    parts = Reloading(
        registry=stand.registry,
        load=stand.file.load,
        send=send,
        publish=bus.publish,
        clock=clock,
        lock=anyio.Lock(),
    )
    bus.handle(RegisterCheck, partial(register_check, **shared))
    bus.handle(DeleteCheck, partial(delete_check, **shared))
    bus.handle(ReloadConfig, partial(reload_config, parts=parts))
    bus.subscribe((CheckRegistered, CheckDeleted, ConfigReloaded, ConfigRejected), said)
    yield stand


def many(count: int, **changed: dict[str, Any]) -> list[Check]:
    return [check(f"c{number}", **changed.get(f"c{number}", {})) for number in range(count)]


async def test_of_a_thousand_checks_only_those_that_changed_are_commanded() -> None:
    async with open_stand() as stand:
        await stand.reload(config_of(*many(1000)))
        assert len(stand.registered()) == 1000
        rest = [one for one in many(1000, c7={"interval": "1m"}) if one.id not in {"c3", "c5"}]
        new = [check("fresh"), check("renamed", url="http://c3.test/")]
        events = await stand.reload(config_of(*rest, *new, moved={"c3": "renamed"}))
        assert stand.registered() == ["c7", "fresh", "renamed"]
        assert stand.deleted() == ["c3", "c5"]
        [reloaded] = events
        assert isinstance(reloaded, ConfigReloaded)
        assert reloaded.plan.counts() == {"added": 1, "changed": 1, "removed": 1, "moved": 1}
        await stand.reload(config_of(*rest, *new, moved={"c3": "renamed"}))
        assert stand.commands == []


async def test_planning_takes_apart_only_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking ten thousand checks apart holds the event loop for half a second."""
    async with open_stand() as stand:
        await stand.reload(config_of(*many(300)))
        apart: list[str] = []

        def counted_spec_of(one: Check) -> Spec:
            apart.append(one.id)
            return spec_of(one)

        monkeypatch.setattr(reload, "spec_of", counted_spec_of)
        rest = [one for one in many(300, c7={"interval": "1m"}) if one.id != "c3"]
        await stand.reload(config_of(*rest, check("new"), check("fresh"), moved={"c3": "new"}))
        assert sorted(apart) == ["c3", "c7", "c7", "new"]
        assert stand.registered() == ["c7", "fresh", "new"]


async def test_a_reload_whose_asker_goes_away_is_still_whole() -> None:
    async with open_stand() as stand:
        with anyio.CancelScope() as asker:
            stand.bus.subscribe(CheckRegistered, lambda _: asker.cancel())
            await stand.reload(config_of(*many(50)))
        assert len(stand.registry) == 50
        assert len(stand.said.of(CheckRegistered)) == 50
        assert len(stand.said.of(ConfigReloaded)) == 1


async def test_a_change_replaces_in_one_command() -> None:
    async with open_stand() as stand:
        await stand.reload(config_of(check("a")))
        await stand.reload(config_of(check("a", timeout="1s")))
        assert stand.commands == [RegisterCheck(check("a", timeout="1s"))]
        assert stand.said.of(CheckRegistered)[-1].previous == check("a")


async def test_a_rejected_configuration_changes_nothing_and_says_why() -> None:
    async with open_stand() as stand:
        await stand.reload(config_of(check("a")))
        error = ConfigError((Problem("checks.yaml", 3, 5, "no"),))
        with pytest.raises(ConfigError):
            await stand.reload(error)
        assert stand.commands == []
        assert set(stand.registry) == {"a"}
        assert stand.said.of(ConfigRejected)[0].error == "checks.yaml:3:5: no"


async def test_probes_go_on_while_thousands_of_mistakes_are_told() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with open_stand() as stand, anyio.create_task_group() as group:
        group.start_soon(take_turns)
        problems = tuple(Problem("checks.yaml", line, 5, "no") for line in range(1, MOST_PROBLEMS + 1))
        with pytest.raises(ConfigError):
            await stand.reload(ConfigError(problems))
        group.cancel_scope.cancel()
    assert turns >= 40


async def test_a_crash_while_loading_is_a_rejection_too() -> None:
    async with open_stand() as stand:
        await stand.reload(config_of(check("a")))
        with pytest.raises(ZeroDivisionError):
            await stand.reload(ZeroDivisionError("a secret, perhaps"))
        [rejected] = stand.said.of(ConfigRejected)
        assert (
            rejected.error
            == "loading the configuration crashed with ZeroDivisionError; the log has the traceback"
        )
        assert set(stand.registry) == {"a"}
        await stand.reload(config_of(check("a"), check("b")))
        assert set(stand.registry) == {"a", "b"}


async def test_deleting_most_checks_is_refused_unless_it_is_meant() -> None:
    async with open_stand() as stand:
        await stand.reload(config_of(*many(30)))
        with pytest.raises(MassDeleteError, match="would delete 20 of 30 checks"):
            await stand.reload(config_of(*many(10)))
        assert len(stand.registry) == 30
        await stand.reload(config_of(*many(10), limits={"mass_delete": "allow"}))
        assert len(stand.registry) == 10
        await stand.reload(config_of(*many(30)))
        await stand.reload(config_of(*many(10)), allow_mass_delete=True)
        assert len(stand.registry) == 10


async def test_two_reloads_at_once_run_one_after_the_other() -> None:
    async with open_stand() as stand, anyio.create_task_group() as group:
        stand.file.content = config_of(*many(50))
        group.start_soon(stand.bus.send, ReloadConfig("one"))
        group.start_soon(stand.bus.send, ReloadConfig("two"))
        await anyio.lowlevel.checkpoint()
    assert len(stand.registered()) == 50
    assert [event.plan.counts()["added"] for event in stand.said.of(ConfigReloaded)] == [50, 0]


def test_the_same_runs_on_trio() -> None:
    trio.run(
        test_of_a_thousand_checks_only_those_that_changed_are_commanded,
        clock=trio.testing.MockClock(autojump_threshold=0),
    )
