"""What is exported of a check is what ``/metrics`` shows of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from tests.metrics.states import DECLARED, Scene, Series, busy_scene, declare, probe_of, series_of
from tests.otlp.translated import prometheus_name, series_of_metrics
from watchbill.domain.config import MetricsOptions
from watchbill.domain.units import SECOND
from watchbill.metrics import CHECK_FAMILIES
from watchbill.otlp import points
from watchbill.otlp.encoding import Encoding
from watchbill.otlp.names import named

EVERYTHING = MetricsOptions(phases=True, certificates=True, details=True)


def exported(scene: Scene) -> list[Metric]:
    encoding = Encoding(CHECK_FAMILIES, {"service.name": "watchbill"}, "1.2.3")
    load, now = encoding.points(), scene.clock.now()
    for state in scene.board.checks.values():
        encoding.add(load, scene.metrics.read(state, now), now)
    request = ExportMetricsServiceRequest.FromString(encoding.metrics({}, load))
    return [
        metric
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]


def shown(scene: Scene) -> dict[Series, float]:
    return {
        key: value
        for key, value in series_of(scene.text()).items()
        if any(name == "check" for name, _ in key[1])
    }


def scenes() -> Iterator[tuple[str, Scene]]:
    yield "each type after a failure", busy_scene()
    scene = busy_scene()
    scene.configure(EVERYTHING)
    yield "every family there is", scene
    scene = Scene()
    scene.register(*(declare(f"{kind}-new", kind) for kind in DECLARED))
    yield "nothing probed yet", scene
    scene = Scene()
    for kind in DECLARED:
        check = declare(
            f"{kind}-up", kind, labels={"env": "pröd", "version": "declared", "multi": 'a"b\\c\nd\x00'}
        )
        scene.register(check, location="eu-1")
        scene.found(probe_of(check))
    scene.configure(EVERYTHING)
    yield "labels of every kind", scene
    scene = busy_scene()
    scene.configure(MetricsOptions(probe=False))
    yield "without the last probe", scene
    scene = busy_scene()
    scene.clock.instant += 3600 * SECOND
    yield "results grown stale", scene
    scene = Scene()
    check = declare()
    scene.register(check)
    scene.found(probe_of(check, facts={**probe_of(check).result.facts, "stalled_seconds": 0.5}))
    yield "taken over a stall", scene
    scene = Scene()
    parked = declare(enabled=False)
    scene.register(parked)
    scene.found(probe_of(parked))
    yield "a parked check", scene


@pytest.mark.parametrize("scene", [pytest.param(scene, id=name) for name, scene in scenes()])
def test_a_collector_makes_of_it_the_series_of_the_exposition(scene: Scene) -> None:
    assert series_of_metrics(exported(scene)) == shown(scene)


def test_labels_are_made_once_for_a_check_and_forgotten_with_it() -> None:
    def held() -> int:
        gc.collect()
        return sum(type(one) is points._Labels for one in gc.get_objects())

    scene, encoding, before = Scene(), Encoding(CHECK_FAMILIES, {}, "1.2.3"), held()
    for turn in range(3):
        scene.register(declare("one"), declare("two", labels={"turn": str(turn)}))
        for state in scene.board.checks.values():
            now = scene.clock.now()
            encoding.add(encoding.points(), scene.metrics.read(state, now), now)
        assert held() - before == 2
    encoding.forget("one")
    assert held() - before == 1


def test_every_family_of_a_check_has_a_name_that_leads_back_to_its_own() -> None:
    kinds = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}
    for family in CHECK_FAMILIES:
        metric = Metric(name=named(family).name, unit=named(family).unit)
        getattr(metric, kinds[family.kind]).SetInParent()
        if family.kind == "counter":
            metric.sum.is_monotonic = True
        assert prometheus_name(metric) == family.name


def test_names_read_as_those_of_opentelemetry() -> None:
    told = {family.name: tuple(named(family)) for family in CHECK_FAMILIES}
    assert told["watchbill_check_slots_total"] == ("watchbill.check.slots", "{slot}")
    assert told["watchbill_check_latency_seconds"] == ("watchbill.check.latency", "s")
    assert told["watchbill_check_loss_ratio"] == ("watchbill.check.loss", "1")
    assert told["probe_success"] == ("probe.success", "")
    assert told["probe_http_status_code"] == ("probe.http.status_code", "")
    assert told["probe_dns_lookup_time_seconds"] == ("probe.dns.lookup_time", "s")
    assert all(name == name.lower() and "." in name for name, _ in told.values())


def test_histograms_count_from_when_their_bounds_were_changed_and_slots_from_registration() -> None:
    scene = busy_scene(["http"])
    registered = scene.clock.now()
    scene.clock.instant += 10 * SECOND
    event = MetricsOptions(buckets=(0.1, 1.0))
    scene.configure(event)
    by_name = {metric.name: metric for metric in exported(scene)}
    slots = by_name["watchbill.check.slots"].sum.data_points[0]
    latency = by_name["watchbill.check.latency"].histogram.data_points[0]
    assert slots.start_time_unix_nano == registered * 1000
    assert latency.start_time_unix_nano == scene.board.checks["http-one"].observed_since * 1000
    assert list(latency.explicit_bounds) == [0.1, 1.0]
    assert slots.time_unix_nano == latency.time_unix_nano == scene.clock.now() * 1000
