"""Relabelling does what Prometheus' does: by its documentation, and beside the program itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.domain.relabellings import CASES, Case
from tests.prometheus import eventually, needs_prometheus, open_prometheus
from watchbill.domain.relabelling import Relabel, relabelled

ADDRESS = "127.0.0.1:1"
OF_EVERY_TARGET = {"job", "instance"}


def after(case: Case, labels: dict[str, str]) -> dict[str, str] | None:
    return relabelled(labels, [Relabel.model_validate(rule) for rule in case.rules])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_labels_become(case: Case) -> None:
    found = after(case, case.labels)
    if case.after is not None and "?" in case.after.values():  # only Prometheus knows
        case = case._replace(after=found)
    assert found == case.after


@needs_prometheus
@pytest.mark.e2e
def test_a_prometheus_makes_the_same_of_them(tmp_path: Path) -> None:
    """Each case is a job of its own; what a target is left with, and which are left out, is what we say."""
    jobs = [job(number, case, tmp_path) for number, case in enumerate(CASES)]
    config = {"global": {"scrape_interval": "1h"}, "scrape_configs": jobs}
    with open_prometheus(tmp_path / "prometheus", config=config) as prometheus:

        def found() -> dict[str, dict[str, Any]]:
            told = prometheus.ask("targets")
            targets = [*told["activeTargets"], *told["droppedTargets"]]
            return {Path(target["discoveredLabels"]["__meta_filepath"]).stem: target for target in targets}

        eventually(lambda: len(found()) == len(CASES), what="all jobs")
        told = found()
    assert {case.name: of_prometheus(told[str(number)]) for number, case in enumerate(CASES)} == {
        case.name: of_ours(number, case) for number, case in enumerate(CASES)
    }


def job(number: int, case: Case, folder: Path) -> dict[str, Any]:
    file = folder / f"{number}.json"
    file.write_text(json.dumps([{"targets": [ADDRESS], "labels": case.labels}]), encoding="utf-8")
    return {
        "job_name": f"job-{number}",
        "file_sd_configs": [{"files": [str(file)]}],
        "relabel_configs": case.rules,
    }


def of_prometheus(target: dict[str, Any]) -> dict[str, str] | None:
    if not target.get("labels"):
        return None  # it was dropped
    return {name: text for name, text in target["labels"].items() if name not in OF_EVERY_TARGET}


def of_ours(number: int, case: Case) -> dict[str, str] | None:
    """The labels that Prometheus gives a target before its rules are among them; those it hides are not shown."""
    given = {
        **case.labels, "__address__": ADDRESS, "__scheme__": "http", "__metrics_path__": "/metrics", "__scrape_interval__": "1h",
        "__scrape_timeout__": "10s", "__meta_filepath": "x", "job": f"job-{number}",
    }  # fmt: skip
    labels = after(case, given)
    if labels is None or "__address__" not in labels:
        return None
    return {
        name: text
        for name, text in labels.items()
        if not name.startswith("__") and name not in OF_EVERY_TARGET
    }


REFUSED = [
    ({"action": "replace"}, "target_label"),
    ({"action": "replace", "target_label": "a-b"}, "target_label"),
    ({"action": "replace", "target_label": "1a"}, "target_label"),
    ({"action": "hashmod", "target_label": "a"}, "modulus"),
    ({"action": "hashmod", "target_label": "$1", "modulus": 2}, "target_label"),
    ({"action": "lowercase", "target_label": "a", "replacement": "b"}, "replacement"),
    ({"action": "labelmap", "replacement": "-$1"}, "replacement"),
    ({"action": "keepequal", "target_label": "a", "regex": "b"}, "regex"),
    ({"action": "dropequal", "target_label": "a", "separator": ","}, "separator"),
    ({"action": "labeldrop", "regex": "a", "source_labels": ["b"]}, "source_labels"),
    ({"action": "labelkeep", "regex": "a", "target_label": "b"}, "target_label"),
    ({"action": "keep", "regex": "(?=a)"}, "look-around"),
    ({"action": "rename", "target_label": "a"}, "should be 'replace'"),
]


@pytest.mark.parametrize(("rule", "what"), REFUSED)
def test_a_rule_that_prometheus_refuses_is_refused(rule: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Relabel.model_validate(rule)
    assert what in str(caught.value)


@needs_prometheus
@pytest.mark.e2e
def test_a_prometheus_refuses_the_same_rules(tmp_path: Path) -> None:
    for number, (rule, _) in enumerate(REFUSED):
        file = tmp_path / f"{number}.yml"
        file.write_text(json.dumps({"scrape_configs": [{"job_name": "a", "relabel_configs": [rule]}]}))
        run = subprocess.run(
            ["promtool", "check", "config", str(file)], capture_output=True, timeout=60, check=False
        )
        assert run.returncode != 0, rule
