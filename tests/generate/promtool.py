"""promtool over generated files."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from watchbill import config
from watchbill.domain.config import LoadedConfig
from watchbill.generate.asked import Asked
from watchbill.generate.rules import rule_file
from watchbill.generate.trials import trial_file
from watchbill.generate.whole import evaluation_pace, rule_groups, rule_trials

PROMTOOL = shutil.which("promtool")
HANG_GUARD_SECONDS = 300
RULES, TESTS = "watchbill.rules.yml", "watchbill.tests.yml"

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (make test-deps)")


@dataclass(frozen=True)
class Generated:
    """The two texts that the commands write for one configuration."""

    rules: str
    tests: str


def loaded(text: str, folder: Path) -> LoadedConfig:
    path = folder / "checks.yaml"
    path.write_text(text, encoding="utf-8")
    return config.load(str(path), environ={})


def generated(found: LoadedConfig, asked: Asked, *, slow: bool = False) -> Generated:
    groups, _ = rule_groups(found, asked)
    trials, _ = rule_trials(found, asked, slow=slow)
    pace = evaluation_pace(asked, slow=slow)
    return Generated(rule_file(groups), trial_file(trials, rules=RULES, evaluation_interval=pace))


def asked(scrape: timedelta, **more: Any) -> Asked:
    return replace(Asked(), scrape_interval=scrape, evaluation_interval=scrape, **more)


def check(texts: Generated, folder: Path) -> str:
    """What ``promtool check rules`` says."""
    (folder / RULES).write_text(texts.rules, encoding="utf-8")
    return _run("check", "rules", RULES, folder=folder)


def test(texts: Generated, folder: Path) -> str:
    """What ``promtool test rules`` says."""
    (folder / RULES).write_text(texts.rules, encoding="utf-8")
    (folder / TESTS).write_text(texts.tests, encoding="utf-8")
    return _run("test", "rules", TESTS, folder=folder)


def _run(*arguments: str, folder: Path) -> str:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_GUARD_SECONDS,
    )
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == ("FAILED" not in said), said
    return said


def alerts(texts: Generated) -> list[dict[str, Any]]:
    groups = yaml.safe_load(texts.rules)["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def about(whole: Generated, *names: str) -> Generated:
    """The rules of these names and the tests that could tell of them: the others only take time."""
    rules, tests = yaml.safe_load(whole.rules), yaml.safe_load(whole.tests)
    for group in rules["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule["alert"] in names]
    rules["groups"] = [group for group in rules["groups"] if group["rules"]]
    tests["tests"] = [
        test
        for test in tests["tests"]
        if any(name in str(test) for name in names) or 'severity!="none"' in str(test)
    ]
    for test in tests["tests"]:
        test["alert_rule_test"] = [
            look for look in test.get("alert_rule_test", ()) if look["alertname"] in names
        ]
        test["promql_expr_test"] = [
            query
            for query in test.get("promql_expr_test", ())
            if any(name in query["expr"] for name in names) or "alertname" not in query["expr"]
        ]
    return Generated(yaml.safe_dump(rules), yaml.safe_dump(tests))
