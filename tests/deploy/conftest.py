"""A real exporter over targets of every type, scraped by a real Prometheus with the shipped configuration.

Beside the shipped alerts it has the rules of the objectives, as ``watchbill generate rules`` writes them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.targets import every_type
from tests.exporter import Exporter, command, exporter
from tests.otlp.receiver import receiving
from tests.prometheus import PROMETHEUS, Prometheus, eventually, open_prometheus
from tests.web.certificates import authority

DEPLOY = Path(__file__).parents[2] / "deploy"
ATTACHED = {
    "namespace": "monitoring",
    "pod": "watchbill-0",
    "service": "from-discovery",
    "container": "watchbill",
}


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration, while its targets stand."""
    with every_type(tmp_path_factory.mktemp("exporter")) as config:
        yield config


@pytest.fixture(scope="package")
def running_exporter(watched: Path) -> Iterator[Exporter]:
    with exporter(watched, watched.parent, "--location", "here") as running:
        yield running


@pytest.fixture(scope="package")
def guarded_exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """A second one, which is asked over TLS alone and exports to a receiver of OTLP."""
    folder = tmp_path_factory.mktemp("guarded")
    party = authority().issue("127.0.0.1")
    (folder / "server.crt").write_bytes(party.cert)
    (folder / "server.key").write_bytes(party.key)
    (folder / "web.yml").write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
    path, options = folder / "checks.yaml", ("--web.config.file", str(folder / "web.yml"))
    with receiving() as receiver:
        heartbeat = {"type": "heartbeat", "every": "1h"}
        declared = {"version": 1, "otlp": {"endpoint": receiver.endpoint}, "checks": {"one": heartbeat}}
        path.write_text(yaml.safe_dump(declared), encoding="utf-8")
        with exporter(path, folder, *options, wait=False) as running:
            yield running


@pytest.fixture(scope="package")
def rules_of_objectives(watched: Path) -> Path:
    path = watched.with_name("slos.rules.yml")
    options = ("--only", "slo", "--scrape-interval", "1s", "--output", str(path))
    subprocess.run(command("generate", "rules", str(watched), *options), check=True, timeout=60)
    return path


@pytest.fixture(scope="package")
def exporter_metrics_url(running_exporter: Exporter) -> str:
    return f"{running_exporter.url}/metrics"


@pytest.fixture(scope="package")
def scraped(
    running_exporter: Exporter,
    exporter_metrics_url: str,
    guarded_exporter: Exporter,
    rules_of_objectives: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """The shipped scrape job and alerts, once a second, with the labels that service discovery would attach."""
    if PROMETHEUS is None:
        pytest.skip("prometheus is not installed (make test-deps)")
    config: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    address = exporter_metrics_url.removeprefix("http://").removesuffix("/metrics")
    [job] = [one for one in config["scrape_configs"] if one["job_name"] == "watchbill"]
    job["static_configs"] = [{"targets": [address], "labels": ATTACHED}]
    shortened = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "prometheus/alerts.yml"), str(rules_of_objectives)],
        "scrape_configs": [job, _guarded(guarded_exporter)],
    }
    with open_prometheus(tmp_path_factory.mktemp("prometheus"), config=shortened) as prometheus:
        eventually(
            lambda: prometheus.query('sum(watchbill_check_slots_total{outcome="success"}) > 5'),
            what="Prometheus has scraped some results",
        )
        eventually(lambda: prometheus.query('up{job="guarded"} == 1'), what="TLS is scraped")
        running_exporter.request("/-/reload", method="POST")
        yield prometheus


def _guarded(exporter: Exporter) -> dict[str, Any]:
    return {
        "job_name": "guarded",
        "scheme": "https",
        "tls_config": {"insecure_skip_verify": True},
        "static_configs": [{"targets": [exporter.url.removeprefix("http://")]}],
    }
