"""Seconds of a soak; `python -m tests.soak` goes on for twenty minutes."""

import threading
from pathlib import Path
from typing import cast

import pytest

from tests.exporter import Exporter
from tests.soak import watch
from tests.soak.load import Soak
from tests.soak.proof import _history, _log, soaked


@pytest.mark.e2e
@pytest.mark.slow
def test_a_soak_of_seconds_loses_no_slot(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    soak = Soak(
        checks=200, interval_seconds=2, seconds=6, scrape_seconds=1, reload_seconds=3, warm_up_seconds=2
    )
    found = soaked(tmp_path, soak)
    rows = found.history.rows
    assert found.code == 0
    assert found.history.unaccounted == 0
    assert len(rows) == len({(row.check, row.slot) for row in rows}) > soak.checks
    assert [claim for claim in (_history(found), _log(found)) if not claim.holds] == []


def test_a_watcher_that_dies_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()

    def look(_: Exporter) -> watch.Sample:
        looked.set()
        raise ValueError("of another shape")

    monkeypatch.setattr(watch, "_look", look)
    with (
        pytest.raises(RuntimeError, match="the thread for exporter died"),
        watch.watched(cast("Exporter", None), every=0.001),
    ):
        assert looked.wait(60)
