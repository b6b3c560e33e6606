"""OTLP metrics as the Prometheus series that a collector makes of them, by the rules of the OpenTelemetry specification."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric

from tests.metrics.states import Series
from tests.otlp.receiver import attributes

UNITS = {"s": "seconds", "By": "bytes"}


def prometheus_name(metric: Metric) -> str:
    kind = metric.WhichOneof("data")
    parts = [metric.name.replace(".", "_")]
    if metric.unit in UNITS:
        parts.append(UNITS[metric.unit])
    if metric.unit == "1" and kind == "gauge":
        parts.append("ratio")
    if kind == "sum" and metric.sum.is_monotonic:
        parts.append("total")
    return "_".join(parts)


def series_of_metrics(metrics: Iterable[Metric]) -> dict[Series, float]:
    found: dict[Series, float] = {}

    def put(name: str, labels: dict[str, str], value: float) -> None:
        key = name, frozenset(labels.items())
        assert key not in found, f"{key} is there twice"
        found[key] = value

    for metric in metrics:
        name = prometheus_name(metric)
        match metric.WhichOneof("data"):
            case "gauge":
                for point in metric.gauge.data_points:
                    put(name, attributes(point.attributes), point.as_double)
            case "sum":
                assert metric.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
                for point in metric.sum.data_points:
                    assert 0 < point.start_time_unix_nano <= point.time_unix_nano
                    put(name, attributes(point.attributes), point.as_int)
            case "histogram":
                assert metric.histogram.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
                for histogram in metric.histogram.data_points:
                    assert 0 < histogram.start_time_unix_nano <= histogram.time_unix_nano
                    labels = attributes(histogram.attributes)
                    bounds = [*(f"{bound!r}" for bound in histogram.explicit_bounds), "+Inf"]
                    for bound, count in zip(bounds, accumulate(histogram.bucket_counts), strict=True):
                        put(f"{name}_bucket", {**labels, "le": bound}, count)
                    put(f"{name}_count", labels, histogram.count)
                    put(f"{name}_sum", labels, histogram.sum)
            case other:
                raise AssertionError(f"{metric.name} is a {other}")
    return found
