"""Ids and labels of targets, and how groups differ."""

from __future__ import annotations

import re

import pytest

from watchbill.domain.discovery import (
    TargetGroup,
    check_labels,
    in_order,
    slug,
    targets_of,
)
from watchbill.domain.fields import ID_PATTERN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:9100", "10.0.0.1-9100"),
        ("Shop.Example", "shop.example"),
        ("https://shop.example/a?b", "https---shop.example-a-b"),
        ("pods-[::1]:80", "pods----1--80"),
        ("--a", "a"),
        ("été", "t-"),
        ("", ""),
    ],
)
def test_a_text_becomes_an_id(text: str, expected: str) -> None:
    assert slug(text) == expected
    assert expected == "" or re.fullmatch(ID_PATTERN, expected)


def test_long_texts_that_differ_at_their_ends_are_two_ids() -> None:
    one, other = slug("x" * 300 + "a"), slug("x" * 300 + "b")
    assert one != other
    assert len(one) == len(other) == 200
    assert re.fullmatch(ID_PATTERN, one)


def test_a_check_gets_the_labels_that_are_its_own() -> None:
    labels = {"__address__": "a", "__meta_x": "b", "job": "j", "instance": "i", "service": "s", "zone": "eu"}
    assert check_labels(labels) == {"zone": "eu"}


def test_groups_stand_in_the_order_of_their_source() -> None:
    names = ["b.json:0", "a.json:10", "a.json:9", "a.json:1"]
    groups = [TargetGroup(name, (), {}) for name in names]
    assert [group.source for group in in_order(groups)] == ["a.json:1", "a.json:9", "a.json:10", "b.json:0"]


def test_a_target_s_labels_win_over_its_group_s() -> None:
    group = TargetGroup("f:0", ({"__address__": "a", "env": "dev"},), {"env": "prod", "zone": "eu"})
    assert list(targets_of(group)) == [{"__address__": "a", "env": "dev", "zone": "eu"}]
