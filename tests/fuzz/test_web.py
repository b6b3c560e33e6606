"""Some thousand malformed requests, crowds, storms and texts; `python -m tests.fuzz web` sends a hundred thousand."""

from pathlib import Path

import pytest

from tests.fuzz.web import prove


@pytest.mark.e2e
@pytest.mark.slow
def test_nothing_that_clients_or_targets_send_breaks_the_web(tmp_path: Path) -> None:
    claims = prove(tmp_path, full=False)
    assert [claim for claim in claims if not claim.holds] == []
    assert len(claims) == 5
