"""Configurations with objectives, and promtool over what is made of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from watchbill.domain.checks import parse_check
from watchbill.domain.config import Config
from watchbill.domain.fields import Service
from watchbill.domain.objectives import Slo
from watchbill.generate.asked import Asked
from watchbill.generate.rules import Alert, Recording, rule_file
from watchbill.generate.slo_tests import slo_trials
from watchbill.generate.slos import slo_groups
from watchbill.generate.trials import Trial, trial_file

ASKED = Asked(scrape_interval=timedelta(seconds=15))
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (make test-deps)"
)
SHOP = Service(owner="team-shop", runbook="https://runbooks.example/shop")


def declared(
    slos: Mapping[str, Mapping[str, Any]],
    checks: Mapping[str, Mapping[str, Any]] | None = None,
    services: Mapping[str, Service] | None = None,
) -> Config:
    given = checks if checks is not None else {"home": {}, "shop.db": {}, "slow": {"interval": "5m"}}
    common = {"interval": "60s", "service": "shop"}
    ping = {"type": "icmp", "host": "127.0.0.1"}
    return Config.model_construct(
        services=dict(services) if services is not None else {"shop": SHOP},
        checks={
            name: parse_check({**common, **({} if "type" in fields else ping), **fields, "id": name})
            for name, fields in given.items()
        },
        slos={name: Slo.model_validate({"service": "shop", **fields}) for name, fields in slos.items()},
    )


def recordings(config: Config, asked: Asked = ASKED) -> dict[tuple[str, str, str, str], Recording]:
    """By name, objective, indicator and window."""
    return {
        (rule.record, rule.labels["slo"], rule.labels["sli"], rule.labels.get("window", "")): rule
        for group in slo_groups(config, asked)[0]
        for rule in group.rules
        if isinstance(rule, Recording)
    }


def alerts(config: Config, asked: Asked = ASKED) -> list[Alert]:
    return [rule for group in slo_groups(config, asked)[0] for rule in group.rules if isinstance(rule, Alert)]


def write_rules(config: Config, folder: Path, asked: Asked = ASKED) -> str:
    text = rule_file(slo_groups(config, asked)[0])
    (folder / "rules.yml").write_text(text, encoding="utf-8")
    return text


def write_tests(trials: list[Trial], folder: Path, asked: Asked = ASKED) -> None:
    text = trial_file(trials, rules="rules.yml", evaluation_interval=asked.scrape_interval)
    (folder / "tests.yml").write_text(text, encoding="utf-8")


def named(config: Config, *names: str, asked: Asked = ASKED) -> list[Trial]:
    """Those of the generated tests whose names have one of these in them."""
    found = [trial for trial in slo_trials(config, asked) if any(name in trial.name for name in names)]
    assert found, names
    return [replace(trial) for trial in found]


def promtool(*arguments: str, folder: Path) -> tuple[bool, str]:
    done = subprocess.run(
        ["promtool", *arguments], cwd=folder, check=False, capture_output=True, text=True, timeout=600
    )
    return done.returncode == 0, done.stdout + done.stderr
