"""docs/checks.md names every field, expectation and reason of every type, and its examples load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from watchbill.config import load
from watchbill.domain.checks import CHECK_TYPES, RECORD_TYPES
from watchbill.domain.credentials import TlsOptions
from watchbill.domain.fields import CheckFields
from watchbill.domain.results import OWN_SIDE, Reason

PAGE = (Path(__file__).parents[2] / "docs/checks.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
INTERNAL = {"id", "type", "references", "interpolated"}
TYPES = {kind.model_fields["type"].default: kind for kind in CHECK_TYPES}
EVERY = "Every check"


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None, f"docs/checks.md has no section {title}"
    return match[1]


def first_cells(text: str, head: str) -> list[str]:
    """What the first column of the tables with this heading names."""
    tables = re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [row.split("|")[1] for table in tables for row in table.splitlines()]
    return [name for cell in rows for name in re.findall(r"`([^`]+)`", cell)]


def names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()} - INTERNAL


def test_every_type_has_a_section() -> None:
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == [EVERY, *TYPES]


def test_the_fields_of_every_check_are_documented() -> None:
    assert set(first_cells(section(EVERY), "field")) == names(CheckFields) | {"type"}


@pytest.mark.parametrize("title", TYPES)
def test_every_field_of_a_type_is_documented(title: str) -> None:
    documented = first_cells(section(title), "field")
    if title == "http":
        assert set(documented) >= names(TlsOptions)
        documented = [name for name in documented if name not in names(TlsOptions)]
    assert set(documented) == names(TYPES[title]) - names(CheckFields)


@pytest.mark.parametrize("title", TYPES)
def test_every_expectation_of_a_type_is_documented(title: str) -> None:
    expect = TYPES[title].model_fields.get("expect")
    model = expect.annotation if expect is not None else None
    declared = names(model) if isinstance(model, type) and issubclass(model, BaseModel) else set()
    assert set(first_cells(section(title), "expectation")) == declared


def test_reasons_are_documented_in_their_order() -> None:
    order = [str(reason) for reason in Reason]
    own = first_cells(section(EVERY), "reason")
    assert own == [str(reason) for reason in Reason if reason in OWN_SIDE]
    told: set[str] = set()
    for title in TYPES:
        reasons = first_cells(section(title), "reason")
        assert reasons == sorted(reasons, key=order.index), title
        told.update(reasons)
    assert told | set(own) == set(order)


def test_every_record_type_is_documented() -> None:
    assert [name for name in RECORD_TYPES if f"`{name}`" not in section("dns")] == []


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_loads(number: int, tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text(EXAMPLES[number], encoding="utf-8")
    assert load(path, environ={}).config.checks


def test_every_type_has_a_minimal_example_and_a_full_one() -> None:
    for title in TYPES:
        assert section(title).count("```yaml\n") >= 2
