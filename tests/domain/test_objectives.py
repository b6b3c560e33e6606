"""Percentages as people write them, and which checks an objective is about."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from watchbill.domain.checks import Check, parse_check
from watchbill.domain.objectives import Slo, format_percentage, parse_percentage


def check(check_id: str, **fields: Any) -> Check:
    return parse_check({"id": check_id, "type": "icmp", "host": "127.0.0.1", **fields})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("99.9%", "99.9"),
        (99.9, "99.9"),
        (99, "99"),
        (" 99.95 % ", "99.95"),
        ("99.999999%", "99.999999"),
        (1, "1"),
    ],
)
def test_a_percentage_is_read_to_the_digit(written: object, read: str) -> None:
    assert parse_percentage(written) == Decimal(read)


@pytest.mark.parametrize(
    "written",
    [
        0.999,
        "0.999",
        100,
        "100%",
        0,
        -1,
        "1e1",
        "99.9999999",
        True,
        None,
        "most",
        "99,9",
        "99 9",
        float("nan"),
    ],
)
def test_what_is_no_percentage_from_1_to_100_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"a percentage from 1 to under 100"):
        parse_percentage(written)


@pytest.mark.parametrize("text", ["99.9%", "50%", "99.999%", "10%"])
def test_a_percentage_is_written_as_it_is_read(text: str) -> None:
    assert format_percentage(parse_percentage(text)) == text


CHECKS = [
    check("b", service="shop", labels={"env": "prod"}),
    check("a", service="shop", labels={"env": "stage"}),
    check("c", labels={"env": "prod"}),
    check("parked", service="shop", labels={"env": "prod"}, enabled=False),
]


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        ({"service": "shop"}, ["a", "b"]),
        ({"match": {"service": "shop"}}, ["a", "b"]),
        ({"match": {"env": "prod"}}, ["b", "c"]),
        ({"match": {"env": ["prod", "stage"], "service": "shop"}}, ["a", "b"]),
        ({"match": {"check": ["c", "a"]}}, ["a", "c"]),
        ({"match": {"type": "icmp", "env": "stage"}}, ["a"]),
        ({"match": {"team": "x"}}, []),
    ],
)
def test_an_objective_is_about_the_checks_that_meet_all_it_asks_for_and_run(
    selection: dict[str, Any], found: list[str]
) -> None:
    slo = Slo.model_validate({**selection, "availability": 99})
    assert [each.id for each in slo.checks(CHECKS)] == found
