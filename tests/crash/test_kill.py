"""A few kills of processes that write history, and of a real exporter under load; `make prove` does two hundred."""

from pathlib import Path

import pytest

from tests.crash import exporters, kill


@pytest.mark.e2e
@pytest.mark.slow
def test_what_was_acknowledged_survives_being_killed(tmp_path: Path) -> None:
    assert [claim for claim in kill.prove(tmp_path, full=False) if not claim.holds] == []


@pytest.mark.e2e
@pytest.mark.slow
def test_what_a_reader_of_an_exporter_has_seen_survives_its_being_killed(tmp_path: Path) -> None:
    found = exporters.run(tmp_path, 3, seed=26)
    assert found.problems == []
    assert found.kills == 3
    assert len(found.acknowledged) > 20
