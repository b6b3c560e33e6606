"""Commands in, events out: what the application does when it is told to.

Each handler takes its message first and what it needs after it; ``app.py`` binds those. None of them suspends
between deciding and returning, except to probe and to load, so a command is one step to everybody else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import structlog

from watchbill.clock import Clock
from watchbill.domain.checks import Check, Heartbeat
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import ConfigError, MassDeleteError, UnknownCheckError, WatchbillError
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckSucceeded,
    Command,
    ConfigRejected,
    ConfigReloaded,
    DeleteCheck,
    Event,
    ExecuteChecks,
    HeartbeatReceived,
    ProbeEvent,
    RecordHeartbeat,
    RegisterCheck,
    ReloadConfig,
)
from watchbill.domain.plan import Plan, diff, predecessor
from watchbill.domain.results import Outcome, Result, Trigger
from watchbill.domain.specs import Spec, spec_of
from watchbill.domain.stalls import Stall, judge
from watchbill.domain.units import Instant
from watchbill.ports import Execute, LoadConfig

log = structlog.get_logger()

Claim = Callable[[str, Trigger, Instant | None], bool]
StallsSince = Callable[[Instant], Sequence[Stall]]
Registry = MutableMapping[str, Check]
"""The checks that run, by id: what reconciling compares with."""
CHECKS_A_STEP = 100
UNCOMPARED = Spec("", 0, True, {})
"""Stands for a check that is the same on both sides, or on one side alone."""


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
    checks = [registry[check_id] for check_id in command.check_ids]
    results: Sequence[Result]
    if len(checks) == 1:
        results = [await _execute(checks[0], execute, stalls_since, command)]
    else:
        results = await _execute_all(checks, execute, stalls_since, command)
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


# --- reconciling --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reloading:
    """What a reload needs; ``lock`` keeps two of them apart.

    ``hold`` keeps accounting from passing an instant as of which checks are still being registered.
    """

    registry: Registry
    load: LoadConfig
    send: Callable[[Command], Awaitable[Sequence[Event]]]
    publish: Callable[[Event], Awaitable[None]]
    clock: Clock
    lock: anyio.Lock
    hold: Callable[[Instant], AbstractContextManager[None]] = lambda _: nullcontext()


async def reload_config(command: ReloadConfig, *, parts: Reloading) -> Sequence[Event]:
    """Load, compare, and make it so; all or nothing.

    :raises ConfigError: the new configuration is not valid; nothing changed.
    :raises MassDeleteError: it would delete most of what runs; nothing changed.
    """
    async with parts.lock:
        try:
            loaded = await parts.load()
            plan = await plan_for(loaded, parts.registry)
            _refuse_mass_delete(command, loaded, plan, len(parts.registry))
        except WatchbillError as error:
            await _reject(command, error, parts)
            raise
        except Exception as error:
            crash = (
                f"loading the configuration crashed with {type(error).__name__}; the log has the traceback"
            )
            await parts.publish(ConfigRejected(crash, parts.clock.now(), command.cause))
            raise
        with anyio.CancelScope(shield=True):  # all or nothing, also when whoever asked goes away
            await reconcile(plan, loaded, parts)
        return [ConfigReloaded(loaded, plan, parts.clock.now(), command.cause)]


async def plan_for(loaded: LoadedConfig, registry: Registry) -> Plan:
    """What differs. Of thousands of checks few do, and only those are taken apart; others run in between."""
    checks, moved = loaded.config.checks, loaded.config.moved
    names = {*moved, *moved.values()}

    def differs(check_id: str) -> bool:
        declared, running = checks.get(check_id), registry.get(check_id)
        return check_id in names or (declared is not None and running is not None and declared != running)

    async def specs(of: Mapping[str, Check]) -> Mapping[str, Spec]:
        found = {}
        for number, (check_id, check) in enumerate(list(of.items())):
            found[check_id] = spec_of(check) if differs(check_id) else UNCOMPARED
            if number % CHECKS_A_STEP == 0:
                await anyio.lowlevel.checkpoint()
        return found

    return diff(await specs(checks), await specs(registry), moved)


async def reconcile(plan: Plan, loaded: LoadedConfig, parts: Reloading) -> None:
    """Send the commands of a plan. What is added shares one instant; slots that pass meanwhile run late."""
    checks, moved = loaded.config.checks, loaded.config.moved
    for change in plan.moved:
        assert change.moved_from is not None  # noqa: S101 - a plan's moved entries have it by construction
        at = parts.clock.now()
        await parts.send(DeleteCheck(change.moved_from, at=at, moved_to=change.check_id))
        await parts.send(RegisterCheck(checks[change.check_id], at=at, moved_from=change.moved_from))
        await anyio.lowlevel.checkpoint()
    for check_id in plan.removed:
        await parts.send(DeleteCheck(check_id))
        await anyio.lowlevel.checkpoint()
    for changed in plan.changed:
        await parts.send(RegisterCheck(checks[changed.check_id]))
        await anyio.lowlevel.checkpoint()
    at = parts.clock.now()
    with parts.hold(at):
        for check_id in plan.added:
            former = predecessor(check_id, moved, ())
            await parts.send(RegisterCheck(checks[check_id], at=at, moved_from=former))
            await anyio.lowlevel.checkpoint()


def _refuse_mass_delete(command: ReloadConfig, loaded: LoadedConfig, plan: Plan, running: int) -> None:
    allowed = command.allow_mass_delete or loaded.config.limits.mass_delete == "allow"
    if plan.deletes_most_of(running) and not allowed:
        raise MassDeleteError(
            f"this would delete {len(plan.removed)} of {running} checks, so nothing was changed; if that is meant, "
            "reload with --allow-mass-delete or declare limits: {mass_delete: allow}"
        )


async def _reject(command: ReloadConfig, error: WatchbillError, parts: Reloading) -> None:
    if isinstance(error, ConfigError):
        for problem in error.problems:
            log.error(
                "config.problem",
                place=f"{problem.path}:{problem.line}:{problem.column}",
                problem=problem.message,
            )
    log.error("config.rejected", cause=command.cause, error=str(error).splitlines()[0])
    await parts.publish(ConfigRejected(str(error), parts.clock.now(), command.cause))
