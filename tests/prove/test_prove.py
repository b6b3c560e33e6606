"""The runner of the proofs: what it runs, what it keeps, what it writes, and with what it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof import Claim
from tests.prove import __main__ as runner
from tests.prove import page, revision
from tests.prove.proofs import Proof, Shelf
from tests.prove.sections import SECTIONS, load

CLAIM = Claim("it | works", "2 times", "nothing lost", "nothing lost", holds=True)
BROKEN = Claim("it works", "2 times", "1 lost", "nothing lost", holds=False)


def proof(
    *claims: Claim, section: str = "a", full: bool = True, sources: str = "s", trouble: str = ""
) -> Proof:
    return Proof(section, full, sources, "abc1234", "a machine", "2026-01-02", 12.3, claims, trouble)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sections of examples, a shelf and a page of their own, sources that never change."""
    monkeypatch.setattr(
        runner,
        "SECTIONS",
        {name: f"tests.prove.examples.{name}" for name in ("holding", "failing", "crashing", "empty")},
    )
    monkeypatch.setattr(runner, "SHELF", tmp_path / "shelf")
    monkeypatch.setattr(revision, "digest_of", lambda: "s")
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("before\n<!-- prove: holding -->\nold\n<!-- end -->\nafter\n")
    return tmp_path


def test_a_proof_holds_when_each_of_its_claims_does_and_there_is_one() -> None:
    assert proof(CLAIM).holds
    assert not proof(CLAIM, BROKEN).holds
    assert not proof().holds
    assert not proof(CLAIM, trouble="its process ended with 1").holds


def test_what_was_proven_is_known_again_for_the_same_sources_only(tmp_path: Path) -> None:
    shelf, made = Shelf(tmp_path / "shelf"), proof(CLAIM)
    shelf.put(made)
    assert shelf.proven("a", full=True, sources="s") == made
    assert shelf.proven("a", full=True, sources="others") is None
    assert shelf.proven("b", full=True, sources="s") is None


def test_a_proof_in_full_stands_for_a_quick_one_and_not_the_other_way(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.put(proof(CLAIM, section="a", full=False))
    shelf.put(proof(CLAIM, section="b", full=True))
    assert shelf.proven("a", full=True, sources="s") is None
    assert shelf.proven("a", full=False, sources="s") is not None
    assert shelf.proven("b", full=False, sources="s") is not None


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.put(proof(CLAIM, BROKEN))
    assert shelf.proven("a", full=True, sources="s") is None


def test_a_file_that_was_cut_short_is_no_proof(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.put(proof(CLAIM))
    path = tmp_path / "a.json"
    path.write_text(path.read_text()[:-20])
    assert shelf.get("a", full=True) is None


def test_a_table_says_what_was_tried_and_on_which_machine() -> None:
    assert page.table(proof(CLAIM, BROKEN)) == (
        "| claim | tried | found | wanted | holds |\n| --- | --- | --- | --- | --- |\n"
        "| it \\| works | 2 times | nothing lost | nothing lost | yes |\n"
        "| it works | 2 times | 1 lost | nothing lost | **no** |\n\n"
        "Proven in 12 s, 2026-01-02, revision abc1234: a machine."
    )


def test_a_section_is_proven_in_a_process_of_its_own_once(
    there: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert runner.main(["holding", "--write"]) == 0
    assert "holding ..." in capfd.readouterr().out
    assert "| it works | 2 times | nothing lost | nothing lost | yes |" in (there / "page.md").read_text()
    assert runner.main(["holding", "--quick"]) == 0
    assert "holding ..." not in capfd.readouterr().out
    assert runner.main(["--list"]) == 0
    assert "holding   holds: 1 claims, in full" in capfd.readouterr().out
    assert runner.main(["holding", "--quick", "--again"]) == 0
    assert "holding ..." in capfd.readouterr().out


@pytest.mark.parametrize(
    ("section", "says"),
    [("failing", "1 lost"), ("crashing", "its process ended with 1"), ("empty", "it claimed nothing")],
)
def test_what_does_not_hold_is_told_and_ends_the_run_with_1(
    there: Path, capfd: pytest.CaptureFixture[str], section: str, says: str
) -> None:
    assert runner.main([section, "--quick"]) == 1
    told = capfd.readouterr().out
    assert says in told
    assert f"0 of 1 sections hold: not {section}" in told


def test_the_digest_is_of_what_a_proof_runs(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a.py").write_text("1")
    (tmp_path / "README.md").write_text("1")
    was = revision.digest_of(tmp_path)
    (tmp_path / "README.md").write_text("2")
    assert revision.digest_of(tmp_path) == was
    (tmp_path / "src/a.py").write_text("2")
    assert revision.digest_of(tmp_path) != was


def test_every_section_is_there_and_has_its_place_in_the_page() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for section, module in SECTIONS.items():
        assert callable(load(module))
        assert f"<!-- prove: {section} -->" in text


def test_every_section_and_option_is_documented() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    options = [
        name
        for action in runner.arguments()._actions
        for name in action.option_strings
        if name.startswith("--")
    ]
    assert [name for name in [*SECTIONS, *options] if f"`{name}`" not in text and name != "--help"] == []
