"""One file for each rule, beside the message it must give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from tests.config.conftest import mistakes
from tests.config.test_schema import plain
from watchbill.config.schema import json_schema

FILES = sorted((Path(__file__).parent / "invalid").glob("*.yaml"))
UNSEEN = "# schema: does not see it"


@pytest.fixture(autouse=True)
def _outside_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_mistake_is_named_with_its_place(file: Path) -> None:
    assert mistakes(file) == file.with_suffix(".expected").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_schema_rejects_what_shows_in_the_structure(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    if not text.startswith(UNSEEN):
        assert list(Draft7Validator(json_schema()).iter_errors(plain(text))) != []


def test_ten_mistakes_are_ten_messages_in_the_order_of_their_places() -> None:
    found = mistakes(FILES[0].with_name("ten_mistakes.yaml"))
    places = [tuple(map(int, re.findall(r":(\d+)", line)[:2])) for line in found]
    assert (len(found), places) == (10, sorted(places))
