"""One probe as a span (https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and its neighbours)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from struct import Struct

from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, SpanFlags, Status

from watchbill.domain.checks import Check, Dns, Heartbeat, Http, Icmp, Tcp, Tls, target_of
from watchbill.domain.reach import split_server, split_url
from watchbill.domain.redaction import redact
from watchbill.domain.results import Outcome, Reason, Result, Trigger
from watchbill.domain.specs import redactions
from watchbill.domain.stalls import STALLED
from watchbill.domain.tracing import Trace
from watchbill.otlp.wire import attribute, nested

NANOSECONDS = 1000
"""In a microsecond, which is what instants are counted in."""
LONGEST_TEXT = 1000
METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"})
_HAS_IS_REMOTE = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_FACTS = {
    "http_version": "network.protocol.version",
    "tls_version": "tls.protocol.version",
    "address": "network.peer.address",
    "tls_cipher": "tls.cipher",
    "redirects": "watchbill.redirects",
    "rcode": "watchbill.dns.rcode",
    STALLED: "watchbill.stalled_seconds",
}
_event_end = Struct("<BQ").pack
_EVENT_TIME = Span.Event.TIME_UNIX_NANO_FIELD_NUMBER << 3 | 1
"""The key of a field of eight bytes."""
Attributes = Iterator[tuple[str, str | int | float]]


class SpanEncoder:
    """Remembers what is the same for every probe of a check."""

    def __init__(self) -> None:
        self._constant: dict[str, tuple[Check, bytes]] = {}

    def encode(self, result: Result, trace: Trace) -> bytes:
        """A field of a ``ScopeSpans``."""
        context, began = trace.context, trace.started_at * NANOSECONDS
        span = Span(
            trace_id=context.trace_id,
            span_id=context.span_id,
            flags=context.sampled | _HAS_IS_REMOTE,
            start_time_unix_nano=began,
            end_time_unix_nano=began + int(trace.seconds * 1e9),
        )
        if (result.verdict or result.outcome) is not Outcome.SUCCESS:
            span.status.code = Status.STATUS_CODE_ERROR
            span.status.message = _text(result.message)
        return nested(
            ScopeSpans.SPANS_FIELD_NUMBER,
            self._constant_of(trace.check, result.location),
            span.SerializeToString(),
            _found(result),
            *[
                _event_head(name) + _event_end(_EVENT_TIME, began + int(after * 1e9))
                for name, after in trace.phases
            ],
        )

    def forget(self, check_id: str) -> None:
        self._constant.pop(check_id, None)

    def _constant_of(self, check: Check, location: str) -> bytes:
        known = self._constant.get(check.id)
        if known is not None and known[0] is check:
            return known[1]
        kind = Span.SPAN_KIND_INTERNAL if isinstance(check, Heartbeat) else Span.SPAN_KIND_CLIENT
        attributes = [attribute(name, _safe(value)) for name, value in _declared(check, location)]
        encoded = Span(name=name_of(check), kind=kind, attributes=attributes).SerializeToString()
        self._constant[check.id] = check, encoded
        return encoded


def name_of(check: Check) -> str:
    """By what is done, never to whom: names have few values, attributes have many."""
    match check:
        case Http():
            return _method(check)
        case Dns():
            return f"dns {check.record}"
        case Tcp():
            return "tcp connect"
        case Tls():
            return "tls handshake"
        case Icmp():
            return "icmp echo"
        case Heartbeat():
            return "heartbeat"


def _method(check: Http) -> str:
    # An unknown method would make names without end (semantic conventions of HTTP).
    return check.method if check.method in METHODS and "method" not in check.references else "HTTP"


# --- attributes ---------------------------------------------------------------------------------------


def _declared(check: Check, location: str) -> Attributes:
    target = redact(target_of(check), redactions(check))
    yield "watchbill.check", check.id
    yield "watchbill.type", check.type
    yield ("url.full" if isinstance(check, Http) else "watchbill.target"), target
    if check.service:
        yield "watchbill.service", check.service
    if location:
        yield "watchbill.location", location
    for name, value in check.labels.items():
        yield f"watchbill.label.{name}", value
    match check:
        case Http():
            known = _method(check)
            yield "http.request.method", known if known in METHODS else "_OTHER"
            if known not in METHODS:
                yield "http.request.method_original", check.references.get("method", check.method)
        case Dns():
            yield "dns.question.name", redact(check.references.get("name", check.name), redactions(check))
            yield "watchbill.dns.record", check.record
    if transport := _transport(check):
        yield "network.transport", transport
    host, port = _server(check)
    if host:
        yield "server.address", redact(host, redactions(check))
    if host and port:
        yield "server.port", port


def _transport(check: Check) -> str:
    match check:
        case Http() | Tcp():
            return "unix" if check.unix_socket is not None else "tcp"
        case Tls():
            return "tcp"
        case Dns():
            return "udp" if check.transport == "udp" else "tcp"
        case Icmp() | Heartbeat():
            return ""


def _server(check: Check) -> tuple[str, int | None]:
    """Whom the check names, where no reference stands in it: that may be a secret."""
    hidden = check.references
    match check:
        case Http() if "url" not in hidden and check.unix_socket is None:
            return _place(check.url)
        case Tcp() | Tls() if not {"host", "port"} & hidden.keys():
            return check.host or "", check.port
        case Icmp() if "host" not in hidden:
            return check.host, None
        case Dns() if check.server is not None and "server" not in hidden:
            return _place(check.server) if "://" in check.server else split_server(check.server)
        case _:
            return "", None


def _place(url: str) -> tuple[str, int | None]:
    parts = split_url(url)
    return parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _found(result: Result) -> bytes:
    """The attributes of this probe; what a target said has been looked through for secrets already."""
    facts = tuple(map(result.facts.get, _FACTS))
    return _encoded(result.outcome, result.trigger, result.reason, result.status_code, facts)


@lru_cache(maxsize=4096)  # mostly it is as with the probe before
def _encoded(
    outcome: Outcome, trigger: Trigger, reason: Reason | None, status: int | None, facts: tuple[object, ...]
) -> bytes:
    pairs: list[tuple[str, str | int | float]] = [
        ("watchbill.outcome", outcome.value),
        ("watchbill.trigger", trigger.value),
    ]
    if reason is not None:
        pairs.append(("error.type", reason.value))
    if status is not None:
        pairs.append(("http.response.status_code", status))
    for name, value in zip(_FACTS.values(), facts, strict=True):
        if name == "network.protocol.version" and value is not None:
            pairs += [("network.protocol.name", "http"), (name, str(value))]
        elif name == "tls.protocol.version" and value is not None:
            pairs.append((name, str(value).removeprefix("TLSv")))
        elif isinstance(value, str | int | float):
            pairs.append((name, _safe(value)))
    return Span(attributes=[attribute(name, value) for name, value in pairs]).SerializeToString()


@lru_cache(maxsize=64)
def _event_head(name: str) -> bytes:
    """An event up to its time, which comes last and always takes as many bytes."""
    end = _event_end(_EVENT_TIME, 0)
    return nested(Span.EVENTS_FIELD_NUMBER, Span.Event(name=name).SerializeToString(), end)[: -len(end)]


def _safe(value: str | int | float) -> str | int | float:
    """Strings of protobuf are UTF-8, and bounded here."""
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")
