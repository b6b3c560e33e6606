"""Some faults of our own side, each once; `make prove` has all of them, often."""

from collections import Counter
from pathlib import Path

import pytest

from tests.runtime import clocks, faults
from tests.runtime.history import SECOND, History, Row
from tests.runtime.inside import Record
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


def suffered(fault: str, *rows: Row, gaps: tuple[tuple[str, int, int], ...] = ()) -> faults.Suffered:
    record = Record(fault, 10 * SECOND, 12 * SECOND, 13 * SECOND, down=[], scrapes=5)
    return faults.Suffered(1, 0, [record], History(rows, gaps, 0, Counter()))


def test_a_gap_shows_that_a_stall_was_felt_and_no_other_fault() -> None:
    stall = ("stall", 10 * SECOND, 12 * SECOND)
    for fault, felt in (("a long stop of the process", True), ("no descriptor left", False)):
        assert faults._claim(suffered(fault, gaps=(stall,)), fault, full=False).holds is felt


@pytest.mark.parametrize(("outcome", "holds"), [("success", True), ("failure", False)])
def test_a_failure_that_comes_when_all_seemed_well_is_one_too(outcome: str, holds: bool) -> None:
    late = Row("a", 20 * SECOND, outcome, None, 20 * SECOND, 0.1)
    every_slot, _ = faults._of_all(suffered("no link", late))
    assert every_slot.holds is holds
