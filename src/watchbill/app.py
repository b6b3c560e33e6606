"""The composition root: every part, what it is given, and who hears of what.

``open_app`` takes a valid configuration and the ports; the nesting of its ``async with`` is the order of
shutdown: first no more probes, then what they found is stored.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.lowlevel
import structlog

from watchbill.board import Board
from watchbill.bus import Bus, Handler, Subscriber
from watchbill.clock import Clock
from watchbill.config.templates import make_checks
from watchbill.discovered import Discovered, Made, Whole
from watchbill.discovery.running import BlockNumbers, Discoveries, followed
from watchbill.discovery.table import source_of
from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.discovery import Template
from watchbill.domain.errors import WatchbillError
from watchbill.domain.messages import (
    ApplyTargets,
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckStatusChanged,
    CheckSucceeded,
    ConfigRejected,
    ConfigReloaded,
    DeleteCheck,
    Event,
    ExecuteChecks,
    HeartbeatReceived,
    RecordHeartbeat,
    RegisterCheck,
    ReloadConfig,
    ServiceStatusChanged,
    SlotSkipped,
    SlotsMissed,
    TargetsApplied,
    TargetsFound,
)
from watchbill.domain.opening import Opening
from watchbill.domain.plan import Plan, predecessor
from watchbill.domain.results import GapReason
from watchbill.domain.units import SECOND, Instant
from watchbill.handlers import (
    Registry,
    delete_check,
    execute_checks,
    record_heartbeat,
    register_check,
)
from watchbill.logbook import log_flip, log_reload, log_service, log_targets
from watchbill.metrics import CHECK_FAMILIES, Metrics, Sources
from watchbill.otlp import Export, ExportParts, OtlpStatistics, resource_attributes
from watchbill.ports import Execute, Judge, Ports, Storage, UnjudgedError
from watchbill.probes import Kept, make_execute, probers
from watchbill.reload import CHECKS_A_STEP, Reloading, apply_targets, reload_config
from watchbill.scheduler import Scheduler
from watchbill.storage.writer import HistoryWriter
from watchbill.tracing import Tracing

E = TypeVar("E", bound=Event)

PROBE_GRACE_SECONDS = 5.0
DRAIN_SECONDS = 5.0
MISSED_SHOWN_AFTER_SECONDS = 60.0
"""Slots missed over a restart are counted once two scrapes have seen 0, so that ``increase()`` sees them."""

log = structlog.get_logger()


@dataclass(slots=True)
class App:
    """The running application. ``loaded`` is the configuration that holds now."""

    loaded: LoadedConfig
    location: str
    clock: Clock
    bus: Bus
    board: Board
    scheduler: Scheduler
    writer: HistoryWriter
    metrics: Metrics
    started: bool = False
    produced: int = 0
    """How many rows of history there must be of this process: results and skipped slots."""

    def count(self, _: Event) -> None:
        self.produced += 1

    def ready(self) -> bool:
        """The configuration is loaded and the scheduler runs."""
        return self.started

    def healthy(self) -> bool:
        """The event loop has not stood still for 30 s."""
        return self.clock.now() - self.scheduler.last_tick < 30 * SECOND


@asynccontextmanager
async def open_app(
    loaded: LoadedConfig,
    ports: Ports,
    *,
    location: str = "",
    execute: Execute | None = None,
    sources: Sources | None = None,
    recorder: Callable[[Event], None] | None = None,
    version: str = "",
    instance: str = "",
) -> AsyncIterator[App]:
    """The application, probing from here until the block is left.

    ``execute`` replaces the probers (tests), ``sources`` adds numbers of parts that live outside,
    ``recorder`` hears every event before anyone else, ``instance`` tells this process from others of its kind.
    """
    board, registry, bus = Board(), dict[str, Check](), Bus()
    kept = Kept(ports.clock.now)
    opening = await ports.storage.opening(location)
    discovered = Discovered(partial(_expand, ports.judge), found=opening.targets)
    whole = await _with_those_found(discovered, loaded)
    loaded = whole.loaded
    opening = opening.renamed(loaded.config.checks, loaded.config.moved)
    tracing = Tracing(ports.random_bytes)
    execute = execute or make_execute(
        probers(ports.network, ports.clock.now, ports.judge, board.last_seen, kept),
        clock=ports.clock,
        location=location,
        monotonic=ports.clock.monotonic,
        way_lost=ports.way_lost,
        begin_trace=tracing.begin,
    )
    scheduler = Scheduler(
        clock=ports.clock,
        send=bus.send,
        publish=bus.publish,
        latest_result=board.latest_at,
        location=location,
        capacity=loaded.config.limits.concurrent_probes,
    )
    app: App
    writer = HistoryWriter(
        ports.storage,
        clock=ports.clock,
        accounted_until=scheduler.accounted_until,
        keep=lambda: app.loaded.config.storage.keep,
    )
    discoveries = Discoveries(
        discovered,
        source_of=lambda block, folder: source_of(block, folder, ports),
        send=bus.send,
        loaded=lambda: app.loaded,
        clock=ports.clock,
    )
    export: Export
    metrics = Metrics(
        board=board,
        clock=ports.clock,
        sources=_sources(
            sources,
            bus,
            scheduler,
            writer,
            ports.storage,
            discovery=discoveries.statistics,
            otlp=lambda: export.statistics(),  # noqa: PLW0108 - it is made below
        ),
        version=version,
        slots_are_late=scheduler.is_late,
    )
    export = Export(
        ExportParts(
            http=ports.http,
            clock=ports.clock,
            offload=ports.offload,
            random_bytes=ports.random_bytes,
            checks=board.checks,
            families=CHECK_FAMILIES,
            read=metrics.read,
            slots_are_late=scheduler.is_late,
            attributes=resource_attributes(version=version, instance=instance),
            version=version,
        )
    )
    app = App(loaded, location, ports.clock, bus, board, scheduler, writer, metrics)
    del loaded  # a reload replaces it, and then it must not live on in here
    for command, handler in _commands(app, registry, ports, execute, discovered).items():
        bus.handle(command, handler)
    for event, subscribers in _subscribers(app, kept, discoveries, export, tracing).items():
        if recorder is not None:
            bus.subscribe(event, recorder, name="recorder")
        for subscriber in subscribers:
            bus.subscribe(event, subscriber)
    async with kept, anyio.create_task_group() as group:
        await group.start(writer.run, name="history writer")
        await group.start(export.run, name="otlp")
        at = await _start(app, opening)
        for found in discovered.adopt(whole, at):  # blocks that were taken out while nobody ran
            await bus.publish(found)
        del whole
        async with anyio.create_task_group() as probing:
            await probing.start(scheduler.run, name="scheduler")
            group.start_soon(_count_missed, app, opening.missed_until(at), name="missed slots")
            del opening  # ten thousand results
            app.started = True
            try:
                async with followed(discoveries):
                    yield app
            finally:
                app.started = False
                with anyio.CancelScope(shield=True):
                    await scheduler.drain(PROBE_GRACE_SECONDS)
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as draining:
                draining.start_soon(export.drain, DRAIN_SECONDS, name="otlp drain")
                await writer.drain(DRAIN_SECONDS)
        stored = writer.statistics()
        log.info(
            "watchbill.stopped",
            results_produced=app.produced,
            rows_stored=stored.rows,
            rows_dropped=stored.dropped_rows,
        )
        group.cancel_scope.cancel()


# --- the two tables -----------------------------------------------------------------------------------


def _commands(
    app: App, registry: Registry, ports: Ports, execute: Execute, discovered: Discovered
) -> Mapping[type, Handler]:
    clock, location = ports.clock, app.location
    reloading = Reloading(
        registry=registry,
        load=ports.load_config,
        send=app.bus.send,
        publish=app.bus.publish,
        clock=clock,
        lock=anyio.Lock(),
        hold=app.scheduler.hold,
        discovered=discovered,
        loaded=lambda: app.loaded,
    )
    return {
        RegisterCheck: partial(register_check, registry=registry, clock=clock, location=location),
        DeleteCheck: partial(delete_check, registry=registry, clock=clock, location=location),
        RecordHeartbeat: partial(record_heartbeat, registry=registry, clock=clock),
        ReloadConfig: partial(reload_config, parts=reloading),
        ApplyTargets: partial(apply_targets, parts=reloading),
        ExecuteChecks: partial(
            execute_checks,
            registry=registry,
            execute=execute,
            stalls_since=app.scheduler.stalls_since,
            claim=app.scheduler.claim,
        ),
    }


def _subscribers(
    app: App, kept: Kept, discoveries: Discoveries, export: Export, tracing: Tracing
) -> Mapping[type, Sequence[Subscriber]]:
    """History hears of everything first: a span stands before its first result."""
    board, writer, scheduler, metrics = app.board, app.writer.accept, app.scheduler, app.metrics
    probed = _publishing(app.bus, board.probed)
    return {
        CheckRegistered: [
            writer,
            _publishing(app.bus, board.registered),
            scheduler.registered,
            kept.on_registered,
        ],
        CheckDeleted: [
            writer,
            scheduler.deleted,
            _publishing(app.bus, board.deleted),
            kept.on_deleted,
            export.deleted,
        ],
        CheckSucceeded: [writer, probed, app.count, export.probed],
        CheckFailed: [writer, probed, app.count, export.probed],
        CheckErrored: [writer, probed, app.count, export.probed],
        SlotSkipped: [writer, board.skipped_slot, app.count],
        SlotsMissed: [writer, board.gap],
        HeartbeatReceived: [writer, board.heartbeat],
        CheckStatusChanged: [writer, log_flip],
        ServiceStatusChanged: [log_service],
        ConfigReloaded: [
            writer,
            board.configured,
            scheduler.configured,
            metrics.reloaded,
            export.configured,
            tracing.configured,  # no span before there is somebody to take it
            log_reload,
            discoveries.configured,
            partial(_hold, app),
        ],
        TargetsFound: [writer],
        TargetsApplied: [log_targets, partial(_hold, app)],
        ConfigRejected: [metrics.rejected],
    }


def _publishing(bus: Bus, subscriber: Callable[[E], Sequence[Event]]) -> Subscriber:
    """A subscriber whose answer is what happened because of it."""

    async def publish(events: Sequence[Event]) -> None:
        for event in events:
            await bus.publish(event)

    def publish_what_follows(event: E) -> Awaitable[None] | None:
        following = subscriber(event)
        return publish(following) if following else None

    publish_what_follows.__qualname__ = subscriber.__qualname__
    return publish_what_follows


async def _hold(app: App, event: ConfigReloaded | TargetsApplied) -> None:
    """Ten thousand former checks are let go a few at a time: all at once they would hold the loop."""
    former = list(app.loaded.config.checks.values())
    app.loaded = event.loaded
    while former:
        del former[-CHECKS_A_STEP:]
        await anyio.lowlevel.checkpoint()


def _sources(
    given: Sources | None,
    bus: Bus,
    scheduler: Scheduler,
    writer: HistoryWriter,
    storage: Storage,
    *,
    discovery: Callable[[], Mapping[str, BlockNumbers]],
    otlp: Callable[[], OtlpStatistics | None],
) -> Sources:
    outside = given or Sources()
    return Sources(
        bus=bus.statistics,
        scheduler=scheduler.statistics,
        writer=writer.statistics,
        storage=storage.statistics,
        log=outside.log,
        http=outside.http,
        discovery=discovery,
        web=outside.web,
        otlp=otlp,
    )


# --- start --------------------------------------------------------------------------------------------


async def _expand(judge: Judge, template: Template, targets: Sequence[Mapping[str, str]]) -> Sequence[Made]:
    try:
        return await judge(make_checks, [b""], template.kept, list(targets))
    except UnjudgedError as error:
        raise WatchbillError(f"no checks could be made of the targets: {error}") from error


async def _with_those_found(discovered: Discovered, loaded: LoadedConfig) -> Whole:
    """What was found before this process began holds until a source says otherwise."""
    try:
        return await discovered.complete(loaded, {})
    except WatchbillError as error:
        log.error("discovery.not_restored", reason=str(error))  # noqa: TRY400 - the sources are asked again
        discovered.found = {}
        return Whole(loaded, {}, {}, {}, {})


async def _start(app: App, opening: Opening) -> Instant:
    """Register what is declared at one instant, and account for the time since the last run."""
    config = app.loaded.config
    _go_on_after(opening, app.clock)
    at = app.clock.now()
    app.board.configured(ConfigReloaded(app.loaded, Plan(), at, "start"))
    if opening.accounted_until is not None:
        # Past `at`, since the first slot of every check lies after it.
        await app.bus.publish(SlotsMissed(opening.accounted_until, at + 1, GapReason.RESTART, app.location))
    with app.scheduler.hold(at):
        for check in config.checks.values():
            former = predecessor(check.id, config.moved, opening.registered_at)
            await app.bus.send(RegisterCheck(check, at=at, moved_from=former))
            await anyio.lowlevel.checkpoint()
    app.board.restore(opening.latest, opening.statuses, opening.last_seen())
    plan = Plan(added=tuple(sorted(config.checks)))
    await app.bus.publish(ConfigReloaded(app.loaded, plan, at, "start"))
    return at


def _go_on_after(opening: Opening, clock: Clock) -> None:
    """A wall clock that was set back since the last run must not demand the slots of that run again."""
    ahead = clock.not_before(opening.reached()) + clock.not_before(opening.accounted_until or 0)
    if ahead:
        log.warning("clock.behind_history", seconds=ahead / SECOND)


async def _count_missed(app: App, counts: Mapping[str, int]) -> None:
    await anyio.sleep(MISSED_SHOWN_AFTER_SECONDS)
    app.board.missed(counts)
