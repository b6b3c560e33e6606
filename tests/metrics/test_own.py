"""The families over all checks: the exporter's own numbers, each from the part that has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from tests.metrics.states import (
    OPENMETRICS,
    START,
    FixedClock,
    Scene,
    declare,
    observed,
    probe_of,
    refused,
    reloaded,
    series_of,
)

from watchbill.board import Board, Histogram
from watchbill.bus import BusStatistics
from watchbill.domain.checks import TYPE_NAMES
from watchbill.domain.fields import Service
from watchbill.domain.messages import CheckDeleted, ConfigRejected
from watchbill.domain.results import Failure, Reason
from watchbill.domain.units import SECOND
from watchbill.metrics import OWN_FAMILIES, Metrics, Sources
from watchbill.testing import virtual_clock
from watchbill.web.live import WebStatistics
from watchbill.web.tally import HttpTally


@dataclass(frozen=True)
class Numbers:
    """What every part hands out, in one."""

    delay: Histogram = field(default_factory=lambda: observed((0.01, 0.05), 0.02))
    lag: Histogram = field(default_factory=lambda: observed((0.01, 0.05), 0.04, 0.06))
    running: int = 3
    rows: int = 1000
    dropped_rows: int = 7
    pending: int = 11
    commit_seconds: Histogram = field(default_factory=lambda: observed((0.1,), 0.05))
    failures: int = 2
    size_bytes: int = 7000
    memory_bytes: int = 8000
    repairs: int = 3
    lost_batches: int = 6
    dropped: int = 5
    handler_errors: Mapping[str, int] = field(default_factory=lambda: {"Board.probed": 0, "broken": 4})


@dataclass(frozen=True)
class Block:
    checks: int
    invalid: int
    duplicate: int
    kept: int
    failures: int
    succeeded_at: float


@dataclass(frozen=True)
class Exports:
    """What an export by OTLP hands out."""

    exported: Mapping[str, int] = field(default_factory=lambda: {"metrics": 200, "traces": 100})
    dropped: Mapping[tuple[str, str], int] = field(default_factory=lambda: {("traces", "expired"): 3})
    failures: Mapping[str, int] = field(default_factory=lambda: {"traces": 4})
    pending: int = 9


def full_metrics(board: Board | None = None, clock: FixedClock | None = None) -> Metrics:
    tally = HttpTally()
    tally.add(route="/metrics", method="GET", code=200, seconds=0.003)
    tally.add(route="unmatched", method="BREW", code=404, seconds=0.001)
    numbers = Numbers()
    sources = Sources(
        bus=lambda: BusStatistics(numbers.handler_errors),
        scheduler=lambda: numbers,
        writer=lambda: numbers,
        storage=lambda: numbers,
        log=lambda: numbers,
        http=tally.statistics,
        discovery=lambda: {"pods": Block(7, 2, 1, 3, 4, 1_700_000_000.5)},
        web=lambda: WebStatistics(False, 9 * SECOND, 2, {"timeout": 3}),
        otlp=Exports,
    )
    return Metrics(board or Board(), clock or FixedClock(), sources, version="1.2.3")


def values_of(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The values of one sample name by its label values, labels in order of their names."""
    found = {}
    for (sample, labels), value in series_of(metrics.render()[1].decode()).items():
        if sample == name:
            found[tuple(text for _, text in sorted(labels))] = value
    return found


def test_each_part_s_numbers_are_shown() -> None:
    metrics = full_metrics(clock=FixedClock(drift_micros=-1500))
    expected = {
        "watchbill_probes_running": 3,
        "watchbill_history_rows_total": 1000,
        "watchbill_history_dropped_rows_total": 7,
        "watchbill_history_pending": 11,
        "watchbill_history_commit_failures_total": 2,
        "watchbill_history_size_bytes": 7000,
        "watchbill_history_memory_bytes": 8000,
        "watchbill_history_commit_seconds_count": 1,
        "watchbill_schedule_delay_seconds_count": 1,
        "watchbill_event_loop_lag_seconds_sum": 0.1,
        "watchbill_log_dropped_total": 5,
        "watchbill_web_config_last_reload_successful": 0,
        "watchbill_web_config_last_reload_success_timestamp_seconds": 9,
        "watchbill_web_config_reload_failures_total": 2,
        "watchbill_otlp_pending_spans": 9,
        "watchbill_clock_drift_seconds": -0.0015,
    }
    assert {name: values_of(metrics, name) for name in expected} == {
        name: {(): value} for name, value in expected.items()
    }
    assert values_of(metrics, "watchbill_event_loop_lag_seconds_bucket")["0.05",] == 1
    blocks = {
        "watchbill_discovery_targets": {("pods",): 7},
        "watchbill_discovery_dropped_targets": {("pods", "invalid"): 2, ("pods", "duplicate"): 1},
        "watchbill_discovery_kept_targets": {("pods",): 3},
        "watchbill_discovery_failures_total": {("pods",): 4},
        "watchbill_discovery_last_success_timestamp_seconds": {("pods",): 1_700_000_000.5},
    }
    assert {name: values_of(metrics, name) for name in blocks} == blocks
    assert values_of(metrics, "watchbill_handler_errors_total") == {("Board.probed",): 0, ("broken",): 4}


def test_handshakes_that_fail_are_counted_by_reason() -> None:
    assert values_of(full_metrics(), "watchbill_web_handshake_failures_total") == {("timeout",): 3}


def test_what_became_of_spans_and_points_is_shown_where_they_are_exported() -> None:
    metrics = full_metrics()
    assert values_of(metrics, "watchbill_otlp_exported_total") == {("metrics",): 200, ("traces",): 100}
    assert values_of(metrics, "watchbill_otlp_dropped_total") == {("expired", "traces"): 3}
    assert values_of(metrics, "watchbill_otlp_failed_requests_total") == {("traces",): 4}
    silent = Metrics(Board(), FixedClock(), Sources(otlp=lambda: None), version="1.2.3")
    assert "watchbill_otlp_" not in silent.render()[1].decode()


def test_requests_are_counted_by_code_method_and_route() -> None:
    assert values_of(full_metrics(), "watchbill_http_requests_total") == {
        ("200", "GET", "/metrics"): 1,
        ("404", "other", "unmatched"): 1,
    }
    assert values_of(full_metrics(), "watchbill_http_request_duration_seconds_count") == {
        ("/metrics",): 1,
        ("unmatched",): 1,
    }


def test_a_part_that_is_not_there_has_no_families() -> None:
    text = Metrics(Board(), FixedClock()).render()[1].decode()
    assert "watchbill_history" not in text
    assert "watchbill_http" not in text
    assert "watchbill_build_info" in text


def test_both_formats_hold_the_same_families() -> None:
    metrics = full_metrics()
    text = series_of(metrics.render()[1].decode())
    openmetrics = series_of(metrics.render(OPENMETRICS)[1].decode(), openmetrics=True)
    assert text.keys() == openmetrics.keys()


def test_every_family_that_is_declared_is_shown() -> None:
    scene = Scene()
    scene.register(declare(service="web"))
    scene.found(probe_of(declare(service="web")))
    metrics = full_metrics(scene.board)
    event = reloaded(services={"web": Service()})
    scene.board.configured(event)
    metrics.reloaded(event)
    text = metrics.render()[1].decode()
    headers = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {family.name for family in OWN_FAMILIES} - headers == set()


# --- configuration ------------------------------------------------------------------------------------


def test_before_the_first_load_nothing_was_successful() -> None:
    metrics = full_metrics()
    assert values_of(metrics, "watchbill_config_last_reload_successful") == {(): 0}
    assert values_of(metrics, "watchbill_config_info") == {}


def test_a_rejected_reload_shows_and_leaves_what_runs() -> None:
    metrics = full_metrics()
    metrics.reloaded(reloaded())
    assert values_of(metrics, "watchbill_config_last_reload_successful") == {(): 1}
    metrics.rejected(ConfigRejected("checks.yaml:1:1: empty", START, "signal"))
    assert values_of(metrics, "watchbill_config_last_reload_successful") == {(): 0}
    assert values_of(metrics, "watchbill_config_last_reload_success_timestamp_seconds") == {(): 1.79e9}
    assert values_of(metrics, "watchbill_config_info") == {("d1g3st", "c0ffee"): 1}
    metrics.reloaded(reloaded())
    assert values_of(metrics, "watchbill_config_last_reload_successful") == {(): 1}


def test_the_build_is_named() -> None:
    ((python, version),) = values_of(full_metrics(), "watchbill_build_info")
    assert version == "1.2.3"
    assert python.startswith("3.")


def test_the_process_is_measured() -> None:
    text = full_metrics().render()[1].decode()
    assert "# TYPE process_cpu_seconds_total counter" in text
    assert "# TYPE process_open_fds gauge" in text
    assert values_of(full_metrics(), "process_resident_memory_bytes")[()] > 1 << 20


# --- over all checks ----------------------------------------------------------------------------------


def test_every_type_is_counted_also_those_without_a_check() -> None:
    scene = Scene()
    scene.register(declare("a"), declare("b"), declare("c", "tcp"))
    counts = values_of(scene.metrics, "watchbill_checks")
    assert counts == {(kind,): {"http": 2, "tcp": 1}.get(kind, 0) for kind in TYPE_NAMES}


def test_every_reason_of_a_type_in_use_stands_at_0_and_failures_add_up_over_checks() -> None:
    scene = Scene()
    scene.register(declare("a"), declare("b"))
    for name in ("a", "b"):
        scene.found(probe_of(declare(name), refused()))
    scene.found(probe_of(declare("a"), Failure(Reason.INTERNAL, "a defect")))
    counts = values_of(scene.metrics, "watchbill_failures_total")
    assert counts == {
        (reason.value, "http"): {Reason.REFUSED: 2, Reason.INTERNAL: 1}.get(reason, 0) for reason in Reason
    }
    scene.board.deleted(CheckDeleted(declare("a"), START, ""))
    assert values_of(scene.metrics, "watchbill_failures_total")["refused", "http"] == 2


def test_a_service_has_a_status_once_it_is_known() -> None:
    scene = Scene()
    scene.register(declare("a", service="web"), declare("b", service="web"), declare("c", service="new"))
    assert values_of(scene.metrics, "watchbill_service_status") == {}
    scene.found(probe_of(declare("a", service="web")))
    assert values_of(scene.metrics, "watchbill_service_status") == {("web",): 1}
    scene.found(probe_of(declare("b", service="web"), refused()))
    assert values_of(scene.metrics, "watchbill_service_status") == {("web",): 0.5}


def test_a_declared_service_tells_its_owner_and_runbook_also_without_checks() -> None:
    scene = Scene()
    shop = Service(owner="team-shop", runbook='https://runbooks.example/"shop"')
    scene.board.configured(reloaded(services={"shop": shop, "core": Service()}))
    assert values_of(scene.metrics, "watchbill_service_info") == {
        ("team-shop", 'https://runbooks.example/"shop"', "shop"): 1,
        ("", "", "core"): 1,
    }
    scene.board.configured(reloaded(services={"core": Service(owner="team-core")}))
    assert values_of(scene.metrics, "watchbill_service_info") == {("team-core", "", "core"): 1}


# --- large numbers of checks --------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_exposing_lets_others_run_and_says_the_same_as_rendering(anyio_backend: str) -> None:
    scene = Scene()
    for number in range(200):
        scene.register(declare(f"check-{number}"))
        scene.found(probe_of(declare(f"check-{number}")))
    turns = 0
    done = False

    async def other() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        content_type, parts = await scene.metrics.expose(OPENMETRICS)
        done = True
    assert turns > 20
    assert content_type == scene.metrics.render(OPENMETRICS)[0]
    exposed = series_of(b"".join(parts).decode(), openmetrics=True)
    rendered = series_of(scene.text(OPENMETRICS), openmetrics=True)
    assert exposed.keys() == rendered.keys()


@pytest.mark.anyio
async def test_a_check_deleted_while_exposing_is_not_in_the_answer() -> None:
    scene = Scene()
    for number in range(200):
        scene.register(declare(f"check-{number}"))

    async def delete() -> None:
        scene.board.deleted(CheckDeleted(declare("check-0"), START, ""))

    async with anyio.create_task_group() as group:
        group.start_soon(delete)
        _, parts = await scene.metrics.expose()
    text = b"".join(parts).decode()
    assert 'check="check-0"' not in text
    assert 'check="check-1"' in text


def test_a_scrape_lets_late_slots_go_first_but_not_for_ever() -> None:
    async def main() -> None:
        clock, late = virtual_clock(), [True]
        metrics = Metrics(board=Board(), clock=clock, version="1", slots_are_late=lambda: late[0])
        begun = clock.now()
        async with anyio.create_task_group() as group:
            group.start_soon(metrics.expose)
            await anyio.sleep(0.5)
            late[0] = False
        assert 0.5 * SECOND <= clock.now() - begun < 0.6 * SECOND
        late[0], begun = True, clock.now()
        await metrics.expose()
        assert 1.9 * SECOND < clock.now() - begun < 2.1 * SECOND

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_lines_are_kept_until_something_changes() -> None:
    scene = Scene()
    scene.register(declare("a"), declare("b"))
    scene.found(probe_of(declare("a")), probe_of(declare("b")))
    scene.text()
    kept = scene.metrics._kept
    before = {name: each.row for name, each in kept.items()}
    scene.found(probe_of(declare("b")))
    scene.text()
    assert kept["a"].row is before["a"]
    assert kept["b"].row is not before["b"]
