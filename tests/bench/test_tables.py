"""Tables of the bench and their places in docs/performance.md."""

from __future__ import annotations

import pytest
from bench.__main__ import PAGE, arguments
from bench.sections import BY_DEFAULT, SECTIONS
from bench.tables import Table, written

TABLE = Table("ratios", ("probe", "ratio"), [("HTTP", "0.40"), ("TCP", "0.45")], notes=["A note."])


def test_a_table_is_markdown_with_its_notes_below() -> None:
    assert TABLE.markdown() == (
        "| probe | ratio |\n| --- | --: |\n| HTTP | 0.40 |\n| TCP | 0.45 |\n\nA note."
    )


def test_a_table_on_a_terminal_stands_in_columns() -> None:
    assert TABLE.text() == "probe  ratio\nHTTP    0.40\nTCP     0.45\nA note."


def test_writing_a_table_again_leaves_one() -> None:
    page = "before\n<!-- bench: a -->\nold\n<!-- end -->\n<!-- bench: b -->\nkept\n<!-- end -->\n"
    once = written(page, "a", "new")
    assert once == page.replace("old", "\nnew\n")
    assert written(once, "a", "new") == once


def test_a_page_without_the_place_is_an_error() -> None:
    with pytest.raises(LookupError, match="no place for c"):
        written("<!-- bench: a -->\n<!-- end -->\n", "c", "text")


@pytest.mark.parametrize("section", BY_DEFAULT)
def test_every_section_has_its_place_in_the_page(section: str) -> None:
    written(PAGE.read_text(encoding="utf-8"), section, "")


def test_every_section_and_option_is_documented() -> None:
    page = PAGE.read_text(encoding="utf-8")
    options = [
        name for action in arguments()._actions for name in action.option_strings if name.startswith("--")
    ]
    assert [name for name in [*SECTIONS, *options] if f"`{name}`" not in page and name != "--help"] == []
