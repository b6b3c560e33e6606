"""Secrets are found in whatever case they come back, whatever stands beside them."""

from __future__ import annotations

import html
import json
import sys
from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchbill.domain.redaction import fold, folded, is_clean, redact, spelled

TEXTS = st.text(st.characters() | st.sampled_from("aZéÉİıΣςσẞßK…"), max_size=8)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("got CLÉ-SECRÈTE", "got ***"),
        ("İ got CLÉ-SECRÈTE", "İ got ***"),
        ("got clé-secrète İ", "got *** İ"),
        ("İ…clé-s…", "İ…***…"),
        ("ΛΌΓΟΣ", "***"),
        ("λόγος", "***"),
        ("xΛΌΓΟΣy", "x***y"),
        ("xλόγοσy", "x***y"),
    ],
)
def test_a_secret_is_hidden_in_any_case_of_any_alphabet(said: str, shown: str) -> None:
    assert redact(said, folded(["Clé-Secrète", "Λόγος"])) == shown


def test_every_character_is_folded_to_one() -> None:
    characters = list(map(chr, range(sys.maxunicode + 1)))
    assert [character for character in characters if len(fold(character)) != 1] == []
    alike = {"\u0130": "i", "\u03a3": "σ", "\u03c2": "σ"}
    assert all(fold(each) == alike.get(each, each.lower()) for each in characters)


@given(before=TEXTS, after=TEXTS)
def test_a_text_is_folded_alike_whatever_stands_beside_it(before: str, after: str) -> None:
    assert fold(before + after) == fold(before) + fold(after)


@given(pieces=st.lists(TEXTS), secrets=st.lists(TEXTS.filter(bool), max_size=3))
def test_what_is_clean_as_one_text_is_clean_piece_by_piece(pieces: list[str], secrets: list[str]) -> None:
    hidden = folded(secrets)
    if is_clean(" ".join(pieces), hidden):
        assert [redact(piece, hidden) for piece in pieces] == pieces


def test_a_long_secret_is_known_by_its_beginning_and_hides_what_follows() -> None:
    body = '{"token": "s3cret-wörd", "n": [1, 2]} & ' * 2_000
    hidden = spelled([body])
    assert sum(map(len, hidden)) < 64 * 1024
    for sent in (
        body,
        quote(body),
        json.dumps(body)[1:-1],
        html.escape(body),
        b64encode(body.encode()).decode(),
    ):
        assert redact(f"got {sent} there", hidden) == "got ***"


def test_what_follows_a_short_secret_is_shown() -> None:
    assert redact(f"got {'x' * 500} there", spelled(["x" * 500])) == "got *** there"
