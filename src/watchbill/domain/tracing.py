"""What identifies one probe in a trace, and when it did what (W3C Trace Context, OpenTelemetry)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from watchbill.domain.units import Instant

if TYPE_CHECKING:
    from watchbill.domain.checks import Check
    from watchbill.domain.results import Phase

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8
_JUDGED_BYTES = 7
_CEILING = 1 << 8 * _JUDGED_BYTES


class TraceContext(NamedTuple):
    """Random ids of one probe. ``sampled``: its span is exported, and who is probed may know."""

    trace_id: bytes
    span_id: bytes
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The header's value (https://www.w3.org/TR/trace-context/ §3.2)."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{self.sampled:02x}"


class Trace(NamedTuple):
    """One sampled probe on the wall clock, of the revision of its check that was probed.

    ``seconds``: how long it took, which is more than its duration where that is the mean of several operations.
    ``phases``: what began how many seconds after the start, in order, once a hop.
    """

    context: TraceContext
    check: Check
    started_at: Instant
    seconds: float
    phases: tuple[tuple[Phase, float], ...]


def least_sampled(percent: float) -> int:
    """What :func:`is_sampled` asks for so that this share of random trace ids has it."""
    return _CEILING - round(_CEILING * percent / 100)


def is_sampled(trace_id: bytes, least: int) -> bool:
    """By the last 56 bits, which others sample by, too, so that samplers of one ratio agree on a trace
    (https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/)."""
    return int.from_bytes(trace_id[-_JUDGED_BYTES:], "big") >= least
