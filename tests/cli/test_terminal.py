"""Numbers and foreign text on a terminal."""

from __future__ import annotations

import click
import pytest

from watchbill.cli.terminal import count, paint, plain, seconds, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grün ✓", "grün ✓"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        (5, "5"),
    ],
)
def test_foreign_text_cannot_steer_a_terminal(text: object, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("measured", "shown"), [(0.0, "0.0ms"), (0.0482, "48.2ms"), (0.99991, "999.9ms"), (1.0, "1.00s")]
)
def test_a_time_has_the_unit_that_people_read(measured: float, shown: str) -> None:
    assert seconds(measured) == shown


def test_counts_agree_with_their_nouns() -> None:
    assert [count(1, "check"), count(1200, "check"), count(2, "entry", "entries")] == [
        "1 check",
        "1,200 checks",
        "2 entries",
    ]


def test_columns_stand_straight_with_and_without_colour() -> None:
    lines = table(["A", "N"], [[paint("long name", "red"), "1"], ["x", "1,000"]], right=[False, True])
    assert [click.unstyle(line) for line in lines] == [
        "A              N",
        "long name      1",
        "x          1,000",
    ]
