"""One probe as a span (https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and its neighbours)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, SpanFlags, Status

from watchbill.domain.checks import Check, Dns, Heartbeat, Http, Icmp, Tcp, Tls, target_of
from watchbill.domain.reach import split_server, split_url
from watchbill.domain.redaction import redact
from watchbill.domain.results import Outcome, Result
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
    "address": "network.peer.address",
    "tls_cipher": "tls.cipher",
    "redirects": "watchbill.redirects",
    "rcode": "watchbill.dns.rcode",
    STALLED: "watchbill.stalled_seconds",
}
Attributes = Iterator[tuple[str, str | int | float]]


class SpanEncoder:
    """Remembers what is the same for every probe of a check."""

    def __init__(self) -> None:
        self._constant: dict[str, tuple[Check, bytes]] = {}

    def encode(self, result: Result, trace: Trace) -> bytes:
        """A field of a ``ScopeSpans``."""
        context = trace.context
        span = Span(
            trace_id=context.trace_id,
            span_id=context.span_id,
            flags=context.sampled | _HAS_IS_REMOTE,
            start_time_unix_nano=trace.started_at * NANOSECONDS,
            end_time_unix_nano=trace.ended_at * NANOSECONDS,
            attributes=[_attribute(name, value) for name, value in _found(result)],
            events=[Span.Event(name=name, time_unix_nano=at * NANOSECONDS) for name, at in trace.phases],
        )
        if (result.verdict or result.outcome) is not Outcome.SUCCESS:
            span.status.code = Status.STATUS_CODE_ERROR
            span.status.message = _text(result.message)
        constant = self._constant_of(trace.check, result.location)
        return nested(ScopeSpans.SPANS_FIELD_NUMBER, constant, span.SerializeToString())

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


def _found(result: Result) -> Attributes:
    """Of this probe; what a target said has been looked through for secrets already."""
    facts = result.facts
    yield "watchbill.outcome", result.outcome.value
    yield "watchbill.trigger", result.trigger.value
    if result.reason is not None:
        yield "error.type", result.reason.value
    if result.status_code is not None:
        yield "http.response.status_code", result.status_code
    if (version := facts.get("http_version")) is not None:
        yield "network.protocol.name", "http"
        yield "network.protocol.version", str(version)
    if (version := facts.get("tls_version")) is not None:
        yield "tls.protocol.version", str(version).removeprefix("TLSv")
    for fact, name in _FACTS.items():
        if isinstance(value := facts.get(fact), str | int | float):
            yield name, value


@lru_cache(maxsize=1024)
def _attribute(name: str, value: str | int | float) -> KeyValue:
    return attribute(name, _safe(value))


def _safe(value: str | int | float) -> str | int | float:
    """Strings of protobuf are UTF-8, and bounded here."""
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")
