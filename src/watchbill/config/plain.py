"""A node tree as plain values for validation, with every reference in it looked up and remembered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watchbill.config.interpolation import Interpolated, Values
from watchbill.config.nodes import Node
from watchbill.domain.errors import Problem


@dataclass(slots=True)
class Found:
    """Text that held references: where it stands in the tree and in the plain values."""

    node: Node
    text: Interpolated
    holder: dict[str, Any] | list[Any]
    at: str | int

    def put(self, value: object) -> None:
        self.holder[self.at] = value  # type: ignore[index]


@dataclass(slots=True)
class Plain:
    """Turns nodes into values. ``found`` is keyed by the dotted path, as specs are."""

    values: Values
    each: Mapping[str, str] | None = None
    found: dict[str, Found] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def mapping(self, node: Node, path: str = "") -> dict[str, Any]:
        plain: dict[str, Any] = {}
        if isinstance(node.value, dict):
            for name, entry in node.value.items():
                plain[name] = self._value(entry.value, plain, name, path)
        return plain

    def _value(self, node: Node, holder: dict[str, Any] | list[Any], at: str | int, path: str) -> Any:
        value = node.value
        if isinstance(value, str):
            return self._text(node, value, holder, at, path) if "$" in value else value
        if isinstance(value, dict):
            return self.mapping(node, _join(path, at))
        if isinstance(value, list):
            items: list[Any] = []
            for index, item in enumerate(value):
                items.append(self._value(item, items, index, _join(path, at)))
            return items
        return value

    def _text(
        self, node: Node, text: str, holder: dict[str, Any] | list[Any], at: str | int, path: str
    ) -> str:
        interpolated = self.values.interpolate(text, folder=node.source.folder, each=self.each)
        where = _join(path, at)
        self.problems += [node.problem(problem, where) for problem in interpolated.problems]
        if interpolated.interpolates:
            self.found[where] = Found(node, interpolated, holder, at)
        return interpolated.value


def _join(path: str, at: str | int) -> str:
    return f"{path}.{at}" if path else str(at)


def verbatim(node: Node) -> Any:
    """A node as plain values, its text as it was written: what looks like a reference is none."""
    if isinstance(node.value, dict):
        return {name: verbatim(entry.value) for name, entry in node.value.items()}
    if isinstance(node.value, list):
        return [verbatim(item) for item in node.value]
    return node.value
