"""Validation errors in our own words, each at the place of the key or value that is wrong.

No message repeats a value of the file except names and numbers that a closed choice was compared with; what came out of
a reference is cut away from every message, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from watchbill.config.fields import CHECK_MODELS, keys_of, model_at, model_in, suggestion
from watchbill.config.interpolation import Interpolated
from watchbill.config.nodes import Node, shown_key
from watchbill.domain.errors import MOST_PROBLEMS, Problem
from watchbill.domain.fields import CheckFields

KEY_RULES = {
    "checks": "an id is lower-case letters, digits, dots, dashes and underscores, and starts with a letter or digit",
    "match": "match takes check, service, type and the labels that checks declare",
    "resource": "an attribute is letters, digits, dots, dashes and underscores, and starts with no digit",
    "labels": "a label is letters, digits and underscores, and starts with no digit",
}
_NAMED = re.compile(r"[a-z_]+(\.[A-Za-z0-9_-]+)?: (a|an|the|look-around) ")
_CUT = re.compile(r", got |, expected | \(|: |\"")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an error's path leads in the tree."""

    node: Node
    key: Node
    names: tuple[str, ...]
    """The keys on the way, as far as the tree goes."""
    rest: tuple[str | int, ...] = ()
    """What of the path is no part of the tree: a union's branch, a field that is absent."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A mapping that was validated: its node, the key it stands under, and its model."""

    node: Node
    key: Node
    model: type[BaseModel]
    path: str
    tainted: Mapping[int, Interpolated] = field(default_factory=dict)
    """Node (by ``id()``) -> its text, for nodes whose text came out of references."""
    known: tuple[str, ...] = ()
    """Keys that the mapping has beside those of the model."""

    def problems(self, error: ValidationError) -> list[Problem]:
        found: dict[tuple[int, bool], Problem] = {}
        details = error.errors(include_url=False, include_input=True, include_context=True)
        for detail in details[:MOST_PROBLEMS]:
            place = self._locate(detail["loc"])
            at_key = place.rest[-1:] == ("[key]",)
            problem = self._problem(detail, place)
            # Branches of a union each have an error of their own for one and the same value.
            slot = (id(place.node), at_key) if _is_branch(detail, place) else (id(detail), at_key)
            found.setdefault(slot, problem)
        return list(found.values())

    def problem(self, loc: tuple[str | int, ...], message: str) -> Problem:
        """A mistake that validation cannot see, at the value that ``loc`` leads to, or at the key of the whole."""
        place = self._locate(loc)
        at = place.node if place.names else place.key
        return at.problem(message, ".".join((self.path, *place.names)))

    def _locate(self, loc: tuple[str | int, ...]) -> Place:
        node, key, names = self.node, self.key, []
        for index, part in enumerate(loc):
            if isinstance(node.value, dict) and isinstance(part, str) and part in node.value:
                key, node = node.value[part]
                names.append(part)
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            elif loc[index : index + 1] == (0,) and not isinstance(node.value, list):
                continue  # one text where a list may stand
            else:
                return Place(node, key, tuple(names), loc[index:])
        return Place(node, key, tuple(names))

    def _problem(self, detail: ErrorDetails, place: Place) -> Problem:
        kind, name = detail["type"], place.names[-1] if place.names else ""
        path = ".".join((self.path, *place.names)).strip(".")
        if place.rest[-1:] == ("[key]",):
            return place.key.problem(_key_message(detail, place), path)
        if kind == "extra_forbidden":
            return place.key.problem(self._unknown(place), path)
        if kind == "missing":
            absent = str(place.rest[-1]) if place.rest else name
            return place.key.problem(self._missing(absent, place), f"{path}.{absent}".strip("."))
        if kind == "declared":
            return self._declared(detail, place, path)
        message = self.safe(place.node, _value_message(detail, place), else_named=_name(place))
        return place.node.problem(message, path)

    def _declared(self, detail: ErrorDetails, place: Place, path: str) -> Problem:
        key, text = detail["ctx"]["key"], detail["ctx"]["text"]
        mapping = place.node.value
        if isinstance(mapping, dict) and key in mapping:
            node = mapping[key].value
            return node.problem(self.safe(node, text, else_named=key or "this"), f"{path}.{key}".strip("."))
        return place.key.problem(text, path)

    def _missing(self, absent: str, place: Place) -> str:
        kind = _type_name(self.model)
        owner = place.names[-1] if place.names else kind
        return f"`{absent}` is missing" + (f"; {owner} needs it" if owner else "")

    def _unknown(self, place: Place) -> str:
        name = place.names[-1]
        known = self.known if len(place.names) == 1 else ()
        return unknown_key(name, model_at(self.model, place.names[:-1]), known)

    def safe(self, node: Node, message: str, *, else_named: str) -> str:
        """The message without what a reference may have put into it; the name of the key where that leaves nothing."""
        text = self.tainted.get(id(node))
        if text is None:
            return message
        # A cut at the key's own colon would leave no rule: `interval: a duration is ...`.
        name, colon, rest = message.partition(": ") if _NAMED.match(message) else ("", "", message)
        left = name + colon + _CUT.split(rest)[0].removesuffix(", such as ")
        if any(value in left for value in text.referenced):
            left = else_named
        return f"{left} (what {text.references} holds does not fit)"


MOST_LISTED = 16
ELSEWHERE = {
    "preferred_ip_protocol": "ip_family",
    "ip_protocol": "ip_family",
    "ip_protocol_fallback": "ip_family",
    "source_ip_address": "source_address",
    "proxy_url": "proxy",
}
"""What other exporters call a key."""


def unknown_key(name: str, model: type[BaseModel], known: Iterable[str] = ()) -> str:
    """``unknown key `timout`; did you mean `timeout`?``, or where else such a key belongs."""
    keys = [*keys_of(model), *known]
    text = f"unknown key {shown_key(name)}"
    for key, annotation in keys_of(model).items():
        child = model_in(annotation)
        if child is not None and name in keys_of(child):
            return f"{text}; did you mean `{key}.{name}`?"
    own = _type_name(model)
    if ELSEWHERE.get(name) in keys:
        return f"{text}; did you mean `{ELSEWHERE[name]}`?"
    if close := suggestion(name, keys):
        return text + close
    others = [kind for kind, other in CHECK_MODELS.items() if name in keys_of(other)]
    if own and others:
        return f"{text}; {own} has none, unlike {', '.join(others)}"
    return f"{text}; known are {', '.join(keys)}" if len(keys) <= MOST_LISTED else text


def _type_name(model: type[BaseModel]) -> str:
    return model.model_fields["type"].default if issubclass(model, CheckFields) else ""


def _is_branch(detail: ErrorDetails, place: Place) -> bool:
    return bool(place.rest) and detail["type"] not in ("missing", "declared")


def _key_message(detail: ErrorDetails, place: Place) -> str:
    name, within = place.names[-1], place.names[-2] if len(place.names) > 1 else ""
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    rule = KEY_RULES.get(within, KEY_RULES["checks"])
    if detail["type"] == "string_too_long":
        rule = f"at most {detail['ctx']['max_length']} characters are allowed"
    return f"{shown_key(name)} cannot be a key here: {rule}"


def _value_message(detail: ErrorDetails, place: Place) -> str:
    name = _name(place)
    kind, context = detail["type"], detail.get("ctx", {})
    if place.rest and kind.endswith(("_type", "_parsing", "_required", "_from_float")):
        text = f"must be text, a number, true, false or null, got {described(place.node)}"
    elif kind == "value_error":
        return _own_words(name, str(context["error"]))
    elif kind in _KINDS:
        got = _seen(place.node) if kind.startswith("int") else ""
        text = f"must be {_KINDS[kind]}{got or f', got {described(place.node)}'}{_advice(kind, place.node)}"
    elif kind in _RULES:
        text = f"{_RULES[kind](context)}{_seen(place.node)}"
    elif kind == "literal_error":
        text = _choice(str(context["expected"]), place.node)
    else:
        text = f"is not valid: {KEY_RULES['checks'] if kind == 'string_pattern_mismatch' else detail['msg']}"
    return f"{name} {text}"


def _name(place: Place) -> str:
    """The key's name, with the mapping's own where the key is the user's."""
    if not place.names:
        return "this"
    return ".".join(place.names[-2:] if place.names[-2:-1] in _USERS_OWN else place.names[-1:])


def _own_words(name: str, text: str) -> str:
    last = name.rpartition(".")[2]
    return text if last in text and text.startswith((f"{last} ", "a ", "an ", "the ")) else f"{name}: {text}"


_USERS_OWN = (("labels",), ("headers",), ("json",), ("services",), ("moved",), ("match",))
_KINDS = {
    **dict.fromkeys(("string_type", "string_sub_type"), "text"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "mapping_type"), "a mapping"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
}
_RULES: dict[str, Callable[[dict[str, Any]], str]] = {
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "greater_than": lambda context: f"must be over {context['gt']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "less_than": lambda context: f"must be under {context['lt']}",
    "finite_number": lambda _: "must be a finite number",
    "string_too_short": lambda _: "must not be empty",
    "string_too_long": lambda context: f"must be at most {context['max_length']} characters long",
    "too_short": lambda _: "must not be empty",
    "too_long": lambda context: f"must have at most {context['max_length']} items",
}


def described(node: Node) -> str:
    """What kind of value this is, without the value."""
    match node.value:
        case None:
            return "nothing"
        case bool():
            return "true" if node.value else "false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _advice(kind: str, node: Node) -> str:
    if kind.startswith("string") and isinstance(node.value, bool | int | float):
        return "; put it in quotes"
    if kind.startswith("bool") and isinstance(node.value, str):
        word = node.value.lower()
        if word in ("yes", "on", "y", "true"):
            return "; write true"
        if word in ("no", "off", "n", "false"):
            return "; write false"
    if isinstance(node.value, str) and not node.plain and node.value.isdigit():
        return "; leave the quotes out"
    return ""


def _seen(node: Node) -> str:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        return ""
    return f", got {node.value}"


def _choice(expected: str, node: Node) -> str:
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    text = f"must be {' or '.join(filter(None, [', '.join(choices[:-1]), choices[-1]]))}"
    if isinstance(node.value, str) and len(node.value) <= 40:
        return f"{text}, got {node.value}{suggestion(node.value, choices)}"
    return f"{text}{_seen(node) or f', got {described(node)}'}"
