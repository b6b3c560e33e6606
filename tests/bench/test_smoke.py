"""The bench against real servers, for a second."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bench.ratios import Cell, Side, of_ours, table
from bench.targets import open_targets

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("nginx") or Path("/usr/sbin/nginx").exists()) or not shutil.which("taskset"),
        reason="nginx is not installed (make test-deps)",
    ),
]


def test_watchbill_is_measured_over_its_own_targets(tmp_path: Path) -> None:
    with open_targets() as targets:
        runs = [
            of_ours(tmp_path / kind, targets, kind, rate=10, seconds=1) for kind in ("http", "https", "dns")
        ]
    rows = table([Cell("http", 10, Side([run]), None) for run in runs]).rows
    assert [row[:2] for row in rows] == [("HTTP", "10")] * 3
    assert all(run.cpu_per_1000 >= 0 for run in runs)
