"""Many asks for a reload at once: how many are made, and what each asker is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup

from watchbill.domain.errors import MassDeleteError
from watchbill.domain.messages import Command, DeleteCheck, Event, ReloadConfig
from watchbill.web.reloads import Reloads

pytestmark = pytest.mark.anyio


class Slow:
    """Reloads once ``released``; each answers with another sequence of events."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.released = anyio.Event(), anyio.Event()
        self.commands: list[Command] = []
        self.answers: list[object] = []
        self._error = error

    async def send(self, command: Command) -> Sequence[Event]:
        self.commands.append(command)
        self.begun.set()
        await self.released.wait()
        if self._error is not None:
            raise self._error
        return [DeleteCheck(f"{len(self.commands)}")]  # type: ignore[list-item]

    async def ask(self, reloads: Reloads, *, allow_mass_delete: bool = False) -> None:
        try:
            self.answers.append(await reloads.ask(allow_mass_delete=allow_mass_delete))
        except MassDeleteError as error:
            self.answers.append(str(error))


@asynccontextmanager
async def while_one_runs(slow: Slow, reloads: Reloads) -> AsyncIterator[TaskGroup]:
    """Somebody has asked. It ends once all who ask in the block wait, and is waited for with theirs."""
    async with anyio.create_task_group() as group:
        group.start_soon(slow.ask, reloads)
        await slow.begun.wait()
        yield group
        await anyio.wait_all_tasks_blocked()
        slow.released.set()


async def test_all_that_ask_while_one_runs_share_the_next() -> None:
    slow = Slow()
    reloads = Reloads(slow.send)
    async with while_one_runs(slow, reloads) as group:
        for _ in range(20):
            group.start_soon(slow.ask, reloads)
    assert slow.commands == [ReloadConfig("http", allow_mass_delete=False)] * 2
    assert slow.answers == [[DeleteCheck("1")], *[[DeleteCheck("2")]] * 20]
    await slow.ask(reloads)
    assert len(slow.commands) == 3


async def test_who_allows_a_mass_delete_does_not_do_so_for_others() -> None:
    slow = Slow()
    reloads = Reloads(slow.send)
    async with while_one_runs(slow, reloads) as group:
        for allowed in (True, False, True):
            group.start_soon(lambda allowed=allowed: slow.ask(reloads, allow_mass_delete=allowed))  # type: ignore[misc]
    allowed_of = [command.allow_mass_delete for command in slow.commands if isinstance(command, ReloadConfig)]
    assert sorted(allowed_of) == [False, False, True]
    assert len(slow.answers) == 4


async def test_a_refusal_is_told_to_all_who_waited_for_it() -> None:
    slow = Slow(MassDeleteError("too many"))
    reloads = Reloads(slow.send)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(slow.ask, reloads)
        await anyio.wait_all_tasks_blocked()
        slow.released.set()
    assert slow.answers == ["too many"] * 5


async def test_who_waits_for_one_that_is_cut_short_does_not_wait_for_ever() -> None:
    slow = Slow()
    reloads = Reloads(slow.send)
    async with while_one_runs(slow, reloads) as group, anyio.create_task_group() as leaving:
        leaving.start_soon(slow.ask, reloads)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(slow.ask, reloads)
        await anyio.wait_all_tasks_blocked()
        leaving.cancel_scope.cancel()
    assert slow.answers == [(), [DeleteCheck("1")]]
