"""One probe from start to verdict: the deadline, the duration, and the table from exceptions to reasons.

A prober says what it saw; here stands what holds for all of them. A target that is down is a result, so nothing
leaves this module as an exception except cancellation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
import structlog

from watchbill.clock import Clock
from watchbill.domain.checks import Check, Icmp
from watchbill.domain.expectations import latency_failures
from watchbill.domain.results import Failure, Phase, Reason, Result, Trigger, by_precedence, outcome_of
from watchbill.domain.tracing import Trace, TraceContext
from watchbill.domain.units import SECOND, Instant, format_duration
from watchbill.ports import Execute, NetworkError, WayLost
from watchbill.probes import doubts
from watchbill.probes.attempt import Attempt, PhaseClock, Prober
from watchbill.probes.prepared import PerCheck
from watchbill.probes.shown import Screen, presentable

MOST_FAILURES = 20

BeginTrace: TypeAlias = Callable[[Check], TraceContext | None]
"""The ids of a probe that begins, if it is part of a trace."""

log = structlog.get_logger()

_DOING: dict[Phase | None, str] = {
    None: "",
    "resolve": " while resolving the name",
    "connect": " while connecting",
    "tls": " during the TLS handshake",
    "processing": " while waiting for the response",
    "transfer": " while receiving the response",
}


@dataclass(slots=True)
class ExecutorStatistics:
    """``crashes``: probers that raised what no table knows, by check type."""

    crashes: dict[str, int] = field(default_factory=dict)


class Executor:
    """Runs probers under their deadlines. ``execute`` is the port's :data:`~watchbill.ports.Execute`."""

    def __init__(
        self,
        probers: Mapping[str, Prober],
        *,
        clock: Clock,
        monotonic: Callable[[], float],
        location: str = "",
        limit: int | anyio.CapacityLimiter | None = None,
        way_lost: WayLost = lambda _address, _source: None,
        begin_trace: BeginTrace = lambda _check: None,
    ) -> None:
        self._way_lost = way_lost
        self._begin_trace = begin_trace
        self._probers = probers
        self._clock = clock
        self._monotonic = monotonic
        self._location = location
        self._limiter = anyio.CapacityLimiter(limit) if isinstance(limit, int) else limit
        self._screens = PerCheck(Screen)
        self._statistics = ExecutorStatistics()

    async def execute(
        self, check: Check, slot: Instant | None = None, trigger: Trigger = Trigger.SCHEDULE
    ) -> Result:
        """Probe once. The deadline starts with the probe, not with the waiting for capacity."""
        if self._limiter is None:
            return await self._probe(check, slot, trigger)
        async with self._limiter:
            return await self._probe(check, slot, trigger)

    async def _probe(self, check: Check, slot: Instant | None, trigger: Trigger) -> Result:
        started_at = self._clock.now()
        context = self._begin_trace(check)
        marks: list[tuple[Phase, float]] | None = [] if context is not None and context.sampled else None
        attempt = Attempt(PhaseClock(self._monotonic, marks), context)
        with anyio.move_on_after(check.timeout.total_seconds()) as deadline:
            await self._run(check, attempt)
        if deadline.cancelled_caught:
            attempt.failures.append(_overdue(check, attempt.phases.phase))
        duration = attempt.phases.stop()
        own_side = doubts.own_side(check, attempt, self._way_lost) if attempt.failures else None
        if own_side is not None:
            attempt.failures = [own_side]
        failures, facts = self._told(check, attempt)
        return Result(
            check_id=check.id,
            location=self._location,
            slot=started_at if slot is None else slot,
            trigger=trigger,
            started_at=started_at,
            duration_seconds=duration,
            outcome=outcome_of(failures),
            failures=failures,
            phases=attempt.phases.seconds,
            status_code=attempt.status_code,
            facts=facts,
            trace=None if context is None or marks is None else self._trace(check, attempt, context, marks),
        )

    def _trace(
        self, check: Check, attempt: Attempt, context: TraceContext, marks: list[tuple[Phase, float]]
    ) -> Trace:
        """What was seen on the monotonic clock, by where that is on the wall clock now."""
        began, ended = attempt.phases.started, attempt.phases.ended
        started_at = self._clock.now() - round((self._monotonic() - began) * SECOND)
        phases = tuple([(phase, seen - began) for phase, seen in marks])
        return Trace(context, check, started_at, ended - began, phases)

    def statistics(self) -> ExecutorStatistics:
        return ExecutorStatistics(dict(self._statistics.crashes))

    async def _run(self, check: Check, attempt: Attempt) -> None:
        try:
            await self._probers[check.type](check, attempt)
            _judge_latency(check, attempt)
        except NetworkError as error:
            attempt.fail(error.reason, error.message)
        except Exception as error:  # the border: one broken prober must not end its siblings
            crashes = self._statistics.crashes
            crashes[check.type] = crashes.get(check.type, 0) + 1
            log.exception("probe.crashed", check=check.id, type=check.type)
            attempt.fail(
                Reason.INTERNAL, f"the {check.type} prober crashed with {type(error).__name__}; see the log"
            )

    def _told(self, check: Check, attempt: Attempt) -> tuple[tuple[Failure, ...], dict[str, Any]]:
        """Failures and facts, fit to be shown."""
        screen = self._screens.of(check)
        failures = tuple(
            Failure(failure.reason, presentable(failure.message, screen.secrets))
            for failure in by_precedence(tuple(attempt.failures))[:MOST_FAILURES]
        )
        screen.show(attempt.facts)
        return failures, attempt.facts


def make_execute(
    probers: Mapping[str, Prober],
    *,
    clock: Clock,
    monotonic: Callable[[], float],
    location: str = "",
    limit: int | anyio.CapacityLimiter | None = None,
    way_lost: WayLost = lambda _address, _source: None,
    begin_trace: BeginTrace = lambda _check: None,
) -> Execute:
    return Executor(
        probers,
        clock=clock,
        monotonic=monotonic,
        location=location,
        limit=limit,
        way_lost=way_lost,
        begin_trace=begin_trace,
    ).execute


def _judge_latency(check: Check, attempt: Attempt) -> None:
    """Of the whole duration, for every type but icmp, whose latency is the round trip of its packets."""
    if isinstance(check, Icmp):
        return
    limit = getattr(getattr(check, "expect", None), "latency", None)
    if limit is not None:
        attempt.failures += latency_failures(limit, attempt.phases.stop())


def _overdue(check: Check, phase: Phase | None) -> Failure:
    reason = Reason.CONNECT_TIMEOUT if phase == "connect" else Reason.TIMEOUT
    return Failure(reason, f"timed out after {format_duration(check.timeout)}{_DOING.get(phase, '')}")
