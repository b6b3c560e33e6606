"""Some faults of our own side, each once; `make prove` has all of them, often."""

from pathlib import Path

import pytest

from tests.runtime import clocks, faults
from tests.runtime.history import Row
from tests.runtime.world import no_namespaces


@pytest.mark.e2e
@pytest.mark.slow
def test_no_fault_of_our_own_side_shows_a_target_as_down(tmp_path: Path) -> None:
    claims = faults.prove(tmp_path, full=False)
    assert [claim for claim in claims if not claim.holds and not claim.tried.startswith("nothing")] == []
    if missing := no_namespaces():
        pytest.skip(f"needs namespaces of its own: {missing}")
    if clocks.library() is None:
        pytest.skip("libfaketime is missing")


def test_a_burst_is_counted_within_an_interval() -> None:
    def row(started_at: int) -> Row:
        return Row("a", 0, "success", None, started_at, 0.1)

    assert faults.most_starts([row(0), row(1_000_000), row(2_000_000)]) == 1
    assert faults.most_starts([row(0), row(900_000), row(1_000_000), row(1_100_000)]) == 3
