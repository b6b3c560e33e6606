"""One probe in the making: what a prober fills in while it goes.

A prober that is cut short by its deadline has already said what it saw, so the phases and facts of a failing
probe are kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from watchbill.domain.results import Failure, Phase, Reason
from watchbill.domain.tracing import TraceContext


class PhaseClock:
    """Cuts one stretch of time into phases that add up to it.

    Every instant belongs to exactly one phase: starting one ends the one before. Time begins with the first
    phase, so that what a prober prepares is not measured; one that judges stops the clock first. A phase
    entered again (the next hop of a redirect) adds up. ``now`` is monotonic, in seconds. ``marks``: where to note
    each phase and when it began.
    """

    def __init__(self, now: Callable[[], float], marks: list[tuple[Phase, float]] | None = None) -> None:
        self._now = now
        self._marks = marks
        self._phase: Phase | None = None
        self._stopped: float | None = None
        self._since = self.started = self.ended = now()
        self.seconds: dict[Phase, float] = {}

    @property
    def phase(self) -> Phase | None:
        """The phase that is going on."""
        return self._phase

    def start(self, phase: Phase) -> None:
        now = self._now()
        if self._phase is not None:
            self._close(now)
        elif not self.seconds:
            self.started = self._since = now
        self._phase = phase
        self._stopped = None
        if self._marks is not None:
            self._marks.append((phase, now))

    def stop(self) -> float:
        """End the last phase; the seconds from the first start to the first stop after the last start."""
        if self._stopped is None:
            now = self._now()
            if self._phase is not None:
                self._close(now)
            self._phase = None
            self.ended = now
            self._stopped = now - self.started
        return self._stopped

    def settle(self, phase: Phase, seconds: float) -> None:
        """After ``stop``: count a phase as that long, whatever passed meanwhile; the total follows.

        For a probe of several operations, whose duration is the mean of theirs.
        """
        self._stopped = self.stop() + seconds - self.seconds[phase]
        self.seconds[phase] = seconds

    def _close(self, now: float) -> None:
        assert self._phase is not None  # noqa: S101 - only a running phase is closed
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._since = now


@dataclass(slots=True)
class Attempt:
    """What one probe has found so far. No failure means success. ``context``: its ids, where anybody hears of them."""

    phases: PhaseClock
    context: TraceContext | None = None
    failures: list[Failure] = field(default_factory=list)
    status_code: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def fail(self, reason: Reason, message: str) -> None:
        self.failures.append(Failure(reason, message))


Prober: TypeAlias = Callable[[Any, Attempt], Awaitable[None]]
"""Probe a check of one type. Fills the attempt; may raise NetworkError or any foreign exception that the table
of reasons knows. Has no deadline of its own: it is cancelled."""
