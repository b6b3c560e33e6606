"""Secrets stay where they are; `make prove` asks every check and every command in every form."""

from __future__ import annotations

import random
from base64 import b64encode
from pathlib import Path

import pytest

from tests.policy import fields, mistaken, secrets
from tests.policy.canaries import Catch, canary, spellings
from tests.policy.declared import NO_PLACE
from watchbill.domain.checks import CHECK_TYPES, parse_check
from watchbill.domain.redaction import redact, spelled


@pytest.mark.e2e
@pytest.mark.slow
def test_no_secret_leaves(tmp_path: Path) -> None:
    assert [claim for claim in secrets.prove(tmp_path, full=False) if not claim.holds] == []


def test_a_leak_is_seen_in_every_spelling() -> None:
    own = canary(42, random.Random(1))
    for text in (own.core, own.rough):
        for spelling in spellings(text):
            catch = Catch()
            catch.add("log", f"said {spelling} there".encode())
            assert catch.leaks, spelling
    for before in ("", "a", "ab"):
        catch = Catch()
        catch.add("log", b64encode(f"{before}{own.core}".encode()))
        assert catch.leaks, before


@pytest.mark.parametrize("text", ["s3cret-word", "S3cret\"wörd\\/&=% +'<b>"])
def test_a_secret_is_hidden_however_it_is_sent_back(text: str) -> None:
    for spelling in spellings(text):
        if (
            not any(character.isupper() for character in text)
            or text.isascii()
            or spelling.lower() == spelling
        ):
            shown = redact(f"got {spelling}!", spelled([text]))
            assert shown in ("got ***!", 'got "***"!', "got ***=!", "got ***==!"), spelling


def test_a_secret_that_was_cut_off_is_hidden() -> None:
    assert redact("got s3cret-w… and more", spelled(["s3cret-word"])) == "got ***… and more"


def test_no_excuse_is_for_a_field_that_is_gone() -> None:
    present = {leaf.path for model in CHECK_TYPES for leaf in fields.leaves(model)}
    assert NO_PLACE.keys() - present == set()


def test_a_check_shows_its_id_alone() -> None:
    check = parse_check({"id": "shop", "type": "http", "url": "http://shop.test/?key=s3cret-word"})
    assert f"{check!r} {check}" == "Http(id='shop') id='shop'"


def test_a_file_that_is_valid_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistaken, "BY_HAND", ("a: {type: icmp, host: x}", "a: {type: icmp}"))
    assert mistaken.told([], {}, tmp_path / "told")[0] == 1
