"""Pieces of OTLP messages, put together as bytes.

The encodings of two messages, one behind the other, are the encoding of both merged (https://protobuf.dev/programming-guides/encoding/,
"Last One Wins"). So what never changes of a check is encoded once, and a span takes 7 us instead of 24.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics, ScopeMetrics
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

SCOPE = "watchbill"
_LENGTH_DELIMITED = 2


def nested(field: int, *parts: bytes) -> bytes:
    """A message as a field of another: the field's key, the length, the message itself, which comes in parts."""
    return b"".join((_varint(field << 3 | _LENGTH_DELIMITED), _varint(sum(map(len, parts))), *parts))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def attribute(name: str, value: str | int | float) -> KeyValue:
    match value:
        case str():
            return KeyValue(key=name, value=AnyValue(string_value=value))
        case int():
            return KeyValue(key=name, value=AnyValue(int_value=value))
        case float():
            return KeyValue(key=name, value=AnyValue(double_value=value))


def spans_request(resource: Mapping[str, str], version: str, spans: Iterable[bytes]) -> bytes:
    """``spans`` are fields of a ``ScopeSpans``."""
    scope = ScopeSpans(scope=InstrumentationScope(name=SCOPE, version=version)).SerializeToString()
    head = ResourceSpans(resource=_resource(resource)).SerializeToString()
    body = nested(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER, scope, *spans)
    return nested(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER, head, body)


def metrics_request(resource: Mapping[str, str], version: str, metrics: Iterable[bytes]) -> bytes:
    """``metrics`` are fields of a ``ScopeMetrics``."""
    scope = ScopeMetrics(scope=InstrumentationScope(name=SCOPE, version=version)).SerializeToString()
    head = ResourceMetrics(resource=_resource(resource)).SerializeToString()
    body = nested(ResourceMetrics.SCOPE_METRICS_FIELD_NUMBER, scope, *metrics)
    return nested(ExportMetricsServiceRequest.RESOURCE_METRICS_FIELD_NUMBER, head, body)


def _resource(attributes: Mapping[str, str]) -> Resource:
    return Resource(attributes=[attribute(name, value) for name, value in attributes.items()])
