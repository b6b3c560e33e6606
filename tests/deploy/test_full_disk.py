"""A disk that is really full: a small one of its own, mounted under the history of a real exporter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import small_disk
from tests.deploy.targets import every_type
from tests.exporter import Exporter, exporter
from tests.small_disk import fill, filler, under

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.elsewhere,
    pytest.mark.skipif(
        small_disk.unavailable() is not None, reason=small_disk.unavailable() or "a small disk can be mounted"
    ),
]


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Iterator[Exporter]:
    folder = tmp_path / "exporter"
    folder.mkdir()
    with every_type(tmp_path) as config, exporter(config, folder, prefix=under(folder)) as running:
        yield running


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
