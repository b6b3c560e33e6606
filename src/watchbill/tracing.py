"""Which probe gets ids for a trace: those whose span is exported, and those that are to tell the target theirs."""

from __future__ import annotations

from watchbill.domain.checks import Check, Http
from watchbill.domain.messages import ConfigReloaded
from watchbill.domain.tracing import (
    SPAN_ID_BYTES,
    TRACE_ID_BYTES,
    TraceContext,
    is_sampled,
    least_sampled,
)
from watchbill.ports import RandomBytes


class Tracing:
    """Nothing is drawn for a probe that nobody will hear of."""

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._least: int | None = None

    def configured(self, event: ConfigReloaded) -> None:
        otlp = event.loaded.config.otlp
        share = otlp.traces.sample if otlp is not None else 0.0
        self._least = least_sampled(share) if share else None

    def begin(self, check: Check) -> TraceContext | None:
        least = self._least
        told = isinstance(check, Http) and check.traceparent
        if least is None and not told:
            return None
        drawn = self._random_bytes(TRACE_ID_BYTES + SPAN_ID_BYTES)
        trace_id = drawn[:TRACE_ID_BYTES]
        sampled = least is not None and is_sampled(trace_id, least)
        if not (sampled or told):
            return None
        return TraceContext(trace_id, drawn[TRACE_ID_BYTES:], sampled)
