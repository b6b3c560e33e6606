"""What the receiver's answers say, in protobuf."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from watchbill.otlp.tally import Signal


def partial(signal: Signal, body: bytes) -> tuple[int, str]:
    """How many of what was sent the receiver rejected, and why; none where it does not say."""
    try:
        if signal == "traces":
            spans = ExportTraceServiceResponse.FromString(body).partial_success
            return spans.rejected_spans, spans.error_message
        points = ExportMetricsServiceResponse.FromString(body).partial_success
    except DecodeError:
        return 0, ""
    return points.rejected_data_points, points.error_message


def status_message(body: bytes) -> str:
    """Of a ``google.rpc.Status``, whose message is where that of a span's status is; its other fields are unknown there."""
    try:
        return Status.FromString(body).message
    except DecodeError:
        return ""
