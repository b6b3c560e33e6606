"""A disk that is really full: a small one of its own, mounted under the history of a real exporter."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.targets import every_type
from tests.exporter import Exporter, exporter

SMALL_DISK = 'mount -t tmpfs -o size=6m tmpfs "$0" && exec "$@"'


def may_mount() -> bool:
    """A container or a changed root may forbid it even to root."""
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.e2e,
    pytest.mark.elsewhere,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("unshare") is None or not may_mount(),
        reason="mounting a small disk takes root and a mount namespace of our own",
    ),
]


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Iterator[Exporter]:
    folder = tmp_path / "exporter"
    folder.mkdir()
    prefix = ["unshare", "--mount", "sh", "-c", SMALL_DISK, str(folder)]
    with every_type(tmp_path) as config, exporter(config, folder, prefix=prefix) as running:
        yield running


def filler(running: Exporter) -> Path:
    """A file on the exporter's own disk, as only its mount namespace sees it."""
    return Path(f"/proc/{running.process.pid}/root{running.storage.parent}/filler")


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as disk:
        while disk.write(bytes(4096)):
            pass


def test_a_full_disk_stops_no_probe_and_loses_no_row_once_there_is_room(on_a_small_disk: Exporter) -> None:
    running = on_a_small_disk
    running.until("rows are written", lambda: running.total("watchbill_history_rows_total") > 10)
    fill(filler(running))
    running.until("commits fail", lambda: running.total("watchbill_history_commit_failures_total") > 2)
    slots, rows = running.total("watchbill_check_slots_total"), running.total("watchbill_history_rows_total")
    running.until("probes go on", lambda: running.total("watchbill_check_slots_total") > slots + 20)
    assert running.total("watchbill_history_rows_total") == rows
    assert running.request("/-/ready").status == 200

    filler(running).unlink()
    running.until(
        "what waited is written", lambda: running.total("watchbill_history_rows_total") > slots + 20
    )
    assert running.total("watchbill_history_dropped_rows_total") == 0
    assert running.stop() == 0
    last = [json.loads(line) for line in running.log.read_text().splitlines()][-1]
    assert last["event"] == "watchbill.stopped"
    assert last["rows_stored"] == last["results_produced"] > slots + 20
