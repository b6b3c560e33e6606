"""Ten kills of a real exporter under load; `make prove` does thirty."""

from pathlib import Path

import pytest

from tests.crash import kill


@pytest.mark.e2e
@pytest.mark.slow
def test_what_was_acknowledged_survives_being_killed(tmp_path: Path) -> None:
    found = kill.run(tmp_path, 10, seed=20)
    assert found.problems == []
    assert found.kills == 10
    assert found.in_start_up == 3
    assert len(found.acknowledged) > 100
