"""The shipped Prometheus and Alertmanager files: their own checkers, and the real programs over them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.alertmanager import needs_alertmanager, open_alertmanager, webhook
from tests.generate.promtool import Generated, about, alerts
from tests.prometheus import Prometheus, eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCS = Path(__file__).parents[2] / "docs"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = [alert["alert"] for alert in ALERTS]
METRIC = re.compile(r"\b(?:watchbill|probe)_[a-z_]+\b")
each_alert = pytest.mark.parametrize("alert", ALERTS, ids=NAMES)


def run_tool(*command: str, cwd: Path) -> str:
    """What it printed; a program that is not installed skips the test, except where all are required."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (make test-deps)")
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    assert "SUCCESS" in run_tool("promtool", "check", "rules", "alerts.yml", cwd=DEPLOY / "prometheus")
    assert "SUCCESS" in run_tool("promtool", "check", "config", "prometheus.yml", cwd=DEPLOY / "prometheus")


def test_the_alerts_ring_as_their_promtool_tests_say() -> None:
    assert "SUCCESS" in run_tool("promtool", "test", "rules", "alerts_test.yml", cwd=DEPLOY / "prometheus")


@pytest.mark.parametrize(
    ("what", "with_what", "of"),
    [
        ("last_over_time(watchbill_check_status", "(0 / watchbill_check_status", "bridging a restart"),
        ('unless on (job, instance) up{job=~".*watchbill.*"} == 1', "", "forgetting what was deleted"),
        ("for: 1h5m", "for: 10m", "a night's missed slots of one check"),
        ("for: 20m", "for: 10m", "a night's missed slots"),
        ("for: 2m", "for: 10s", "riding out a blip"),
        ('outcome!="excused"', 'outcome!=""', "leaving out excused slots"),
        ("(instance, pod, container, endpoint, node) (\n            watchbill_check_status", "() (\n            watchbill_check_status", "forgetting the pod"),
        ("last_over_time(probe_ssl_earliest_cert_expiry{job=~\".*watchbill.*\"}[10m])", "probe_ssl_earliest_cert_expiry", "bridging an error"),
        ("descriptors|network|resolver|permission|stall|internal", ".+", "own errors alone"),
    ],
)  # fmt: skip
def test_the_promtool_tests_notice_what_would_go_wrong(
    what: str, with_what: str, of: str, tmp_path: Path
) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (make test-deps)")
    rules = (DEPLOY / "prometheus/alerts.yml").read_text()
    assert what in rules, f"nothing left of {of}"
    tests = (DEPLOY / "prometheus/alerts_test.yml").read_text()
    shipped, spoilt = Generated(rules, tests), Generated(rules.replace(what, with_what), tests)
    changed = [new["alert"] for old, new in zip(alerts(shipped), alerts(spoilt), strict=True) if old != new]
    for texts, fails in ((shipped, False), (spoilt, True)):
        only = about(texts, *changed)
        (tmp_path / "alerts.yml").write_text(only.rules)
        (tmp_path / "alerts_test.yml").write_text(only.tests)
        done = subprocess.run(
            ["promtool", "test", "rules", "alerts_test.yml"],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert ("FAILED" in done.stdout + done.stderr) == fails, of


def test_every_alert_is_tested_both_ringing_and_silent() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(NAMES)
    # One test asks for no alert of any name, and so counts for all of them.
    assert any("ALERTS" in case["expr"] for test in tests for case in test.get("promql_expr_test", ()))


@each_alert
def test_an_alert_has_all_that_a_person_woken_by_it_needs(alert: dict[str, Any]) -> None:
    name, annotations = alert["alert"], alert["annotations"]
    assert name.startswith("Watchbill")
    assert alert["labels"]["severity"] in {"critical", "warning", "info", "none"}
    assert annotations["summary"]
    assert re.search(r"\.({{.*}})?$", annotations["description"])
    assert annotations["runbook_url"].endswith(f"/docs/alerts#{name.lower()}")
    assert f"## {name}\n" in (DOCS / "alerts.md").read_text()


@pytest.mark.e2e
@each_alert
def test_every_metric_that_an_alert_reads_comes_from_a_real_run(
    alert: dict[str, Any], scraped: Prometheus
) -> None:
    for metric in METRIC.findall(alert["expr"]):
        eventually(lambda metric=metric: scraped.query(metric), what=f"{metric} is scraped")  # type: ignore[misc]


@pytest.mark.e2e
def test_prometheus_evaluates_every_rule_without_an_error(scraped: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]]:
        groups = scraped.ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = eventually(evaluated, what="all rules have been evaluated")
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
    names = {rule["name"] for rule in rules if not rule["name"].startswith("slo:")}
    assert names == {*NAMES, "WatchbillErrorBudgetBurn", "WatchbillObjectiveUnmeasured"}


@pytest.mark.e2e
def test_a_check_that_is_down_is_pending_at_once_and_the_others_are_not(scraped: Prometheus) -> None:
    def pending() -> set[str]:
        found = scraped.query('ALERTS{alertname="WatchbillCheckDown"}')
        return {series["metric"]["check"] for series in found}

    eventually(lambda: "refused" in pending(), what="WatchbillCheckDown is pending for the closed port")
    assert not pending() & {"page", "port", "certificate", "name", "backup", "parked"}


@pytest.mark.e2e
def test_the_exporters_labels_win_over_those_of_discovery(scraped: Prometheus) -> None:
    def info() -> dict[str, dict[str, str]]:
        found = [series["metric"] for series in scraped.query("watchbill_check_info")]
        return {metric["check"]: metric for metric in found}

    found = eventually(info, what="watchbill_check_info is scraped")
    assert found["flaky"]["service"] == "shop"
    assert "service" not in found["page"]
    assert {found["page"][name] for name in ("namespace", "pod", "location", "env")} == {
        "monitoring",
        "watchbill-0",
        "here",
        "test",
    }


@pytest.mark.e2e
def test_the_target_is_the_instance_of_probe_metrics_and_of_nothing_else(scraped: Prometheus) -> None:
    eventually(lambda: scraped.query('probe_success{check="page"}'), what="probe_success is scraped")
    [probe] = scraped.query('probe_success{check="page"}')
    [status] = scraped.query('watchbill_check_status{check="page"}')
    [up] = scraped.query('up{job="watchbill"}')
    assert probe["metric"]["instance"] == probe["metric"]["target"]
    assert probe["metric"]["instance"].startswith("http://127.0.0.1:")
    assert status["metric"]["instance"] == up["metric"]["instance"]


def test_amtool_accepts_the_alertmanager_configuration() -> None:
    assert "SUCCESS" in run_tool(
        "amtool", "check-config", "alertmanager.yml", cwd=DEPLOY / "compose/alertmanager"
    )


@needs_alertmanager
@pytest.mark.e2e
def test_alertmanager_posts_an_alert_that_a_person_can_read(tmp_path: Path) -> None:
    config = (DEPLOY / "compose/alertmanager/alertmanager.yml").read_text()
    with webhook() as (url, messages):
        (tmp_path / "slack_url").write_text(url)
        config = config.replace("/run/secrets/slack_url", str(tmp_path / "slack_url"))
        config = config.replace("group_wait: 30s", "group_wait: 100ms")
        with open_alertmanager(tmp_path, config=config) as address:
            alert = {
                "labels": {"alertname": "WatchbillCheckDown", "check": "shop-home", "service": "shop", "severity": "critical"},
                "annotations": {"summary": "shop-home is down", "description": "It has failed.", "runbook_url": "https://runbook.example/"},
            }  # fmt: skip
            httpx2.post(f"{address}/api/v2/alerts", json=[alert], trust_env=False).raise_for_status()
            message = messages.get(timeout=60)
    [attachment] = message["attachments"]
    assert message["channel"] == "#monitoring"
    assert attachment["title"] == "1 firing: WatchbillCheckDown (shop)"
    assert attachment["title_link"] == "https://runbook.example/"
    assert attachment["color"] == "danger"
    assert attachment["text"].split("\n")[:2] == ["• *shop-home is down*", "It has failed."]
