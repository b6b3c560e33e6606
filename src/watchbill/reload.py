"""A reload, or other targets: compare, and make it so; all or nothing, and a few checks at a time, since probes go on meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import structlog

from watchbill.clock import Clock
from watchbill.discovered import Discovered, deleted_of, deletes_most, may_delete_most
from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import ConfigError, MassDeleteError, WatchbillError
from watchbill.domain.messages import (
    ApplyTargets,
    Command,
    ConfigRejected,
    ConfigReloaded,
    DeleteCheck,
    Event,
    RegisterCheck,
    ReloadConfig,
    TargetsApplied,
)
from watchbill.domain.plan import Change, Plan, field_changes, outline, predecessor
from watchbill.domain.specs import spec_of
from watchbill.domain.units import Instant
from watchbill.ports import LoadConfig

log = structlog.get_logger()

CHECKS_A_STEP = 100


@dataclass(frozen=True, slots=True)
class Reloading:
    """What a reload needs; ``registry`` holds the checks that run, ``lock`` keeps two reloads apart.

    ``hold`` keeps accounting from passing an instant as of which checks are still being registered. ``loaded`` is the
    configuration that holds now: where the lock is free, the one that the last to hold it has made so.
    """

    registry: Mapping[str, Check]
    load: LoadConfig
    send: Callable[[Command], Awaitable[Sequence[Event]]]
    publish: Callable[[Event], Awaitable[None]]
    clock: Clock
    lock: anyio.Lock
    hold: Callable[[Instant], AbstractContextManager[None]] = lambda _: nullcontext()
    discovered: Discovered = field(default_factory=Discovered)
    loaded: Callable[[], LoadedConfig | None] = lambda: None


async def reload_config(command: ReloadConfig, *, parts: Reloading) -> Sequence[Event]:
    """Load, compare, and make it so; all or nothing.

    :raises ConfigError: the new configuration is not valid; nothing changed.
    :raises MassDeleteError: it would delete most of what runs; nothing changed.
    """
    async with parts.lock:
        try:
            whole = await parts.discovered.complete(
                await parts.load(parts.registry),
                parts.registry,
                allow_mass_delete=command.allow_mass_delete,
            )
            loaded = whole.loaded
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
        at = parts.clock.now()
        return [*parts.discovered.adopt(whole, at), ConfigReloaded(loaded, plan, at, command.cause)]


async def apply_targets(command: ApplyTargets, *, parts: Reloading) -> Sequence[Event]:
    """The same for the targets of one source, without reading the configuration again.

    :raises MassDeleteError: it would delete most of the block's checks; nothing changed.
    :raises WatchbillError: no checks could be made of the targets; nothing changed.
    """
    block = command.discovery
    async with parts.lock:
        before = parts.loaded()
        if before is None or block not in before.config.discover:
            return []  # it was taken out of the configuration meanwhile
        whole = await parts.discovered.complete(before, parts.registry, found={block: command.groups})
        plan = await plan_for(whole.loaded, parts.registry)
        deleted, running = deleted_of(block, plan, before)
        if deletes_most(deleted, running) and not may_delete_most(before, block):
            parts.discovered.refuse(block, command.groups, deleted)
            raise MassDeleteError(
                f"this would delete {deleted} of the {running} checks of {block}, so nothing was changed; if that is meant, "
                "reload with --allow-mass-delete or declare mass_delete: allow in the block"
            )
        with anyio.CancelScope(shield=True):
            await reconcile(plan, whole.loaded, parts)
        at = parts.clock.now()
        return [*parts.discovered.adopt(whole, at), TargetsApplied(block, whole.loaded, plan, at)]


async def plan_for(loaded: LoadedConfig, registry: Mapping[str, Check]) -> Plan:
    """What differs. Of thousands of checks few do, and only those are taken apart; others run in between."""
    checks, running = loaded.config.checks, dict(registry)
    found = outline(checks, running, loaded.config.moved)
    changed = []
    for number, check_id in enumerate(found.kept):
        if _differ(running[check_id], checks[check_id]):
            if fields := field_changes(spec_of(running[check_id]), spec_of(checks[check_id])):
                changed.append(Change(check_id, fields))
            await anyio.lowlevel.checkpoint()
        elif number % CHECKS_A_STEP == 0:
            await anyio.lowlevel.checkpoint()
    moved = []
    for new, old in found.renames.items():
        moved.append(Change(new, field_changes(spec_of(running[old]), spec_of(checks[new])), moved_from=old))
        await anyio.lowlevel.checkpoint()
    return Plan(found.added, tuple(changed), found.removed, tuple(moved))


def _differ(running: Check, declared: Check) -> bool:
    # Mostly it is the same object, and comparing ten thousand others takes a tenth of a second.
    return declared is not running and declared != running


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
    await parts.publish(ConfigRejected(str(error), parts.clock.now(), command.cause))
    if isinstance(error, ConfigError):
        for number, problem in enumerate(error.problems):
            log.error(
                "config.problem",
                place=f"{problem.path}:{problem.line}:{problem.column}",
                problem=problem.message,
            )
            if number % CHECKS_A_STEP == 0:  # the lines of thousands take a tenth of a second
                await anyio.lowlevel.checkpoint()
    log.error("config.rejected", cause=command.cause, error=str(error).splitlines()[0])
