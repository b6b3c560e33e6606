"""A few hundred hostile configurations; `make prove` tries ten thousand."""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.fuzz import configs
from tests.fuzz.bombs import ACCEPTED, ANY, BOMBS, REFUSED, Bomb
from tests.fuzz.case import ENVIRON, Case
from tests.fuzz.children import Child
from tests.fuzz.grammar import case_of
from tests.fuzz.judge import judge
from tests.fuzz.plants import fifo
from tests.fuzz.shrink import smaller
from tests.fuzz.valid import VALUES, check
from tests.fuzz.verdict import Complaint, Verdict
from watchbill.config.nodes import NotYamlError, Source
from watchbill.domain.errors import Problem

GOOD = b"version: 1\nchecks: {a: {type: icmp, host: 127.0.0.1}}\n"


@pytest.mark.e2e
@pytest.mark.slow
def test_whatever_a_configuration_holds_the_answer_is_one_that_runs_or_errors_with_their_places(
    tmp_path: Path,
) -> None:
    claims = configs.prove(tmp_path, full=False)
    assert [claim for claim in claims if not claim.holds] == []


def test_a_seed_and_a_number_make_the_same_case_each_time() -> None:
    assert [case_of(7, number) for number in range(50)] == [case_of(7, number) for number in range(50)]
    assert len({str(case_of(7, number).files) for number in range(50)}) > 40


def test_what_one_case_changes_is_in_no_other() -> None:
    shared = {id(value) for values in VALUES.values() for value in values if isinstance(value, dict | list)}
    made = [check(Random(number)) for number in range(100)]
    assert len(shared) > 5
    assert [value for each in made for value in each.values() if id(value) in shared] == []


def test_a_failing_case_is_made_smaller_while_it_fails() -> None:
    long = Case("x", {"a.yaml": b"1\n2\nneedle and hay\n4\n" * 5 + b"more\n", "b.yaml": GOOD})
    small = smaller(long, lambda case: any(b"needle" in content for content in case.files.values()))
    assert small.files == {"a.yaml": b"needle"}


class Deadly(Case):
    """Kills whoever reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return signal.raise_signal, (signal.SIGSEGV,)


def test_a_judge_that_dies_is_counted_and_replaced(tmp_path: Path) -> None:
    child = Child(tmp_path / "judge")
    try:
        dead = child.ask(Deadly("dies"))
        alive = child.ask(Case("lives", {"checks.yaml": GOOD}))
    finally:
        child.close()
    assert dead.complaints == (Complaint("crash", "SIGSEGV"),)
    assert alive.accepted
    assert alive.complaints == ()


def raising(*_: object) -> Any:
    raise KeyError("planted")


def misplaced(text: str, source: Source) -> Any:
    raise NotYamlError(Problem(source.shown, 99, 1, f"nothing: {ENVIRON['TOKEN']}"))


@pytest.mark.parametrize(
    ("planted", "kinds"),
    [
        (raising, {"traceback"}),
        (misplaced, {"not a place", "says nothing to do", "names no key", "secret"}),
    ],
)
def test_what_breaks_a_promise_is_a_complaint(
    planted: Any, kinds: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchbill.config.documents.compose", planted)
    found = judge("planted", Case("planted", {"checks.yaml": GOOD}).write(tmp_path / "case")).kinds
    assert found - {"large"} == kinds  # the process of the tests may be


@pytest.mark.parametrize(
    ("says", "accepted", "refused"),
    [(ANY, True, True), (ACCEPTED, True, False), (REFUSED, False, True), ("is wrong", False, True)],
)
def test_a_bomb_must_be_answered_as_it_says(says: str, accepted: bool, refused: bool) -> None:
    bomb = Bomb("planted", fifo, says)
    assert (not bomb.expected(Verdict("", accepted=True)).complaints) is accepted
    assert (not bomb.expected(Verdict("", problems=("x.yaml:1:1: it is wrong",))).complaints) is refused


def test_every_bomb_says_how_it_must_be_answered() -> None:
    assert [name for name, bomb in BOMBS.items() if not bomb.says] == []
