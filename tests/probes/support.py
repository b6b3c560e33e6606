"""One probe of one declared check over a network, as the application runs it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from watchbill.domain.checks import parse_check
from watchbill.domain.results import Reason, Result
from watchbill.domain.units import Instant
from watchbill.net import open_network
from watchbill.ports import Network
from watchbill.probes import Kept, probers
from watchbill.probes.execute import Executor
from watchbill.testing import ManualClock, judge_inline

T = TypeVar("T")

BOTH_LOOPS = [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})]
"""The fixture ``anyio_backend`` of what must hold on both event loops."""
LOOP_NAMES = ["asyncio", "uvloop"]


def wall() -> Instant:
    return time.time_ns() // 1000


class Prober:
    """Runs checks. ``judged_aside``: how often something was judged off the loop, which takes ``judging_takes`` seconds."""

    def __init__(
        self, network: Network, *, now: Callable[[], Instant] = wall, names: Mapping[str, str] | None = None
    ) -> None:
        self.judged_aside = 0
        self.judging_takes = 0.0
        self.kept = Kept(now)
        self.executor = Executor(
            probers(_Named(network, names or {}), now, self._judge, lambda _: 0, self.kept),
            clock=ManualClock(instant=wall()),
            monotonic=time.perf_counter,
        )

    async def __call__(self, check_type: str, **declared: Any) -> Result:
        return await self.executor.execute(parse_check({"id": "probed", "type": check_type, **declared}))

    async def _judge(self, function: Callable[..., T], content: Sequence[bytes], *arguments: Any) -> T:
        self.judged_aside += 1
        await anyio.sleep(self.judging_takes)
        return await judge_inline(function, content, *arguments)


class _Named:
    """A network with names of its own in front of another's."""

    def __init__(self, network: Network, names: Mapping[str, str]) -> None:
        self._network = network
        self._names = names

    async def resolve(self, host: str, family: Any = None) -> str:
        return self._names.get(host) or await self._network.resolve(host, family)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


@asynccontextmanager
async def open_prober(names: Mapping[str, str] | None = None) -> AsyncIterator[Prober]:
    async with open_network() as network:
        prober = Prober(network, names=names)
        async with prober.kept:
            yield prober


def told(result: Result) -> list[tuple[Reason, str]]:
    """Every failure as reason and text, in the order in which they are shown."""
    return [(failure.reason, failure.message) for failure in result.failures]
