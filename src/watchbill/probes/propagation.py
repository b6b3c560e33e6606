"""The ``traceparent`` header (W3C Trace Context) on the requests of a probe.

A probe is one span, so every request of it, each hop of a redirect too, names that span as its parent. The header holds
nothing but random numbers, so a stranger may see it.
"""

from __future__ import annotations

from dataclasses import replace

from watchbill.domain.checks import Http
from watchbill.probes.attempt import Attempt
from watchbill.probes.transport import Outgoing

Field = tuple[bytes, bytes]
_END_OF_HEAD = b"\r\n\r\n"


def traceparent(check: Http, attempt: Attempt) -> Field | None:
    """What the check's requests say of this probe, if they are to; a fact of the probe, then, too."""
    if not check.traceparent or attempt.context is None:
        return None
    attempt.facts["trace_id"] = attempt.context.trace_id.hex()
    return b"traceparent", attempt.context.traceparent.encode("ascii")


def with_field(outgoing: Outgoing, field: Field) -> Outgoing:
    """The same request with one more header, the last of its head."""
    head, end, body = outgoing.wire.partition(_END_OF_HEAD)
    return replace(outgoing, wire=b"%s\r\n%s: %s%s%s" % (head, *field, end, body))
