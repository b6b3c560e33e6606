"""The main job: the example from YAML to probes to /metrics to a real Prometheus."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.exporter import Exporter, exporter, free_port
from tests.prometheus import eventually, needs_prometheus, open_prometheus
from watchbill.config import load
from watchbill.domain.checks import Heartbeat

pytestmark = pytest.mark.e2e
openmetrics: Any = parser.text_string_to_metric_families
EXAMPLE = Path(__file__).parents[2] / "checks.example.yaml"
SERVICE_LABELS = {
    "service": "monitoring",
    "namespace": "ops",
    "pod": "watchbill-0",
    "instance": "watchbill-0:9876",
}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Exporter, Path]]:
    """The example as it is, but on a free port."""
    folder, port = tmp_path_factory.mktemp("example"), free_port()
    config = folder / "checks.yaml"
    config.write_text(EXAMPLE.read_text().replace("9876", str(port)))
    with exporter(config, folder / "run", port=port) as running:
        yield running, config


def test_every_check_of_the_example_that_probes_shows_up(example: tuple[Exporter, Path]) -> None:
    running, config = example
    declared = load(config, environ={}).config.checks.values()
    probing = {one.id for one in declared if one.enabled and not isinstance(one, Heartbeat)}
    assert len({one.type for one in declared}) == 6

    def shown() -> bool:
        names = [name for name in running.metrics() if name.startswith("probe_success{")]
        return all(any(f'check="{check_id}"' in name for name in names) for check_id in probing)

    running.until("probe_success of every check", shown)
    status = {row["id"]: row for row in running.request("/api/v1/checks").json()["checks"]}
    own = [row for row in status.values() if row["service"] == "watchbill" and row["enabled"]]
    assert len(own) >= 6
    assert {row["status"] for row in own} == {"up"}, own
    for row in status.values():
        if row["status"] == "down":
            assert row["service"] == "internet", row
            assert row["latest"]["failures"]


def test_both_formats_hold_the_same_samples(example: tuple[Exporter, Path]) -> None:
    running, _ = example
    text = running.request("/metrics", headers={"Accept": "text/plain"})
    om = running.request("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert om.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert om.text.endswith("# EOF\n")
    one = {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in plain(text.text)
        for sample in family.samples
    }
    other = {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in openmetrics(om.text)
        for sample in family.samples
    }
    # The counters of requests gain a series when the first of the two is answered.
    assert {name for name, _ in one ^ other} <= {"watchbill_http_requests_total"}
    assert len(one) > 300


@needs_prometheus
def test_promtool_has_nothing_to_say(example: tuple[Exporter, Path]) -> None:
    running, _ = example
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=running.request("/metrics").body,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@needs_prometheus
@pytest.mark.parametrize("honor_labels", [True, False])
def test_a_real_prometheus_scrapes_it_whatever_labels_the_target_has(
    example: tuple[Exporter, Path], tmp_path: Path, honor_labels: bool
) -> None:
    running, _ = example
    job = {
        "job_name": "watchbill",
        "scrape_interval": "1s",
        "honor_labels": honor_labels,
        "static_configs": [{"targets": [running.url.removeprefix("http://")], "labels": SERVICE_LABELS}],
    }
    with open_prometheus(tmp_path, config={"scrape_configs": [job]}) as prometheus:
        eventually(lambda: prometheus.query("up == 1"), what="the exporter is scraped")
        eventually(
            lambda: prometheus.numbers(
                "histogram_quantile(0.9, sum by (le) (rate(watchbill_check_latency_seconds_bucket[10s])))",
                seconds=5,
            ),
            what="a latency quantile",
        )
        [target] = prometheus.targets()
        assert target["lastError"] == ""
        service = "service" if honor_labels else "exported_service"
        found = prometheus.query(f'watchbill_check_status{{{service}="watchbill", namespace="ops"}}')
        assert len(found) >= 6


def test_the_landing_page_names_every_check_and_loads_nothing_from_elsewhere(
    example: tuple[Exporter, Path],
) -> None:
    running, config = example
    page = running.request("/")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for check_id in load(config, environ={}).config.checks:
        assert check_id in page.text
    assert "//cdn" not in page.text
    assert "<script" not in page.text


def test_a_heartbeat_is_taken_and_survives_a_restart(tmp_path: Path) -> None:
    config, port = tmp_path / "checks.yaml", free_port()
    config.write_text(
        "version: 1\nchecks:\n  job: {type: heartbeat, every: 1s, grace: 1s, interval: 1s, token: s3cret-token}\n"
    )
    with exporter(config, tmp_path / "run", port=port) as running:

        def status() -> str:
            return str(running.request("/api/v1/checks/job").json()["status"])

        running.until("it is late", lambda: status() == "down")
        path = "/api/v1/heartbeats/job"
        assert running.request(path, method="POST").status == 401
        assert running.request(path, method="POST", headers={"Authorization": "Bearer wrong"}).status in {
            401,
            403,
        }
        taken = running.request(path, method="POST", headers={"Authorization": "Bearer s3cret-token"})
        assert taken.status in {200, 202}
        running.until("it is up again", lambda: status() == "up")
        assert running.stop() == 0
    with exporter(config, tmp_path / "run", port=port) as running:
        running.until("the old ping is too old by now", lambda: status() == "down")
