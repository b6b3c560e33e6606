"""The core as a library: a bus that registers and executes checks, over the real network.

No schedule, no history, no metrics: subscribe to events for what you want of them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio.to_thread

from watchbill.bus import Bus
from watchbill.clock import Timeline
from watchbill.domain.checks import Check
from watchbill.domain.messages import DeleteCheck, ExecuteChecks, RegisterCheck
from watchbill.handlers import delete_check, execute_checks, register_check
from watchbill.net import open_network
from watchbill.ports import Offload
from watchbill.probes import make_execute, probers


@asynccontextmanager
async def open_core(*, location: str = "", concurrent_probes: int = 100) -> AsyncIterator[Bus]:
    """A bus that answers ``RegisterCheck``, ``DeleteCheck`` and ``ExecuteChecks``. Runs on asyncio."""
    clock = Timeline(monotonic=lambda: time.monotonic_ns() // 1000, wall=lambda: time.time_ns() // 1000)
    offload: Offload = anyio.to_thread.run_sync
    registry: dict[str, Check] = {}
    begun = clock.now()
    async with open_network() as network:
        execute = make_execute(
            probers(network, clock.now, offload, lambda _: begun),
            clock=clock,
            location=location,
            monotonic=clock.monotonic,
            limit=concurrent_probes,
        )
        yield Bus(
            {
                RegisterCheck: partial(register_check, registry=registry, clock=clock, location=location),
                DeleteCheck: partial(delete_check, registry=registry, clock=clock, location=location),
                ExecuteChecks: partial(execute_checks, registry=registry, execute=execute),
            }
        )
