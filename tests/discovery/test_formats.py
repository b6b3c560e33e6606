"""Target groups in JSON and YAML: what is one, and what is wrong with what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from watchbill.discovery.formats import MOST_TARGETS, read_groups
from watchbill.domain.discovery import TargetGroup

ONE = [{"targets": ["a:1", "b:1"], "labels": {"env": "prod"}}]


def read(content: str | bytes, form: str = "json") -> Any:
    raw = content.encode() if isinstance(content, str) else content
    return read_groups(raw, "hosts", form=form, labels={"__meta_filepath": "hosts"})


def addresses(found: Any) -> list[str]:
    assert isinstance(found, tuple), found
    return [target["__address__"] for group in found for target in group.targets]


def test_groups_are_named_by_their_place_and_carry_their_labels() -> None:
    assert read(json.dumps([*ONE, {"targets": ["c:1"]}])) == (
        TargetGroup(
            "hosts:0",
            ({"__address__": "a:1"}, {"__address__": "b:1"}),
            {"env": "prod", "__meta_filepath": "hosts"},
        ),
        TargetGroup("hosts:1", ({"__address__": "c:1"},), {"__meta_filepath": "hosts"}),
    )


def test_a_value_in_yaml_is_the_text_that_was_written() -> None:
    text = "- targets: [a:1, 80]\n  labels: {octal: 010, no: yes, float: 1.0, date: 2024-01-01, empty: '', none: null}\n"
    [group] = read(text, "yaml")
    assert [target["__address__"] for target in group.targets] == ["a:1", "80"]
    assert group.labels == {
        "octal": "010", "no": "yes", "float": "1.0", "date": "2024-01-01", "__meta_filepath": "hosts",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "form"), [("[]", "json"), ("[]", "yaml"), ("---\n[]\n", "yaml"), ("\ufeff[]", "json")]
)
def test_an_empty_list_is_no_targets(text: str, form: str) -> None:
    assert read(text, form) == ()


@pytest.mark.parametrize(
    ("text", "form", "why"),
    [
        ("", "json", "hosts is not JSON"),
        ("[{", "json", "hosts is not JSON"),
        ("\xff\xfe", "json", "hosts is not JSON"),
        ("null", "json", "a list of groups is due"),
        ("{}", "json", "a list of groups is due"),
        ("[null]", "json", "group 0 is not a mapping"),
        ('[{"targets": [], "labels": {}}, "a:1"]', "json", "group 1 is not a mapping"),
        ('[{"targets": "a:1"}]', "json", "the targets of group 0 are not a list of texts"),
        ('[{"targets": [1]}]', "json", "the targets of group 0 are not a list of texts"),
        ('[{"labels": []}]', "json", "not a list"),
        ('[{"targets": ["a:1"], "labels": {"a": 1}}]', "json", "the labels of group 0 are not a mapping of texts"),
        ('[{"targets": ["a:1"], "label": {}}]', "json", "group 0 has more than targets and labels"),
        ("[" * 100_000, "json", ""),
        ("", "yaml", "it is empty"),
        ("# nothing yet\n", "yaml", "it is empty"),
        ("- targets: [a:1", "yaml", "hosts is not YAML"),
        ("- targets: [{a: 1}]", "yaml", "are not a list of texts"),
        ("- [[[[[a]]]]]", "yaml", "nested deeper"),
        ("&a [*a]", "yaml", "nested deeper"),
        ("- targets: [a:1]\n- {{a: b}: c}\n", "yaml", "a key is text"),
        ("--- []\n--- []\n", "yaml", "hosts is not YAML"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_groups_says_why(text: str, form: str, why: str) -> None:
    raw = text.encode("latin-1") if text.startswith("\xff") else text
    found = read(raw, form)
    if why == "not a list":  # an empty list where a mapping may stand is nothing
        assert found == (TargetGroup("hosts:0", (), {"__meta_filepath": "hosts"}),)
        return
    assert isinstance(found, str)
    assert why in found
    assert "\n" not in found


def test_aliases_are_read_and_cannot_multiply_without_end() -> None:
    assert addresses(read("- targets: &t [a:1]\n- targets: *t\n", "yaml")) == ["a:1", "a:1"]
    group = "{targets: [" + ",".join(["a"] * 1000) + "]}"
    found = read(f"- &g {group}\n" + "- *g\n" * 100, "yaml")
    assert found == f"hosts: more than {MOST_TARGETS:,} targets"


def test_too_long_a_text_is_refused() -> None:
    assert "are not a list of texts" in str(read(json.dumps([{"targets": ["x" * 20_000]}])))
    labels = {f"l{number}": "x" for number in range(201)}
    assert "more than 200 labels" in str(read(json.dumps([{"targets": ["a"], "labels": labels}])))
