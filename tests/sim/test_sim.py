"""The simulation, in small; ``python -m tests.sim --seeds 1000`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.proof import prove
from tests.sim.search import planted, shrunk
from tests.sim.seeds import simulate
from tests.sim.shrink import described
from tests.sim.targets import Behaviour
from tests.sim.truth import FOUND
from tests.sim.world import Size


@pytest.mark.slow
def test_what_the_simulation_claims_holds(tmp_path: Path) -> None:
    claims = prove(tmp_path, full=False)
    assert [claim for claim in claims if not claim.holds] == []
    assert len(claims) == 4


def test_a_seed_that_fails_says_how_to_run_it_again_and_is_made_smaller() -> None:
    told = planted("own_fault_shown_as_down", 0, Size(checks=20, seconds=1200))
    assert told.broken is not None
    small = shrunk(told, plant="own_fault_shown_as_down")
    assert (small.size.checks, small.size.seconds) < (told.size.checks, told.size.seconds)
    assert small.size.without
    again = planted("own_fault_shown_as_down", small.seed, small.size)
    assert again.digest == small.digest
    assert f"--first {small.seed} --checks {small.size.checks}" in described(small)
    assert small.trace[-1] in described(small)


def test_a_fault_that_is_left_out_does_not_happen() -> None:
    told = simulate(5, Size(checks=5, seconds=600, without=frozenset({"crashes", "stalls", "edits"})))
    assert told.broken is None
    assert told.happened["probes"] > 0
    assert not {"kills", "stalls", "edits"} & told.happened.keys()


def test_the_truth_is_told_of_every_behaviour_of_a_target() -> None:
    for kind, found in FOUND.items():
        assert set(found) == set(Behaviour), kind
