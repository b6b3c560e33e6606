"""The simulation, in small; ``python -m tests.sim --seeds 1000`` is the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.sim import command_line, proof
from tests.sim.planted import PLANTED
from tests.sim.proof import prove
from tests.sim.search import find, planted, shrunk
from tests.sim.seeds import Told, simulate
from tests.sim.shrink import described
from tests.sim.targets import Behaviour
from tests.sim.truth import FOUND
from tests.sim.world import Size
from watchbill.runners import Runners


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


@pytest.mark.parametrize(("broken", "code"), [([None], 0), (["a promise"] * 256, 1), ([], 1)])
def test_the_search_fails_however_many_seeds_break_a_promise_and_where_none_was_tried(
    broken: list[str | None], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = Size()
    told = [Told(seed, size, "", broken=promise) for seed, promise in enumerate(broken)]
    monkeypatch.setattr(command_line, "run_seeds", lambda *_, **__: iter(told))
    monkeypatch.setattr(command_line, "shrunk", lambda one: one)
    assert command_line.search(range(len(told)), size, mixed=True, jobs=1, digest=False) == code


@pytest.mark.parametrize(("of_trio", "holds"), [("b", True), ("a", False)])
def test_stories_that_are_alike_on_both_loops_tell_nothing(
    of_trio: str, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "_stories", lambda size: (("a", "asyncio"), (of_trio, "trio")))
    assert proof._same_hash(proof.QUICK).holds is holds


def test_a_planted_bug_that_only_fails_by_itself_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_longer_fits(self: Any, _: object) -> None:
        self.renamed_meanwhile()

    def unfit(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Runners, "start", no_longer_fits)

    monkeypatch.setitem(cast("dict[str, Any]", PLANTED), "unfit", unfit)
    assert planted("unfit", 0, Size(checks=3, seconds=60)).broken is not None
    assert find("unfit", range(1), Size(checks=3, seconds=60), mixed=False) is None
