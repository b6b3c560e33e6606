"""Rules, the labels they are given, and what Prometheus' documentation says comes of them; ``None``: the target is left out."""

from __future__ import annotations

from typing import Any, NamedTuple


class Case(NamedTuple):
    name: str
    rules: list[dict[str, Any]]
    labels: dict[str, str]
    after: dict[str, str] | None


LABELS = {"a": "foo", "b": "bar", "c": "baz"}
CASES = [
    Case("replace writes a group", [{"source_labels": ["a"], "regex": "f(.*)", "target_label": "d", "replacement": "ch${1}-ch${1}"}], LABELS, {**LABELS, "d": "choo-choo"}),
    Case("replace without a match writes nothing", [{"source_labels": ["a"], "regex": "x(.*)", "target_label": "d", "replacement": "y"}], LABELS, LABELS),
    Case("a pattern fits the whole value", [{"source_labels": ["a"], "regex": "o", "target_label": "d", "replacement": "y"}], LABELS, LABELS),
    Case("values are joined", [{"source_labels": ["a", "b"], "regex": "foo;(.*)", "target_label": "d"}], LABELS, {**LABELS, "d": "bar"}),
    Case("values are joined as asked", [{"source_labels": ["a", "b"], "separator": "/", "target_label": "d"}], LABELS, {**LABELS, "d": "foo/bar"}),
    Case("a label that is absent is empty", [{"source_labels": ["nope", "a"], "target_label": "d"}], LABELS, {**LABELS, "d": ";foo"}),
    Case("an empty text removes the label", [{"source_labels": ["nope"], "target_label": "a"}], LABELS, {"b": "bar", "c": "baz"}),
    Case("an empty replacement removes the label", [{"target_label": "a", "replacement": ""}], LABELS, {"b": "bar", "c": "baz"}),
    Case("a constant is written", [{"target_label": "d", "replacement": "x"}], LABELS, {**LABELS, "d": "x"}),
    Case("a name comes from a group", [{"source_labels": ["a"], "regex": "(f).*", "target_label": "${1}x", "replacement": "y"}], LABELS, {**LABELS, "fx": "y"}),
    Case("a name that is none is not written", [{"source_labels": ["a"], "regex": "(f)(.*)", "target_label": "${3}", "replacement": "y"}], LABELS, LABELS),
    Case("a group that there is not is empty", [{"source_labels": ["a"], "target_label": "d", "replacement": "x${7}y"}], LABELS, {**LABELS, "d": "xy"}),
    Case("a named group", [{"source_labels": ["a"], "regex": "(?P<head>.).*", "target_label": "d", "replacement": "${head}$head"}], LABELS, {**LABELS, "d": "ff"}),
    Case("a number runs on into letters", [{"source_labels": ["a"], "target_label": "d", "replacement": "[$1x]"}], LABELS, {**LABELS, "d": "[]"}),
    Case("two dollars are one", [{"source_labels": ["a"], "target_label": "d", "replacement": "$$1"}], LABELS, {**LABELS, "d": "$1"}),
    Case("a dollar that begins nothing is itself", [{"source_labels": ["a"], "target_label": "d", "replacement": "a$-$"}], LABELS, {**LABELS, "d": "a$-$"}),
    Case("keep", [{"source_labels": ["a"], "regex": "fo+", "action": "keep"}], LABELS, LABELS),
    Case("keep leaves out", [{"source_labels": ["a"], "regex": "ba.", "action": "keep"}], LABELS, None),
    Case("drop", [{"source_labels": ["b", "c"], "regex": "bar;baz", "action": "drop"}], LABELS, None),
    Case("drop keeps", [{"source_labels": ["a"], "regex": "f", "action": "drop"}], LABELS, LABELS),
    Case("an action in any case", [{"source_labels": ["a"], "regex": "foo", "action": "DROP"}], LABELS, None),
    Case("keepequal", [{"source_labels": ["a"], "target_label": "b", "action": "keepequal"}], {"a": "x", "b": "x"}, {"a": "x", "b": "x"}),
    Case("keepequal leaves out", [{"source_labels": ["a"], "target_label": "b", "action": "keepequal"}], LABELS, None),
    Case("dropequal", [{"source_labels": ["a"], "target_label": "b", "action": "dropequal"}], {"a": "x", "b": "x"}, None),
    Case("dropequal of two that are absent", [{"source_labels": ["x"], "target_label": "y", "action": "dropequal"}], LABELS, None),
    Case("dropequal keeps", [{"source_labels": ["a"], "target_label": "b", "action": "dropequal"}], LABELS, LABELS),
    Case("hashmod", [{"source_labels": ["c"], "target_label": "d", "modulus": 1000, "action": "hashmod"}], LABELS, {**LABELS, "d": "976"}),
    Case("hashmod of a text of several bytes", [{"source_labels": ["a"], "target_label": "d", "modulus": 999, "action": "hashmod"}], {"a": "foo\nbärä"}, {"a": "foo\nbärä", "d": "?"}),
    Case("labelmap", [{"regex": "(b|c)", "replacement": "x_$1", "action": "labelmap"}], LABELS, {**LABELS, "x_b": "bar", "x_c": "baz"}),
    Case("labelmap of what a source says", [{"regex": "__meta_(my.*)", "action": "labelmap"}], {"__meta_my_bar": "aaa", "__meta_other": "b"}, {"__meta_my_bar": "aaa", "__meta_other": "b", "my_bar": "aaa"}),
    Case("labeldrop", [{"regex": "b.*|c", "action": "labeldrop"}], LABELS, {"a": "foo"}),
    Case("labelkeep", [{"regex": "a|__.*", "action": "labelkeep"}], LABELS, {"a": "foo"}),
    Case("lowercase", [{"source_labels": ["a"], "target_label": "d", "action": "lowercase"}], {"a": "FoO-Ä"}, {"a": "FoO-Ä", "d": "foo-ä"}),
    Case("uppercase", [{"source_labels": ["a"], "target_label": "a", "action": "uppercase"}], {"a": "FoO"}, {"a": "FOO"}),
    Case("rules see what the rules before them wrote", [{"source_labels": ["a"], "target_label": "d"}, {"source_labels": ["d"], "regex": "(.).*", "target_label": "e"}, {"regex": "d", "action": "labeldrop"}], LABELS, {**LABELS, "e": "f"}),
    Case("a rule that leaves out ends it", [{"source_labels": ["a"], "regex": "foo", "action": "drop"}, {"target_label": "d", "replacement": "x"}], LABELS, None),
    Case("a group that took no part is empty", [{"source_labels": ["a"], "regex": "(x)?foo", "target_label": "d", "replacement": "[$1]"}], LABELS, {**LABELS, "d": "[]"}),
    Case("an empty pattern fits what is empty", [{"source_labels": ["nope"], "regex": "", "target_label": "d", "replacement": "x"}], LABELS, {**LABELS, "d": "x"}),
]  # fmt: skip
