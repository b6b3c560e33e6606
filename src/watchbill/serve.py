"""The process: real ports, signals, uvloop, systemd; from options to an exit code."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from socket import gethostname, socket
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import structlog

from watchbill import systemd
from watchbill.app import App, open_app
from watchbill.clock import Timeline
from watchbill.config.targetfiles import DiskFiles
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import WatchbillError
from watchbill.domain.messages import ConfigReloaded
from watchbill.domain.places import NOWHERE, Places
from watchbill.domain.results import Result, Trigger
from watchbill.heap import Heap, tended
from watchbill.hugepages import keep_huge
from watchbill.log import LineWriter, open_log
from watchbill.metrics import Sources
from watchbill.net import open_network, way_lost
from watchbill.net.http import HttpRequests
from watchbill.ports import Ports
from watchbill.probes import make_execute, probers
from watchbill.rereading import Rereading, first
from watchbill.storage import open_storage
from watchbill.tracing import Tracing
from watchbill.triggers import Reloader, follow
from watchbill.web import Backseat, HttpTally, Passwords, adopt, bind, create_app, serve_web
from watchbill.workers.judging import open_judges
from watchbill.workers.loading import Loader

T = TypeVar("T")

LONGEST_WAIT_FOR_THREADS_SECONDS = 0.0005
"""After so long a thread (history, the log) hands the interpreter back to the event loop; by default after 5 ms."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Options:
    """What ``watchbill run`` was asked for. ``listen`` are host:port, ``reload_on`` of signal and change."""

    config: str
    listen: tuple[str, ...] = ("127.0.0.1:9876",)
    storage: str = "watchbill.duckdb"
    reload_on: frozenset[str] = frozenset({"signal"})
    enable_lifecycle: bool = False
    log_level: str = "info"
    log_format: str = "auto"
    location: str = ""
    allow_mass_delete: bool = False
    web_config: str = ""
    systemd_socket: bool = False
    places: Places = NOWHERE


def run(options: Options) -> int:
    """Serve until SIGTERM or SIGINT: 0 then, 1 where a port or the store is taken.

    :raises ConfigError: the configuration, or that of the web, is not valid; nothing was started.
    """
    rereading = (
        first(options.web_config, now=system_clock().now, offload=offload) if options.web_config else None
    )
    # Until the receiver stands, a reload that comes too early must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    loader = Loader(options.config)
    loader.start()
    _raise_descriptor_limit()
    sys.setswitchinterval(LONGEST_WAIT_FOR_THREADS_SECONDS)
    with tended(), open_log(level=options.log_level, form=options.log_format) as lines:
        try:
            handed = systemd.listen_descriptors() if options.systemd_socket else None
            sockets = bind(options.listen) if handed is None else adopt(handed)
            return anyio.run(
                _main,
                options,
                loader,
                sockets,
                lines,
                rereading,
                backend="asyncio",
                backend_options={"use_uvloop": True},
            )
        except WatchbillError as error:
            lines.write(f"watchbill: {error}")
            return 1
        except Exception:
            log.exception("watchbill.crashed")
            raise


async def _main(
    options: Options,
    loader: Loader,
    sockets: Sequence[socket],
    lines: LineWriter,
    rereading: Rereading | None,
) -> int:
    live = rereading.live if rereading else None
    stop = anyio.Event()
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(
            anyio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
        )
        clock = system_clock()
        storage = await stack.enter_async_context(open_storage(options.storage, location=options.location))
        network = await stack.enter_async_context(open_network())
        judges = await stack.enter_async_context(open_judges())
        ports = Ports(
            clock=clock,
            network=network,
            storage=storage,
            load_config=loader.load,
            offload=offload,
            judge=judges,
            way_lost=way_lost,
            files=DiskFiles(),
            http=HttpRequests(network),
            look_up=network.look_up,
            random_bytes=os.urandom,
            environment=os.environ,
        )
        http = HttpTally()
        sources = Sources(log=lines.statistics, http=http.statistics, web=live.statistics if live else None)
        app = await stack.enter_async_context(
            open_app(
                loader.first(),
                ports,
                location=options.location,
                sources=sources,
                version=version("watchbill"),
                instance=_instance(sockets),
            )
        )
        heap = Heap(lambda: app.scheduler.under_way, lambda: len(app.board.checks))
        app.bus.subscribe(ConfigReloaded, lambda _: heap.settle(), name="heap")
        web = create_app(
            app,
            storage=storage,
            copies=storage,
            http=http,
            offload=offload,
            enable_lifecycle=options.enable_lifecycle,
            version=version("watchbill"),
            live=live,
            passwords=Passwords(os.urandom(32), stack.enter_context(closing(Backseat()))),
            places=options.places,
        )
        reloader = Reloader(app.bus, allow_mass_delete=options.allow_mass_delete)
        async with anyio.create_task_group() as group:
            group.start_soon(_listen_to_signals, signals, reloader, stop, options, name="signals")
            group.start_soon(reloader.run, name="reload")
            if "change" in options.reload_on:
                following = partial(follow, options.config, reloader, named=lambda: app.loaded.files)
                group.start_soon(following, name="watch")
            group.start_soon(_keep_watchdog, app, name="watchdog")
            group.start_soon(heap.tend, name="heap")
            group.start_soon(keep_huge, offload, name="huge pages")
            if rereading is not None:
                group.start_soon(rereading.run, name="web configuration")
            await group.start(partial(serve_web, web, sockets, shutdown=stop, live=live), name="web")
            _announce(app, options, sockets, lines, encrypted=live is not None and live.context is not None)
            heap.settle()
            systemd.notify(systemd.READY)
            await stop.wait()
            for again in (signal.SIGTERM, signal.SIGINT):
                signal.signal(again, _end_at_once)
            systemd.notify(systemd.STOPPING)
            log.info("watchbill.stopping")
            group.cancel_scope.cancel()
    return 0


# --- ports --------------------------------------------------------------------------------------------


def system_clock() -> Timeline:
    return Timeline(monotonic=time.monotonic, wall=lambda: time.time_ns() // 1000)


async def offload(function: Callable[..., T], *args: Any) -> T:
    return await anyio.to_thread.run_sync(partial(function, *args))


# --- signals ------------------------------------------------------------------------------------------


async def _listen_to_signals(
    signals: AsyncIterator[signal.Signals], reloader: Reloader, stop: anyio.Event, options: Options
) -> None:
    async for received in signals:
        if received == signal.SIGHUP:
            if "signal" in options.reload_on:
                reloader.ask("signal")
        else:
            stop.set()


def _end_at_once(*_: object) -> None:
    """Whoever asks a second time does not wait for probes under way. The log may be what hangs, so it is not asked."""
    os._exit(1)


async def _keep_watchdog(app: App) -> None:
    period = systemd.watchdog_seconds()
    while period is not None:
        if app.healthy():
            systemd.notify(systemd.ALIVE)
        await anyio.sleep(period)


# --- housekeeping -------------------------------------------------------------------------------------


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _announce(
    app: App, options: Options, sockets: Sequence[socket], lines: LineWriter, *, encrypted: bool
) -> None:
    checks = [check for check in app.loaded.config.checks.values() if check.enabled]
    types = ", ".join(
        f"{count} {name}" for name, count in sorted(Counter(check.type for check in checks).items())
    )
    addresses = [_url(bound, options.places.prefix, encrypted=encrypted) for bound in sockets]
    log.info(
        "watchbill.listening",
        addresses=addresses,
        checks=len(checks),
        config=options.config,
        storage=options.storage,
    )
    reload = f"kill -HUP {os.getpid()}" + (", or watchbill reload" if options.enable_lifecycle else "")
    if sys.stderr.isatty() or options.log_format == "console":
        lines.write(
            f"\n  Watchbill {version('watchbill')} watches {len(checks)} checks of {options.config} ({types})\n"
            f"    page     {addresses[0]}/\n"
            f"    metrics  {addresses[0]}/metrics\n"
            f"    history  {options.storage}\n"
            f"    reload   {reload}; stop with Ctrl-C\n"
        )


def _instance(sockets: Sequence[socket]) -> str:
    """What tells this exporter from others, and is the same after a restart: its machine, and where it listens."""
    names = [bound.getsockname() for bound in sockets]
    where = [str(name[1]) if isinstance(name, tuple) else str(name) for name in names]
    return ":".join([gethostname(), *where[:1]])


def _url(bound: socket, prefix: str, *, encrypted: bool) -> str:
    scheme, name = "https" if encrypted else "http", bound.getsockname()
    if not isinstance(name, tuple):
        return f"{scheme}+unix:{name}"
    host, port = name[:2]
    return f"{scheme}://[{host}]:{port}{prefix}" if ":" in host else f"{scheme}://{host}:{port}{prefix}"


# --- once ---------------------------------------------------------------------------------------------


def execute_once(loaded: LoadedConfig, ids: Sequence[str]) -> list[Result]:
    """Probe these checks now, all at once, from this machine; results in the order of ``ids``."""
    return anyio.run(_execute_once, loaded, ids, backend="asyncio", backend_options={"use_uvloop": True})


async def _execute_once(loaded: LoadedConfig, ids: Sequence[str]) -> list[Result]:
    clock = system_clock()
    results: dict[str, Result] = {}
    async with open_network() as network, open_judges() as judges, anyio.create_task_group() as group:
        started = clock.now()
        execute = make_execute(
            probers(network, clock.now, judges, lambda _: started),
            clock=clock,
            location="",
            monotonic=clock.monotonic,
            limit=loaded.config.limits.concurrent_probes,
            way_lost=way_lost,
            begin_trace=Tracing(os.urandom).begin,
        )

        async def probe(check_id: str) -> None:
            check = loaded.config.checks[check_id]
            results[check_id] = await execute(check, slot=None, trigger=Trigger.MANUAL)

        for check_id in ids:
            group.start_soon(probe, check_id, name=f"probe {check_id}")
    return [results[check_id] for check_id in ids]
