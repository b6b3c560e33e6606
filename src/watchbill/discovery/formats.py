"""Target groups as Prometheus' file_sd and http_sd write them, in JSON or YAML; read aside, since a stranger wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio.lowlevel
import yaml

from watchbill.domain.discovery import ADDRESS, TargetGroup
from watchbill.ports import Judge

MOST_TARGETS = 50_000
GROUPS_A_SLICE = 200
MOST_LABELS = 200
"""Of a group."""
MOST_CHARACTERS = 16_384
"""Of a name, a value or an address."""


class NoGroupsError(Exception):
    """It is no list of target groups; its text says why in one line."""


async def groups_in(
    content: bytes, source: str, *, form: str, labels: Mapping[str, str], judge: Judge
) -> tuple[TargetGroup, ...]:
    """The groups, read aside and unpacked a few at a time: ten thousand at once would hold the event loop.

    :raises NoGroupsError: it is no list of groups.
    :raises UnjudgedError: it could not be read.
    """
    slices = await judge(partial(sliced_groups, form=form, labels=labels), [content], source)
    if isinstance(slices, str):
        raise NoGroupsError(slices)
    groups: list[TargetGroup] = []
    for text in slices:
        groups += [TargetGroup(name, tuple(targets), own) for name, targets, own in json.loads(text)]
        await anyio.lowlevel.checkpoint()
    return tuple(groups)


def sliced_groups(content: bytes, source: str, *, form: str, labels: Mapping[str, str]) -> list[str] | str:
    """What :func:`read_groups` says, as JSON of so many groups each."""
    groups = read_groups(content, source, form=form, labels=labels)
    if isinstance(groups, str):
        return groups
    plain = [[group.source, group.targets, group.labels] for group in groups]
    return [
        json.dumps(plain[start : start + GROUPS_A_SLICE]) for start in range(0, len(plain), GROUPS_A_SLICE)
    ]


def read_groups(
    content: bytes, source: str, *, form: str, labels: Mapping[str, str]
) -> tuple[TargetGroup, ...] | str:
    """The groups, each named ``source:index`` and with these ``labels``, or what is wrong. ``form``: json or yaml."""
    try:
        document = _json(content) if form == "json" else _yaml(content)
    except ValueError as error:
        return f"{source} is not {form.upper()}: {' '.join(str(error).split())[:200]}"
    except RecursionError:
        return f"{source} is nested too deeply"
    try:
        return _groups(document, source, labels)
    except ValueError as error:
        return f"{source}: {error}"


def _json(content: bytes) -> Any:
    return json.loads(content.decode("utf-8-sig"))


def _yaml(content: bytes) -> Any:
    """Every scalar as the text that it was written as, which is what a label holds: ``no`` and ``010`` as well."""
    try:
        node = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    if node is None:
        raise ValueError("it is empty; an empty list is written []")
    return _plain(node, depth=0)


def _plain(node: Any, *, depth: int) -> Any:
    if depth > 4:
        raise ValueError("it is nested deeper than a list of groups")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, depth=depth + 1) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {_plain_key(key): _plain(value, depth=depth + 1) for key, value in node.value}
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def _plain_key(node: Any) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError("a key is text")  # noqa: TRY004 - one kind of mistake for whoever reads
    return str(node.value)


def _groups(document: Any, source: str, labels: Mapping[str, str]) -> tuple[TargetGroup, ...]:
    if not isinstance(document, list):
        raise ValueError("a list of groups is due, such as [{targets: [...], labels: {...}}]")  # noqa: TRY004
    groups, left = [], MOST_TARGETS
    for index, group in enumerate(document):
        found = _group(group, f"{source}:{index}", labels)
        left -= len(found.targets) + 1
        if left < 0:
            raise ValueError(f"more than {MOST_TARGETS:,} targets")
        groups.append(found)
    return tuple(groups)


def _group(group: Any, name: str, labels: Mapping[str, str]) -> TargetGroup:
    if not isinstance(group, dict):
        raise ValueError(f"group {name.rpartition(':')[2]} is not a mapping")  # noqa: TRY004
    unknown = group.keys() - {"targets", "labels"}
    if unknown:
        raise ValueError(f"group {name.rpartition(':')[2]} has more than targets and labels")
    targets, own = group.get("targets") or [], group.get("labels") or {}
    if not isinstance(targets, list) or not all(map(_is_text, targets)):
        raise ValueError(f"the targets of group {name.rpartition(':')[2]} are not a list of texts")
    if not isinstance(own, dict) or not all(_is_text(each) or each is None for each in own.values()):
        raise ValueError(f"the labels of group {name.rpartition(':')[2]} are not a mapping of texts")
    if len(own) > MOST_LABELS or not all(map(_is_text, own)):
        raise ValueError(
            f"group {name.rpartition(':')[2]} has more than {MOST_LABELS} labels, or too long ones"
        )
    return TargetGroup(
        name,
        tuple({ADDRESS: target} for target in targets),
        {**{key: value for key, value in own.items() if value}, **labels},
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_CHARACTERS
