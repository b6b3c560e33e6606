"""Every fourth damage, once; `make prove` does all of them, twice, and asks the doctor too."""

from pathlib import Path

import pytest

from tests.crash import corrupt


@pytest.mark.slow
def test_damaged_files_are_opened_repaired_or_refused_and_no_loss_is_silent(tmp_path: Path) -> None:
    for claim in corrupt.prove(tmp_path, full=False):
        assert claim.holds, claim
