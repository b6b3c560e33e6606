"""The metrics of checks as OTLP: cumulative sums and histograms, gauges; the labels of ``/metrics`` as attributes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain

from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    Gauge,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Histogram as HistogramMessage

from watchbill.domain.units import Instant
from watchbill.otlp.names import Described, named
from watchbill.otlp.wire import attribute, nested
from watchbill.readings import Observed, Pairs, Reading, Sample

NANOSECONDS = 1000
"""In a microsecond."""
_TARGETED = "probe_"


@dataclass(slots=True)
class Points:
    """What goes into one request: points, each a field of its metric's kind, by family."""

    by_family: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0
    size: int = 0

    def add(self, family: str, point: bytes) -> None:
        self.by_family[family].append(point)
        self.count += 1
        self.size += len(point)


class PointEncoder:
    """``families``: those of a check; it is their kinds that decide."""

    def __init__(self, families: Sequence[Described]) -> None:
        self._families = {family.name: (family.kind, _metric(family)) for family in families}
        self._labels: dict[str, _Labels] = {}

    def add(self, points: Points, reading: Reading, now: Instant) -> None:
        """All points of one check."""
        labels = self._labels_of(reading)
        for sample in reading.samples:
            points.add(sample.family, self._number(sample, reading, labels, now))
        for observed in reading.histograms:
            points.add(observed.family, _histogram(observed, reading, labels, now))

    def forget(self, check_id: str) -> None:
        self._labels.pop(check_id, None)

    def metrics(self, points: Points) -> Iterator[bytes]:
        """Fields of a ``ScopeMetrics``."""
        for family, encoded in points.by_family.items():
            kind, head = self._families[family]
            body = nested(_KIND_FIELD[kind], _KIND_HEAD[kind], *encoded)
            yield nested(ScopeMetrics.METRICS_FIELD_NUMBER, head, body)

    def _labels_of(self, reading: Reading) -> _Labels:
        """Made anew each time they would take half of the export."""
        check_id = reading.labels["check"]
        known = self._labels.get(check_id)
        if known is None or not known.are_of(reading):
            known = self._labels[check_id] = _Labels(reading)
        return known

    def _number(self, sample: Sample, reading: Reading, labels: _Labels, now: Instant) -> bytes:
        at = now * NANOSECONDS
        if self._families[sample.family][0] == "counter":
            since = reading.since * NANOSECONDS
            point = NumberDataPoint(start_time_unix_nano=since, time_unix_nano=at, as_int=int(sample.value))
        else:
            point = NumberDataPoint(time_unix_nano=at, as_double=sample.value)
        encoded = labels.of_number(sample.own, targeted=sample.family.startswith(_TARGETED))
        return nested(Gauge.DATA_POINTS_FIELD_NUMBER, encoded, point.SerializeToString())


def _histogram(observed: Observed, reading: Reading, labels: _Labels, now: Instant) -> bytes:
    histogram = observed.histogram
    point = HistogramDataPoint(
        start_time_unix_nano=reading.observed_since * NANOSECONDS,
        time_unix_nano=now * NANOSECONDS,
        count=sum(histogram.counts),
        sum=histogram.total,
        bucket_counts=histogram.counts,
        explicit_bounds=histogram.bounds,
    )
    encoded = labels.of_histogram(observed.own)
    return nested(HistogramMessage.DATA_POINTS_FIELD_NUMBER, encoded, point.SerializeToString())


class _Labels:
    """The encoded attributes of one check's points."""

    def __init__(self, reading: Reading) -> None:
        self._common, self._declared = reading.labels, reading.declared
        self._target = reading.target
        common, declared = tuple(reading.labels.items()), tuple(reading.declared.items())
        self._own = _encoded_number((*common, *declared))
        self._targeted = _encoded_number((*common, ("target", reading.target), *declared))
        self._histogram = _encoded_histogram((*common, *declared))

    def are_of(self, reading: Reading) -> bool:
        return (self._common, self._declared, self._target) == (
            reading.labels,
            reading.declared,
            reading.target,
        )

    def of_number(self, own: Pairs, *, targeted: bool) -> bytes:
        if own and any(name in self._declared for name, _ in own):
            return self._without_declared(own)
        return (self._targeted if targeted else self._own) + _of_number(own)

    def of_histogram(self, own: Pairs) -> bytes:
        return self._histogram + _of_histogram(own)

    def _without_declared(self, own: Pairs) -> bytes:
        """A declared label gives way to the family's own of that name, which only families of the last probe have."""
        names = dict(own)
        declared = ((name, value) for name, value in self._declared.items() if name not in names)
        common = chain(self._common.items(), [("target", self._target)])
        return _encoded_number((*common, *declared, *own))


def _encoded_number(pairs: Pairs) -> bytes:
    return NumberDataPoint(attributes=[attribute(name, value) for name, value in pairs]).SerializeToString()


def _encoded_histogram(pairs: Pairs) -> bytes:
    return HistogramDataPoint(
        attributes=[attribute(name, value) for name, value in pairs]
    ).SerializeToString()


# A family's own labels: few outcomes and phases, and the certificates that checks of TLS have seen.
_of_number = lru_cache(maxsize=4096)(_encoded_number)
_of_histogram = lru_cache(maxsize=64)(_encoded_histogram)


def _metric(family: Described) -> bytes:
    name, unit = named(family)
    return Metric(name=name, unit=unit, description=family.help).SerializeToString()


_KIND_FIELD: Mapping[str, int] = {
    "counter": Metric.SUM_FIELD_NUMBER,
    "gauge": Metric.GAUGE_FIELD_NUMBER,
    "histogram": Metric.HISTOGRAM_FIELD_NUMBER,
}
_KIND_HEAD: Mapping[str, bytes] = {
    "counter": Sum(
        aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE, is_monotonic=True
    ).SerializeToString(),
    "gauge": b"",
    "histogram": HistogramMessage(
        aggregation_temporality=AGGREGATION_TEMPORALITY_CUMULATIVE
    ).SerializeToString(),
}
