"""A storm of reloads; `make prove` has ten."""

from pathlib import Path

import pytest

from tests.runtime import storm


@pytest.mark.e2e
@pytest.mark.slow
def test_a_storm_of_reloads_touches_only_what_changed(tmp_path: Path) -> None:
    assert [claim for claim in storm.prove(tmp_path, full=False) if not claim.holds] == []
