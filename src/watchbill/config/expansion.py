"""``for_each``: one declaration that stands for a check of every combination."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from itertools import product

from watchbill.config.interpolation import Values
from watchbill.config.mistakes import described
from watchbill.config.nodes import Entry, Mapping, Node, shown_key
from watchbill.domain.errors import Problem

MOST_COMBINATIONS = 10_000
MOST_NAMES = 20
MOST_ID_CHARACTERS = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Expanded:
    """One check of a declaration: its id, and what ``${each.NAME}`` means in it (``None`` without for_each)."""

    id: str
    each: Map[str, str] | None
    place: Node
    labels: Map[str, str] = field(default_factory=dict)
    """Those of a target, which are text and hold no references."""


def expand(check_id: str, entry: Entry, values: Values, problems: list[Problem]) -> Iterator[Expanded]:
    declared = entry.value.value
    for_each = declared.get("for_each") if isinstance(declared, dict) else None
    if for_each is None:
        yield Expanded(check_id, None, entry.key)
        return
    lists = _lists(for_each, f"checks.{check_id}.for_each", values, problems)
    if lists is None:
        return
    names = list(lists)
    for combination in product(*lists.values()):
        texts = [text for _, text in combination]
        place = combination[0][0] if len(combination) == 1 else for_each.key
        yield Expanded("-".join((check_id, *texts)), dict(zip(names, texts, strict=True)), place)


def _lists(
    for_each: Entry, path: str, values: Values, problems: list[Problem]
) -> dict[str, list[tuple[Node, str]]] | None:
    before = len(problems)
    mapping = for_each.value.value
    if not isinstance(mapping, dict) or not mapping:
        got = "an empty one" if isinstance(mapping, dict) else described(for_each.value)
        message = f"for_each must be a mapping of lists, such as {{region: [eu, us]}}, got {got}"
        problems.append(for_each.value.problem(message, path))
        return None
    if len(mapping) > MOST_NAMES:
        problems.append(for_each.key.problem(f"for_each has more than {MOST_NAMES} names", path))
        return None
    lists = _texts(mapping, path, values, problems)
    combinations = math.prod(len(texts) for texts in lists.values())
    if combinations > MOST_COMBINATIONS:
        message = f"for_each stands for {combinations:,} checks; at most {MOST_COMBINATIONS:,} are allowed"
        problems.append(for_each.key.problem(message, path))
    return lists if len(problems) == before else None


def _texts(
    mapping: Mapping, path: str, values: Values, problems: list[Problem]
) -> dict[str, list[tuple[Node, str]]]:
    lists: dict[str, list[tuple[Node, str]]] = {}
    for name, (key, value) in mapping.items():
        if not _NAME.fullmatch(name):
            message = f"{shown_key(name)} cannot be a name in for_each: use letters, digits and underscores"
            problems.append(key.problem(message, f"{path}.{name}"))
        elif not isinstance(value.value, list) or not value.value:
            got = "an empty one" if isinstance(value.value, list) else described(value)
            problems.append(
                value.problem(f"for_each.{name} must be a list of values, got {got}", f"{path}.{name}")
            )
        else:
            lists[name] = [
                (item, text)
                for item in value.value
                if (text := _text(item, f"{path}.{name}", values, problems)) is not None
            ]
    return lists


def _text(item: Node, path: str, values: Values, problems: list[Problem]) -> str | None:
    if isinstance(item.value, bool):
        return str(item.value).lower()
    if isinstance(item.value, int | float):
        return str(item.value)
    if not isinstance(item.value, str):
        problems.append(item.problem(f"a value of for_each is text or a number, got {described(item)}", path))
        return None
    text = values.interpolate(item.value, folder=item.source.folder)
    problems += [item.problem(problem, path) for problem in text.problems]
    if any(part.secret for part in text.parts):
        problems.append(
            item.problem("a value of for_each becomes part of an id and cannot be a secret", path)
        )
        return None
    if len(text.value) > MOST_ID_CHARACTERS:
        message = f"a value of for_each becomes part of an id and has at most {MOST_ID_CHARACTERS} characters"
        problems.append(item.problem(message, path))
        return None
    return text.value
