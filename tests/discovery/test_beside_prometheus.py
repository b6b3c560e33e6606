"""``dns_sd`` beside a real Prometheus, in a network of our own with one name server for both."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.discovery.beside import STEPS
from tests.exporter import environment
from tests.policy import namespace
from tests.prometheus import needs_prometheus

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@needs_prometheus
def test_prometheus_finds_the_same_targets_with_the_same_labels_after_each_change(tmp_path: Path) -> None:
    if reason := namespace.why_not():
        pytest.skip(reason)
    done = subprocess.run(
        namespace.command("tests.discovery.beside", str(tmp_path)),
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)
    assert [step["what"] for step in steps] == [what for what, *_ in STEPS]
    for step in steps:
        assert step["ours"] == step["theirs"], step["what"]
