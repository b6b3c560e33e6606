"""The core as a library: a bus that registers and executes checks, over the real network.

No schedule, no history, no metrics: subscribe to events for what you want of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio

from watchbill.bus import Bus
from watchbill.clock import Timeline
from watchbill.domain.checks import Check
from watchbill.domain.messages import CheckDeleted, CheckRegistered, DeleteCheck, ExecuteChecks, RegisterCheck
from watchbill.handlers import delete_check, execute_checks, register_check
from watchbill.net import open_network
from watchbill.probes import Kept, make_execute, probers
from watchbill.pulse import Pulse
from watchbill.tracing import Tracing
from watchbill.workers.judging import open_judges


@asynccontextmanager
async def open_core(*, location: str = "", concurrent_probes: int = 100) -> AsyncIterator[Bus]:
    """A bus that answers ``RegisterCheck``, ``DeleteCheck`` and ``ExecuteChecks``. Runs on asyncio."""
    clock = Timeline(monotonic=time.monotonic, wall=lambda: time.time_ns() // 1000)
    registry: dict[str, Check] = {}
    begun = clock.now()
    pulse = Pulse(clock)
    async with (
        open_network() as network,
        open_judges() as judges,
        Kept(clock.now) as kept,
        anyio.create_task_group() as group,
    ):
        execute = make_execute(
            probers(network, clock.now, judges, lambda _: begun, kept),
            clock=clock,
            location=location,
            monotonic=clock.monotonic,
            limit=concurrent_probes,
            begin_trace=Tracing(os.urandom).begin,
        )
        group.start_soon(pulse.run, name="loop lag")
        bus = Bus(
            {
                RegisterCheck: partial(register_check, registry=registry, clock=clock, location=location),
                DeleteCheck: partial(delete_check, registry=registry, clock=clock, location=location),
                ExecuteChecks: partial(
                    execute_checks, registry=registry, execute=execute, stalls_since=pulse.stalls_since
                ),
            }
        )
        bus.subscribe(CheckRegistered, kept.on_registered)
        bus.subscribe(CheckDeleted, kept.on_deleted)
        yield bus
        group.cancel_scope.cancel()
