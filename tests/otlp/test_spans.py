"""One probe as a span: its name, times, attributes and status, and no secret in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.metrics.states import START, declare, probe_of, refused
from tests.otlp.receiver import attributes
from watchbill.domain.checks import Check
from watchbill.domain.results import Failure, Reason, Result
from watchbill.domain.tracing import Trace, TraceContext
from watchbill.metrics import CHECK_FAMILIES
from watchbill.otlp.encoding import Encoding

CONTEXT = TraceContext(bytes(range(16)), bytes(range(1, 9)), sampled=True)
NAMES = [
    ("http", {}, "GET", Span.SPAN_KIND_CLIENT),
    ("http", {"method": "HEAD"}, "HEAD", Span.SPAN_KIND_CLIENT),
    ("http", {"method": "PURGE"}, "HTTP", Span.SPAN_KIND_CLIENT),
    ("tcp", {}, "tcp connect", Span.SPAN_KIND_CLIENT),
    ("tls", {}, "tls handshake", Span.SPAN_KIND_CLIENT),
    ("dns", {}, "dns SOA", Span.SPAN_KIND_CLIENT),
    ("icmp", {}, "icmp echo", Span.SPAN_KIND_CLIENT),
    ("heartbeat", {}, "heartbeat", Span.SPAN_KIND_INTERNAL),
]


def trace_of(check: Check) -> Trace:
    return Trace(
        CONTEXT, check, START + 10, 0.25, (("resolve", 0), ("connect", 0.00001), ("processing", 0.00002))
    )


def found(check: Check, *failures: Failure, **fields: Any) -> Result:
    return replace(probe_of(check, *failures, **fields).result, trace=trace_of(check))


def span_of(result: Result) -> Span:
    encoding = Encoding(CHECK_FAMILIES, {"service.name": "watchbill"}, "1.2.3")
    assert result.trace is not None
    spans = [encoding.span(result, result.trace)]
    request = ExportTraceServiceRequest.FromString(encoding.spans({"zone": "a"}, spans))
    resource = request.resource_spans[0]
    assert attributes(resource.resource.attributes) == {"service.name": "watchbill", "zone": "a"}
    assert (resource.scope_spans[0].scope.name, resource.scope_spans[0].scope.version) == (
        "watchbill",
        "1.2.3",
    )
    (span,) = resource.scope_spans[0].spans
    return span


@pytest.mark.parametrize(("kind", "fields", "name", "span_kind"), NAMES)
def test_a_span_is_named_by_what_is_done(
    kind: str, fields: dict[str, Any], name: str, span_kind: int
) -> None:
    span = span_of(found(declare(type=kind, **fields)))
    assert (span.name, span.kind) == (name, span_kind)


def test_ids_and_times_are_those_of_the_probe_and_phases_are_events() -> None:
    span = span_of(found(declare()))
    assert (span.trace_id, span.span_id, span.parent_span_id) == (CONTEXT.trace_id, CONTEXT.span_id, b"")
    assert span.flags & 0xFF == 1
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
        (START + 10) * 1000,
        (START + 250_010) * 1000,
    )
    assert [(event.name, event.time_unix_nano) for event in span.events] == [
        ("resolve", (START + 10) * 1000),
        ("connect", (START + 20) * 1000),
        ("processing", (START + 30) * 1000),
    ]


def test_attributes_follow_the_semantic_conventions() -> None:
    check = declare(url="https://shop.example:8443/cart?session=1#x", service="shop", labels={"env": "prod"})
    said = attributes(span_of(found(check)).attributes)
    assert said == {
        "watchbill.check": "shop", "watchbill.type": "http", "watchbill.service": "shop", "watchbill.label.env": "prod",
        "watchbill.outcome": "success", "watchbill.trigger": "schedule", "watchbill.redirects": 1,
        "http.request.method": "GET", "url.full": "https://shop.example:8443/cart", "http.response.status_code": 200,
        "server.address": "shop.example", "server.port": 8443, "network.peer.address": "192.0.2.7",
        "network.transport": "tcp", "network.protocol.name": "http", "network.protocol.version": "1.1",
        "tls.protocol.version": "1.3", "tls.cipher": "TLS_AES_256_GCM_SHA384",
    }  # fmt: skip


def test_an_unknown_method_is_none_of_those_that_are_counted() -> None:
    said = attributes(span_of(found(declare(method="PURGE"))).attributes)
    assert (said["http.request.method"], said["http.request.method_original"]) == ("_OTHER", "PURGE")
    hidden = declare(method="METHOD-CANARY", references={"method": "${METHOD}"})
    said = attributes(span_of(found(hidden)).attributes)
    assert (said["http.request.method"], said["http.request.method_original"]) == ("_OTHER", "${METHOD}")


def test_a_success_has_no_status_whatever_the_response_s() -> None:
    span = span_of(found(declare(expect={"status": 404}), status_code=404))
    assert span.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [(refused(), "failure"), (Failure(Reason.DESCRIPTORS, "no descriptor was left"), "error")],
)
def test_a_failure_says_why_and_whose_it_is(failure: Failure, outcome: str) -> None:
    span = span_of(found(declare(), failure))
    said = attributes(span.attributes)
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, failure.message)
    assert (said["error.type"], said["watchbill.outcome"]) == (failure.reason.value, outcome)


def test_what_was_taken_over_a_stall_says_so() -> None:
    facts = {**probe_of(declare()).result.facts, "stalled_seconds": 0.25}
    assert attributes(span_of(found(declare(), facts=facts)).attributes)["watchbill.stalled_seconds"] == 0.25


def test_no_secret_stands_in_a_span() -> None:
    secrets = ["pass-canary", "head-canary", "body-canary", "path-canary", "query-canary"]
    check = declare(
        url="https://user:pass-canary@shop.example/path-canary?q=query-canary",
        method="POST",
        headers={"Authorization": "head-canary"},
        body="body-canary",
        references={"url": "https://shop.example/${TOKEN}"},
        interpolated=["path-canary"],
    )
    span = span_of(found(check))
    assert attributes(span.attributes)["url.full"] == "https://shop.example/${TOKEN}"
    encoded = span.SerializeToString()
    assert [secret for secret in secrets if secret.encode() in encoded] == []


def test_text_that_is_no_utf_8_is_made_some() -> None:
    span = span_of(found(declare(), Failure(Reason.BODY, "half a character: \ud800" + "x" * 2000)))
    assert span.status.message.startswith("half a character: ?")
    assert len(span.status.message) == 1000
