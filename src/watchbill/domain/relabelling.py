"""Relabelling as Prometheus does it: the same keys, the same actions, the same answers (its documentation, ``relabel_config``).

What differs: patterns are RE2 as there, but a label's name stays within letters, digits and underscores, and no reference
is looked up in a rule, so that ``$1`` and ``${1}`` mean groups of the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import md5
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from watchbill.domain.effort import pay
from watchbill.domain.rules import Declared, compile_pattern, declared_problem, listed, pattern_cost

Action = Literal[
    "replace",
    "keep",
    "drop",
    "keepequal",
    "dropequal",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
]
ANYTHING = "(.*)"
FIRST_GROUP = "$1"
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_NAME_TEMPLATE = re.compile(r"(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+", re.ASCII)
_VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})", re.ASCII)
_TAKES_A_TARGET = ("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal")
_ONLY_NAMES = ("labeldrop", "labelkeep")
_ONLY_COMPARES = ("keepequal", "dropequal")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _valid_pattern(pattern: str, info: ValidationInfo) -> str:
    pay(info, pattern, pattern_cost)
    compile_pattern(pattern)
    return pattern


LabelText = Annotated[str, Field(max_length=1000)]


class Relabel(Declared):
    """One step of relabelling, with the keys of Prometheus' `relabel_config`."""

    source_labels: Annotated[tuple[LabelText, ...], BeforeValidator(listed), Field(max_length=64)] = ()
    """The labels whose values, joined by `separator`, are looked at."""
    separator: LabelText = ";"
    """What stands between the values of several labels."""
    regex: Annotated[str, Field(max_length=4096), AfterValidator(_valid_pattern)] = ANYTHING
    """A regular expression (RE2) that must fit the whole value."""
    modulus: Annotated[int, Field(ge=0, le=2**64 - 1, strict=True)] = 0
    """For `hashmod`: the hash of the value is taken modulo this."""
    target_label: LabelText = ""
    """The label to write, or to compare with."""
    replacement: LabelText = FIRST_GROUP
    """What is written; `$1` or `${1}` is what the first group of `regex` found."""
    action: Annotated[Action, BeforeValidator(_lower)] = "replace"
    """What to do: `replace`, `keep`, `drop`, `keepequal`, `dropequal`, `hashmod`, `labelmap`, `labeldrop`, `labelkeep`, `lowercase` or `uppercase`."""

    @model_validator(mode="after")
    def _fits_its_action(self) -> Relabel:
        if self.action in _TAKES_A_TARGET and not self.target_label:
            raise declared_problem("action", f"`target_label` is missing; {self.action} needs it")
        if self.action in _TAKES_A_TARGET and not self._names_a_label():
            raise declared_problem(
                "target_label",
                "target_label must be letters, digits and underscores, and start with no digit",
            )
        if self.action == "hashmod" and not self.modulus:
            raise declared_problem("action", "`modulus` is missing; hashmod needs one over 0")
        if self.action == "labelmap" and not _NAME_TEMPLATE.fullmatch(self.replacement):
            raise declared_problem(
                "replacement", "the replacement of labelmap must be the name of a label, such as $1"
            )
        self._has_only("lowercase uppercase keepequal dropequal".split(), "replacement")
        self._has_only(_ONLY_COMPARES, "regex", "modulus", "separator")
        self._has_only(_ONLY_NAMES, "source_labels", "target_label", "modulus", "separator", "replacement")
        return self

    def _names_a_label(self) -> bool:
        rule = _NAME_TEMPLATE if self.action == "replace" and "$" in self.target_label else _LABEL
        return rule.fullmatch(self.target_label) is not None

    def _has_only(self, actions: Iterable[str], *without: str) -> None:
        if self.action not in actions:
            return
        for name in without:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise declared_problem(name, f"{name} has no meaning for {self.action}; leave it out")


def relabelled(labels: Mapping[str, str], rules: Iterable[Relabel]) -> dict[str, str] | None:
    """The labels after all rules, without those that are empty; ``None`` where a rule dropped the target."""
    kept = {name: value for name, value in labels.items() if value}
    for rule in rules:
        if not _ACTIONS[rule.action](rule, kept):
            return None
    return kept


def _value(rule: Relabel, labels: Mapping[str, str]) -> str:
    return rule.separator.join(labels.get(name, "") for name in rule.source_labels)


def _set(labels: dict[str, str], name: str, value: str) -> None:
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


def _fits(rule: Relabel, text: str) -> Any:
    return whole(rule.regex).fullmatch(text)


@lru_cache(maxsize=1024)
def whole(pattern: str) -> Any:
    """Compiled so that a dot is any character, line breaks too, as Prometheus has it since 3.0."""
    return compile_pattern(f"(?s:{pattern})")


def _keep(rule: Relabel, labels: dict[str, str]) -> bool:
    return _fits(rule, _value(rule, labels)) is not None


def _drop(rule: Relabel, labels: dict[str, str]) -> bool:
    return _fits(rule, _value(rule, labels)) is None


def _keep_equal(rule: Relabel, labels: dict[str, str]) -> bool:
    return labels.get(rule.target_label, "") == _value(rule, labels)


def _drop_equal(rule: Relabel, labels: dict[str, str]) -> bool:
    return not _keep_equal(rule, labels)


def _replace(rule: Relabel, labels: dict[str, str]) -> bool:
    match = _fits(rule, _value(rule, labels))
    if match is not None:
        name = _expanded(rule.target_label, match)
        if _LABEL.fullmatch(name):
            _set(labels, name, _expanded(rule.replacement, match))
    return True


def _hash_mod(rule: Relabel, labels: dict[str, str]) -> bool:
    digest = md5(_value(rule, labels).encode(), usedforsecurity=False).digest()
    labels[rule.target_label] = str(int.from_bytes(digest[8:], "big") % rule.modulus)
    return True


def _label_map(rule: Relabel, labels: dict[str, str]) -> bool:
    for name, value in list(labels.items()):
        match = _fits(rule, name)
        if match is not None:
            _set(labels, _expanded(rule.replacement, match), value)
    return True


def _label_drop(rule: Relabel, labels: dict[str, str]) -> bool:
    for name in [name for name in labels if _fits(rule, name) is not None]:
        del labels[name]
    return True


def _label_keep(rule: Relabel, labels: dict[str, str]) -> bool:
    for name in [name for name in labels if _fits(rule, name) is None]:
        del labels[name]
    return True


def _lowercase(rule: Relabel, labels: dict[str, str]) -> bool:
    _set(labels, rule.target_label, _value(rule, labels).lower())
    return True


def _uppercase(rule: Relabel, labels: dict[str, str]) -> bool:
    _set(labels, rule.target_label, _value(rule, labels).upper())
    return True


_ACTIONS: Mapping[str, Callable[[Relabel, dict[str, str]], bool]] = {
    "replace": _replace,
    "keep": _keep,
    "drop": _drop,
    "keepequal": _keep_equal,
    "dropequal": _drop_equal,
    "hashmod": _hash_mod,
    "labelmap": _label_map,
    "labeldrop": _label_drop,
    "labelkeep": _label_keep,
    "lowercase": _lowercase,
    "uppercase": _uppercase,
}


def _expanded(template: str, match: Any) -> str:
    """Go's ``Regexp.Expand``: a name that is no group is empty, a ``$`` that begins no name is itself."""

    def put(variable: re.Match[str]) -> str:
        if variable[1]:
            return "$"
        name = variable[2] or variable[3]
        try:
            found = match.group(int(name) if name.isdigit() else name)
        except (IndexError, KeyError):
            found = None
        return found or ""

    return _VARIABLE.sub(put, template) if "$" in template else template
