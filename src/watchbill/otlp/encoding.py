"""All that knows protobuf, behind one door: importing it takes 30 ms and 7 MB, which nobody pays who exports nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from watchbill.domain.results import Result
from watchbill.domain.tracing import Trace
from watchbill.domain.units import Instant
from watchbill.otlp.names import Described
from watchbill.otlp.points import PointEncoder, Points
from watchbill.otlp.spans import SpanEncoder
from watchbill.otlp.wire import metrics_request, spans_request
from watchbill.readings import Reading


class Encoding:
    """``attributes``: of the resource, unless the configuration has others; ``version``: of this program."""

    def __init__(self, families: Sequence[Described], attributes: Mapping[str, str], version: str) -> None:
        self._attributes = attributes
        self._version = version
        self._spans = SpanEncoder()
        self._points = PointEncoder(families)

    def span(self, result: Result, trace: Trace) -> bytes:
        return self._spans.encode(result, trace)

    def forget(self, check_id: str) -> None:
        self._spans.forget(check_id)
        self._points.forget(check_id)

    def points(self) -> Points:
        """Nothing yet."""
        return Points()

    def add(self, points: Points, reading: Reading, now: Instant) -> None:
        self._points.add(points, reading, now)

    def spans(self, resource: Mapping[str, str], spans: Sequence[bytes]) -> bytes:
        """A request. ``resource``: what is declared of it."""
        return spans_request({**self._attributes, **resource}, self._version, spans)

    def metrics(self, resource: Mapping[str, str], points: Points) -> bytes:
        """A request."""
        return metrics_request({**self._attributes, **resource}, self._version, self._points.metrics(points))
