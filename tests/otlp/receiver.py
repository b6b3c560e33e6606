"""A receiver of OTLP over HTTP on loopback, true to the protocol: it takes nothing that a real one would refuse."""

from __future__ import annotations

import gzip
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PROTOBUF = "application/x-protobuf"
HANG_GUARD_SECONDS = 30.0


@dataclass(frozen=True)
class Reply:
    """What is answered; ``taken``: whether what was sent is kept. ``hangs``: nothing is answered at all."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False

    @property
    def taken(self) -> bool:
        return self.status == 200 and not self.hangs


@dataclass
class Received:
    """One request: its path, its headers in lower case, its size on the wire, and what it held."""

    path: str
    headers: Mapping[str, str]
    size: int
    message: ExportTraceServiceRequest | ExportMetricsServiceRequest


@dataclass
class Receiver:
    """``replies`` are given one after the other, by path, then 200. ``refused``: requests that break the protocol."""

    port: int = 0
    requests: list[Received] = field(default_factory=list)
    taken: list[Received] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    replies: dict[str, deque[Reply]] = field(default_factory=dict)
    otherwise: Reply | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, path: str, *replies: Reply) -> None:
        self.replies.setdefault(path, deque()).extend(replies)

    def spans(self) -> list[Span]:
        """All that were taken, each request's in its order."""
        with self.changed:
            return [
                span
                for request in self.taken
                if isinstance(request.message, ExportTraceServiceRequest)
                for resource in request.message.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]

    def metrics(self) -> list[Metric]:
        """Of the last request with metrics that was taken."""
        with self.changed:
            messages = [
                one.message for one in self.taken if isinstance(one.message, ExportMetricsServiceRequest)
            ]
        if not messages:
            return []
        return [
            metric
            for resource in messages[-1].resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def until(self, condition: str, holds: Callable[[], Any]) -> Any:
        with self.changed:
            found = self.changed.wait_for(holds, HANG_GUARD_SECONDS)
        assert found, f"never happened: {condition}; refused: {self.refused}"
        return found


def attributes(pairs: Any) -> dict[str, Any]:
    """Attributes as a mapping; the test fails where one stands there twice, which OTLP forbids."""
    found: dict[str, Any] = {}
    for pair in pairs:
        assert isinstance(pair, KeyValue)
        assert pair.key not in found, f"attribute {pair.key} stands there twice"
        found[pair.key] = getattr(pair.value, str(pair.value.WhichOneof("value")))
    return found


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            with suppress(ConnectionError):
                _receive(receiver, self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _receive(receiver: Receiver, handler: BaseHTTPRequestHandler) -> None:
    body = handler.rfile.read(int(handler.headers["Content-Length"]))
    headers = {name.lower(): value for name, value in handler.headers.items()}
    try:
        received = Received(handler.path, headers, len(body), _decoded(handler.path, headers, body))
    except ValueError as error:
        with receiver.changed:
            receiver.refused.append(str(error))
            receiver.changed.notify_all()
        _reply(handler, Reply(400))
        return
    with receiver.changed:
        replies = receiver.replies.get(handler.path)
        reply = replies.popleft() if replies else receiver.otherwise or _success(handler.path)
        receiver.requests.append(received)
        if reply.taken:
            receiver.taken.append(received)
        receiver.changed.notify_all()
    if reply.hangs:
        receiver.released.wait(HANG_GUARD_SECONDS)
    else:
        _reply(handler, reply)


def _decoded(
    path: str, headers: Mapping[str, str], body: bytes
) -> ExportTraceServiceRequest | ExportMetricsServiceRequest:
    if headers.get("content-type") != PROTOBUF:
        raise ValueError(f"content type {headers.get('content-type')}")
    if (coding := headers.get("content-encoding", "identity")) == "gzip":
        body = gzip.decompress(body)
    elif coding != "identity":
        raise ValueError(f"content encoding {coding}")
    if path.endswith("/v1/traces"):
        traces = ExportTraceServiceRequest.FromString(body)
        _no_unknown(traces)
        return traces
    if path.endswith("/v1/metrics"):
        metrics = ExportMetricsServiceRequest.FromString(body)
        _no_unknown(metrics)
        return metrics
    raise ValueError(f"path {path}")


def _no_unknown(message: Any) -> None:
    """A field that the schema does not know was put at the wrong place."""
    from google.protobuf import unknown_fields  # noqa: PLC0415 - here alone

    if len(unknown_fields.UnknownFieldSet(message)):
        raise ValueError(f"{type(message).__name__} has fields that nobody knows")
    for field_, value in message.ListFields():
        if field_.type != field_.TYPE_MESSAGE:
            continue
        for one in value if hasattr(value, "__len__") and not hasattr(value, "ListFields") else [value]:
            _no_unknown(one)


def _success(path: str) -> Reply:
    response = ExportTraceServiceResponse() if path.endswith("traces") else ExportMetricsServiceResponse()
    return Reply(200, response.SerializeToString(), {"Content-Type": PROTOBUF})


def _reply(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    handler.send_response(reply.status)
    for name, value in reply.headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(reply.body)))
    handler.end_headers()
    handler.wfile.write(reply.body)
