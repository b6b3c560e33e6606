"""Two thousand targets of a Prometheus file_sd file, changed while the exporter runs; and our checks as Prometheus' targets."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exporter import Exporter, command, environment, exporter
from tests.prometheus import eventually, needs_prometheus, open_prometheus

pytestmark = pytest.mark.e2e

TARGETS = 2000
CONFIG = """\
version: 1
discover:
  hosts:
    file_sd: {{files: [targets/*.json]}}
    id: "host-${{each.n}}"
    relabel:
      - {{source_labels: [__meta_filepath], regex: ".*/(.*).json", target_label: file}}
    check: {{type: tcp, host: 127.0.0.1, port: 9, interval: 3000d, labels: {{v: "${{each.v}}"}}}}
checks:
  own: {{type: tcp, host: 127.0.0.1, port: 9, interval: 3000d}}
"""


class Watch:
    """An exporter with its targets. ``lag`` are the steps of its event loop that took longer than a bound."""

    def __init__(self, running: Exporter, folder: Path) -> None:
        self.running, self.folder = running, folder

    def write(self, targets: list[tuple[int, str]]) -> None:
        aside = self.folder / "targets" / "aside"
        groups = [{"targets": ["127.0.0.1:9"], "labels": {"n": str(n), "v": v}} for n, v in targets]
        aside.write_text(json.dumps(groups), encoding="utf-8")
        aside.rename(self.folder / "targets" / "hosts.json")

    def until(self, condition: str, **numbers: float) -> float:
        """Seconds until the block's numbers are these."""
        began = time.monotonic()

        def holds() -> bool:
            metrics = self.running.metrics()
            return all(
                metrics.get(f'watchbill_discovery_{name}{{discovery="hosts"}}') == value
                for name, value in numbers.items()
            )

        self.running.until(condition, holds)
        return time.monotonic() - began

    def lag(self, over: str) -> float:
        metrics = self.running.metrics()
        name = "watchbill_event_loop_lag_seconds"
        return metrics[f"{name}_count"] - metrics[f'{name}_bucket{{le="{over}"}}']

    def checks(self) -> dict[str, dict[str, Any]]:
        return {check["id"]: check for check in self.running.request("/api/v1/checks").json()["checks"]}

    def registered_at(self, check_id: str) -> str:
        return str(self.running.request(f"/api/v1/checks/{check_id}").json()["registered_at"])

    def plan(self, config: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command("plan", config, "--detailed-exitcode", "--against", self.running.url),
            capture_output=True, text=True, cwd=self.folder, env=environment(), timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    folder = tmp_path_factory.mktemp("discovery")
    (folder / "targets").mkdir()
    (folder / "checks.yaml").write_text(CONFIG.format())
    with exporter(folder / "checks.yaml", folder / "run", "--log-level", "warning") as running:
        watch = Watch(running, folder)
        watch.write([(n, "1") for n in range(TARGETS)])
        seconds = watch.until("all targets are checks", targets=TARGETS)
        print(
            f"\n{TARGETS} targets were checks after {seconds:.1f} s; {watch.lag('0.05'):.0f} steps of the loop took over 50 ms"
        )
        yield watch


def test_of_two_thousand_targets_only_those_that_changed_are_touched(watch: Watch) -> None:
    watch.running.until(
        "each was probed once", lambda: all(check["latest"] for check in watch.checks().values())
    )
    before = watch.checks()
    kept, changed = watch.registered_at("host-100"), watch.registered_at("host-5")
    revision = watch.running.metrics()["watchbill_config_last_reload_success_timestamp_seconds"]
    steps = watch.lag("0.05")
    # The ten first go, ten more come, ten are others: in a file whose every group stands elsewhere now.
    watch.write([(n, "2" if n < 20 else "1") for n in range(10, TARGETS + 10)])
    began = time.monotonic()
    watch.running.until("the last one is there", lambda: f"host-{TARGETS + 9}" in watch.checks())
    print(
        f"\nthirty of {TARGETS} changed within {time.monotonic() - began:.1f} s; {watch.lag('0.05') - steps:.0f} steps over 50 ms"
    )
    after = watch.checks()
    assert before.keys() - after.keys() == {f"host-{n}" for n in range(10)}
    assert after.keys() - before.keys() == {f"host-{n}" for n in range(TARGETS, TARGETS + 10)}
    others = {
        name for name in after.keys() & before.keys() if before[name]["labels"] != after[name]["labels"]
    }
    assert others == {f"host-{n}" for n in range(10, 20)}
    untouched = after.keys() & before.keys() - others
    assert len(untouched) == TARGETS - 20 + 1
    # Status, counters, the result of the first probe: nobody began anew.
    assert [name for name in untouched if after[name] != before[name]] == []
    assert watch.registered_at("host-100") == kept
    assert watch.registered_at("host-15") == changed  # a changed label keeps the span
    assert watch.running.metrics()["watchbill_config_last_reload_success_timestamp_seconds"] == revision


def test_a_plan_leaves_discovered_checks_alone_and_shows_what_changes_in_their_block(watch: Watch) -> None:
    same = watch.plan("checks.yaml")
    assert same.returncode == 0, same.stdout + same.stderr
    (watch.folder / "other.yaml").write_text(CONFIG.format().replace("interval: 3000d", "interval: 2000d"))
    other = watch.plan("other.yaml")
    assert other.returncode == 2, other.stdout + other.stderr
    assert "discover.hosts.check.interval" in other.stdout
    assert "host-" not in other.stdout


def test_a_file_that_is_cut_off_keeps_its_targets_and_a_lost_one_asks_first(watch: Watch) -> None:
    file = watch.folder / "targets" / "hosts.json"
    file.write_text(file.read_text()[:-5])
    watch.until("it was counted", failures_total=1)
    assert len(watch.checks()) == TARGETS + 1
    file.unlink()
    watch.until("it was not followed", kept_targets=TARGETS)
    assert len(watch.checks()) == TARGETS + 1
    assert "--allow-mass-delete" in watch.running.log.read_text()
    answer = watch.running.request("/-/reload?allow_mass_delete=true", method="POST")
    assert answer.status == 200, answer.text
    assert set(watch.checks()) == {"own"}
    watch.write([(n, "1") for n in range(20)])
    watch.until("they are back", targets=20)


def test_a_kill_and_a_source_that_is_broken_by_then_leave_the_targets(tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "checks.yaml").write_text(CONFIG.format())
    with exporter(tmp_path / "checks.yaml", tmp_path / "run") as running:
        watch = Watch(running, tmp_path)
        watch.write([(n, "1") for n in range(3)])
        watch.until("three hosts", targets=3)
        running.until("it is committed", lambda: running.metrics()["watchbill_history_pending"] == 0)
        running.process.kill()
        running.process.wait()
    (tmp_path / "targets" / "hosts.json").write_text("[{")
    with exporter(tmp_path / "checks.yaml", tmp_path / "run") as running:
        watch = Watch(running, tmp_path)
        assert set(watch.checks()) == {"own", "host-0", "host-1", "host-2"}
        watch.until("it was counted", failures_total=1, targets=3, last_success_timestamp_seconds=0)


@needs_prometheus
def test_prometheus_takes_our_checks_for_targets(watch: Watch, tmp_path: Path) -> None:
    job = {
        "job_name": "blackbox",
        "metrics_path": "/probe",
        "http_sd_configs": [{"url": f"{watch.running.url}/api/v1/targets/http_sd?type=tcp"}],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"source_labels": ["__meta_watchbill_check"], "target_label": "check"},
            {"regex": "__meta_watchbill_label_(.+)", "action": "labelmap"},
            {"target_label": "__address__", "replacement": "127.0.0.1:1"},
        ],
    }
    watch.until("twenty hosts", targets=20)
    config = {"global": {"scrape_interval": "1h"}, "scrape_configs": [job]}
    with open_prometheus(tmp_path / "prometheus", config=config) as prometheus:
        targets = eventually(prometheus.targets, what="targets")
    labels = {target["labels"]["check"]: target["labels"] for target in targets}
    assert set(labels) == set(watch.checks())
    assert labels["host-7"] | {"job": "", "instance": ""} == {
        "check": "host-7", "file": "hosts", "n": "7", "v": "1", "job": "", "instance": "",
    }  # fmt: skip
    assert {target["scrapeUrl"] for target in targets} == {"http://127.0.0.1:1/probe?target=127.0.0.1%3A9"}


WRITTEN = '[{"targets": ["a:1"]}, {"targets": ["b:1"]}]'
CASES = {
    "deleted.json": (None, 0),
    "list.json": ("[]", 0),
    "null.json": ("null", 0),
    "nothing.yml": ("", 0),
    "broken.json": ("[{", 2),
    "cut-off.yml": ("- targets: [a:1]\n", 1),
    "label.json": ('[{"targets": ["a:1"]}, {"targets": ["b:1"], "labels": {"bad-name": "x"}}]', 2),
    "more.json": ('[{"targets": ["a:1"], "more": 1}]', 2),
    "twice.json": ('[{"targets": ["a:1", "a:1", "b:1"]}]', 2),
}
"""What a file holds in the end, and how many targets Prometheus has then; docs/discovery.md says where we differ."""


@needs_prometheus
def test_prometheus_does_what_the_page_says_of_it(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in CASES}
    for file in files.values():
        file.write_text(WRITTEN)
    jobs = [{"job_name": name, "file_sd_configs": [{"files": [str(file)]}]} for name, file in files.items()]
    config = {"global": {"scrape_interval": "1h"}, "scrape_configs": jobs}
    with open_prometheus(tmp_path / "prometheus", config=config) as prometheus:

        def targets() -> dict[str, int]:
            pools = [target["scrapePool"] for target in prometheus.targets()]
            return {name: pools.count(name) for name in CASES}

        eventually(lambda: set(targets().values()) == {2}, what="two targets each")
        for name, (text, _) in CASES.items():
            if text is None:
                files[name].unlink()
            else:
                files[name].write_text(text)
        expected = {name: count for name, (_, count) in CASES.items()}
        eventually(lambda: targets() == expected, what=f"{expected}, got {targets()}", within_seconds=30)
