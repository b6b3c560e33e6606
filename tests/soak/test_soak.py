"""Seconds of a soak; `python -m tests.soak` goes on for twenty minutes."""

from pathlib import Path

import pytest

from tests.soak.load import Soak
from tests.soak.proof import _history, _log, _slots, soaked


@pytest.mark.e2e
@pytest.mark.slow
def test_a_soak_of_seconds_loses_no_slot(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    soak = Soak(
        checks=300, interval_seconds=3, seconds=9, scrape_seconds=1, reload_seconds=4, warm_up_seconds=3
    )
    found = soaked(tmp_path, soak)
    assert [claim for claim in (_slots(found), _history(found), _log(found)) if not claim.holds] == []
