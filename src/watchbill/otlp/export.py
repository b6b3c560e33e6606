"""What is sent to the receiver when: spans as they come, metrics at an interval, all that is left at the end.

Nothing here can hold up a probe. Spans are encoded some dozens at a time (a third of a millisecond) and put into a bounded queue; what takes
longer is done in slices between which slots go first, packing in a thread, and waiting in two tasks of their own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskStatus

from watchbill.board import CheckState
from watchbill.clock import Clock
from watchbill.domain.messages import CheckDeleted, ConfigReloaded, ProbeEvent
from watchbill.domain.otlp import OtlpOptions
from watchbill.domain.results import Result
from watchbill.otlp.courier import Courier
from watchbill.otlp.names import Described
from watchbill.otlp.queue import SpanQueue
from watchbill.otlp.tally import OtlpStatistics, Signal, Tally
from watchbill.ports import HttpClient, Offload, RandomBytes
from watchbill.readings import Read

if TYPE_CHECKING:
    from watchbill.otlp.encoding import Encoding
    from watchbill.otlp.points import Points

LINGER_SECONDS = 5.0
"""How long a span waits for others; no longer than metrics do."""
SPAN_PATIENCE_SECONDS = 300.0
"""So long a batch of spans is tried, then the next."""
REQUEST_BYTES = 1 << 20
"""Of metrics in one request, before it is packed."""
SLICE_SECONDS = 0.001
PAUSE_SECONDS = 0.005
PATIENCE_SECONDS = 2.0
"""So long an export of metrics lets late slots go first."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What an export needs of the application. ``families``: of a check; ``attributes``: of the resource."""

    http: HttpClient
    clock: Clock
    offload: Offload
    random_bytes: RandomBytes
    checks: Mapping[str, CheckState]
    families: Sequence[Described]
    read: Read
    slots_are_late: Callable[[], bool]
    attributes: Mapping[str, str]
    version: str


class Export:
    """Idle until ``otlp:`` is declared; a reload changes or ends what it does, and loses no span by that."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tally = Tally()
        self._queue = SpanQueue(self._encode)
        self._options: OtlpOptions | None = None
        self._encoding: Encoding | None = None
        self._closing = False
        self._stirred = anyio.Event()
        self._ended = anyio.Event()
        self._courier = Courier(parts.http, parts.clock, parts.offload, parts.random_bytes, self._tally)
        self._tasks = anyio.CancelScope()

    # --- subscribers ----------------------------------------------------------------------------------

    def probed(self, event: ProbeEvent) -> None:
        if event.result.trace is None or self._encoding is None:
            return
        self._count_dropped(self._queue.put(event.result))

    def _count_dropped(self, count: int) -> None:
        if count:
            self._tally.drop("traces", "queue_full", count)

    def _encode(self, result: Result) -> bytes:
        assert self._encoding is not None  # noqa: S101 - nothing is put into the queue without
        assert result.trace is not None  # noqa: S101 - as little
        try:
            return self._encoding.span(result, result.trace)
        except Exception:  # the border: one span must not take those beside it along
            log.exception("otlp.crashed", signal="traces")
            self._tally.drop("traces", "internal", 1)
            return b""

    def deleted(self, event: CheckDeleted) -> None:
        if self._encoding is not None:
            # Encoded later, its last spans would have it remembered for good.
            self._count_dropped(self._queue.settle())
            self._encoding.forget(event.check.id)

    async def configured(self, event: ConfigReloaded) -> None:
        options = event.loaded.config.otlp
        if options == self._options:
            return
        if options is not None and self._encoding is None:
            self._encoding = await self._parts.offload(_load_encoding, self._parts)
        self._options = options
        self._courier.use(options)
        self._stir()

    # --- tasks ----------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Until :meth:`drain` has ended it."""
        task_status.started()
        with self._tasks:
            async with anyio.create_task_group() as group:
                group.start_soon(self._export_spans, name="otlp traces")
                group.start_soon(self._export_metrics, name="otlp metrics")
        self._ended.set()

    async def drain(self, seconds: float) -> None:
        """Send what is left, for so long; what is left then is given up."""
        self._closing = True
        self._courier.hurry()
        self._queue.close()
        self._stir()
        with anyio.move_on_after(seconds):
            await self._ended.wait()
        left: dict[Signal, int] = {"traces": self._pending(), "metrics": self._courier.carried["metrics"]}
        self._tasks.cancel()
        for signal, count in left.items():
            if count:
                self._tally.drop(signal, "stopped", count)
                log.warning("otlp.dropped", signal=signal, count=count, reason="stopped")

    def statistics(self) -> OtlpStatistics | None:
        """``None`` where nothing is, or ever was, exported."""
        if self._encoding is None:
            return None
        return self._tally.statistics(pending=self._pending())

    def _pending(self) -> int:
        return len(self._queue) + self._courier.carried["traces"]

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = anyio.Event()

    # --- spans ----------------------------------------------------------------------------------------

    async def _export_spans(self) -> None:
        while len(self._queue) or not self._closing:
            await self._queue.ready(self._linger_seconds())
            spans, encoding = self._queue.take(), self._encoding
            if spans and encoding is not None:
                await self._courier.carry(
                    "traces",
                    len(spans),
                    lambda options: encoding.spans(options.resource, spans),  # noqa: B023 - used within this turn
                    patience_seconds=SPAN_PATIENCE_SECONDS,
                )

    def _linger_seconds(self) -> float:
        if self._options is None:
            return 0.0
        return min(LINGER_SECONDS, self._options.interval.total_seconds())

    # --- metrics --------------------------------------------------------------------------------------

    async def _export_metrics(self) -> None:
        """At every interval, and once more at the end."""
        while not self._closing:
            options = self._options
            if options is None or not options.metrics:
                await self._stirred.wait()
                continue
            with anyio.move_on_after(options.interval.total_seconds()) as waiting:
                await self._stirred.wait()
            if waiting.cancelled_caught:
                await self._export_readings(options)
        if self._options is not None and self._options.metrics:
            await self._export_readings(self._options)

    async def _export_readings(self, options: OtlpOptions) -> None:
        """All checks, in as many requests as it takes. Where one cannot be delivered the others wait for the next time:
        sums go on, so nothing is lost by that but resolution."""
        encoding, patience = self._encoding, options.interval.total_seconds()
        assert encoding is not None  # noqa: S101 - it is there since there were options
        begun = self._parts.clock.monotonic()
        try:
            async with aclosing(self._collected(encoding)) as loads:
                async for points in loads:
                    delivered = await self._courier.carry(
                        "metrics",
                        points.count,
                        lambda options: encoding.metrics(options.resource, points),  # noqa: B023 - used within this turn
                        patience_seconds=begun + patience - self._parts.clock.monotonic(),
                    )
                    if not delivered:
                        return
        except Exception:  # the border: as in the courier
            log.exception("otlp.crashed", signal="metrics")
            self._tally.drop("metrics", "internal", 1)

    async def _collected(self, encoding: Encoding) -> AsyncGenerator[Points, None]:
        """The points of all checks, as many at a time as a request should hold."""
        parts, points = self._parts, encoding.points()
        patience = parts.clock.monotonic() + PATIENCE_SECONDS
        slice_ends = parts.clock.monotonic() + SLICE_SECONDS
        for check_id in list(parts.checks):
            state = parts.checks.get(check_id)
            if state is None:
                continue  # deleted meanwhile
            now = parts.clock.now()
            encoding.add(points, parts.read(state, now), now)
            if points.size >= REQUEST_BYTES:
                yield points
                points = encoding.points()
            if parts.clock.monotonic() >= slice_ends:
                await self._make_way(patience)
                slice_ends = parts.clock.monotonic() + SLICE_SECONDS
        if points.count:
            yield points

    async def _make_way(self, patience: float) -> None:
        await anyio.lowlevel.checkpoint()
        while self._parts.slots_are_late() and self._parts.clock.monotonic() < patience:
            await anyio.sleep(PAUSE_SECONDS)


def _load_encoding(parts: Parts) -> Encoding:
    from watchbill.otlp.encoding import Encoding  # noqa: PLC0415 - see there

    return Encoding(parts.families, parts.attributes, parts.version)
