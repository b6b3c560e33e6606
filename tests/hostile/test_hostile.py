"""Two rounds of every hostile server at once; `python -m tests.hostile` does twelve or more."""

from pathlib import Path

import pytest

from tests.hostile.proof import prove


@pytest.mark.e2e
@pytest.mark.slow
def test_every_hostile_target_at_once_costs_its_own_check_and_nobody_else(tmp_path: Path) -> None:
    claims = prove(tmp_path, full=False)
    assert [claim for claim in claims if not claim.holds] == []
    assert len(claims) == 8
