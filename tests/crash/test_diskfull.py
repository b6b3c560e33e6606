"""Some points at which the disk takes nothing more; `make prove` tries two hundred and fifty, and a small disk."""

from pathlib import Path

import pytest

from tests.crash import diskfull, traced


@pytest.mark.e2e
@pytest.mark.slow
def test_a_full_disk_stops_no_probing_and_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    if reason := traced.unavailable():
        pytest.skip(reason)
    assert [claim for claim in diskfull.prove(tmp_path, full=False) if not claim.holds] == []
