"""Commands in, events out: what the application does when it is told to.

Each handler takes its message first and what it needs after it; ``app.py`` binds those. None of them suspends
between deciding and returning, except to probe, so a command is one step to everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

import anyio

from watchbill.clock import Clock
from watchbill.domain.checks import Check, Heartbeat
from watchbill.domain.errors import UnknownCheckError
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckSucceeded,
    DeleteCheck,
    Event,
    ExecuteChecks,
    HeartbeatReceived,
    ProbeEvent,
    RecordHeartbeat,
    RegisterCheck,
)
from watchbill.domain.results import Outcome, Result, Trigger
from watchbill.domain.stalls import Stall, judge
from watchbill.domain.units import Instant
from watchbill.ports import Execute

Claim = Callable[[str, Trigger, Instant | None], bool]
StallsSince = Callable[[Instant], Sequence[Stall]]
Registry = MutableMapping[str, Check]
"""The checks that run, by id: what reconciling compares with."""


def register_check(
    command: RegisterCheck, *, registry: Registry, clock: Clock, location: str
) -> Sequence[Event]:
    check = command.check
    previous = registry.get(check.id)
    registry[check.id] = check
    at = clock.now() if command.at is None else command.at
    return [CheckRegistered(check, at, location, previous=previous, moved_from=command.moved_from)]


def delete_check(command: DeleteCheck, *, registry: Registry, clock: Clock, location: str) -> Sequence[Event]:
    """:raises UnknownCheckError: no such check is registered."""
    check = registry.pop(command.check_id, None)
    if check is None:
        raise UnknownCheckError(f"no check {command.check_id} is registered")
    at = clock.now() if command.at is None else command.at
    return [CheckDeleted(check, at, location, moved_to=command.moved_to)]


def record_heartbeat(command: RecordHeartbeat, *, registry: Registry, clock: Clock) -> Sequence[Event]:
    """:raises UnknownCheckError: no heartbeat check of that id is registered."""
    if not isinstance(registry.get(command.check_id), Heartbeat):
        raise UnknownCheckError(f"no heartbeat check {command.check_id} is registered")
    return [HeartbeatReceived(command.check_id, clock.now())]


async def execute_checks(
    command: ExecuteChecks,
    *,
    registry: Registry,
    execute: Execute,
    stalls_since: StallsSince = lambda _: (),
    claim: Claim = lambda *_: True,
) -> Sequence[Event]:
    """Probe, all at once if there are several; the events come in the order of the ids.

    A probe whose slot was accounted for otherwise meanwhile (``claim`` says so) has no event.

    :raises UnknownCheckError: one of them is not registered; then none is probed.
    """
    missing = [check_id for check_id in command.check_ids if check_id not in registry]
    if missing:
        raise UnknownCheckError(f"no check {', '.join(missing)} is registered")
    ids = command.check_ids
    if len(ids) == 1:  # the scheduler's way, thousands of times a second
        results: Sequence[Result] = (await _execute(registry[ids[0]], execute, stalls_since, command),)
    else:
        results = await _execute_all([registry[one] for one in ids], execute, stalls_since, command)
    return [event_of(result) for result in results if claim(result.check_id, command.trigger, command.slot)]


async def _execute(
    check: Check, execute: Execute, stalls_since: StallsSince, command: ExecuteChecks
) -> Result:
    result = await execute(check, slot=command.slot, trigger=command.trigger)
    stalls = stalls_since(result.started_at)
    return judge(result, check, stalls) if stalls else result


async def _execute_all(
    checks: Sequence[Check], execute: Execute, stalls_since: StallsSince, command: ExecuteChecks
) -> Sequence[Result]:
    results: dict[int, Result] = {}

    async def probe(index: int, check: Check) -> None:
        results[index] = await _execute(check, execute, stalls_since, command)

    async with anyio.create_task_group() as group:
        for index, check in enumerate(checks):
            group.start_soon(probe, index, check, name=f"probe {check.id}")
    return [results[index] for index in range(len(checks))]


def event_of(result: Result) -> ProbeEvent:
    if result.outcome is Outcome.SUCCESS:
        return CheckSucceeded(result)
    return CheckFailed(result) if result.outcome is Outcome.FAILURE else CheckErrored(result)
