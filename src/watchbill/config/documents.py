"""The files of a configuration as one set of sections, each key with the place that declared it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from watchbill.config.fields import SECTIONS, suggestion
from watchbill.config.files import FOLDER_DEFAULTS
from watchbill.config.mistakes import described
from watchbill.config.nodes import Entry, Mapping, Node, NotYamlError, Source, compose, shown_key
from watchbill.domain.errors import MOST_PROBLEMS, Problem

GOVERNED = tuple(name for name in SECTIONS if name != "version")
KINDS = {"checks": "check", "services": "service", "moved": "move", "slos": "objective", "discover": "block"}


@dataclass(slots=True)
class Sections:
    """What all files declare together. ``defaults`` are by file; ``folders`` by the folder they hold for."""

    merged: dict[str, Mapping] = field(default_factory=lambda: {name: {} for name in GOVERNED})
    defaults: dict[str, Entry] = field(default_factory=dict)
    folders: dict[tuple[str, ...], Entry] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def defaults_for(self, source: Source) -> list[Entry]:
        """The defaults that hold for checks of this file, the nearest first."""
        depths = [source.depth[:length] for length in range(len(source.depth), -1, -1)]
        found = [self.defaults.get(source.shown), *(self.folders.get(depth) for depth in depths)]
        return list({id(entry): entry for entry in found if entry is not None}.values())


def gather(files: Iterable[tuple[Source, str]]) -> Sections:
    sections = Sections()
    for source, text in files:
        sections.sources.append(source)
        root = _root(sections, source, text)
        if root is not None:
            _sort(sections, source, root)
    return sections


def _root(sections: Sections, source: Source, text: str) -> Mapping | None:
    try:
        root, problems = compose(text, source)
    except NotYamlError as error:
        sections.problems += error.problems
        return None
    sections.problems += problems
    if root is None or root.value is None:
        message = "the file is empty; it starts with `version: 1` and has a section such as `checks:`"
    elif not isinstance(root.value, dict):
        message = f"a file is a mapping that starts with `version: 1`, not {described(root)}"
    else:
        return root.value
    sections.problems.append(Problem(source.shown, 1, 1, message))
    return None


def _sort(sections: Sections, source: Source, root: Mapping) -> None:
    _check_version(sections, source, root)
    known = [name for name in root if name in GOVERNED]
    if not known and "version" in root:
        message = f"at least one section is due: {', '.join(GOVERNED)}"
        sections.problems.append(Problem(source.shown, 1, 1, message))
    for name, entry in root.items():
        if name in known:
            _section(sections, source, name, entry)
        elif name != "version" and len(sections.problems) < MOST_PROBLEMS:
            message = f"unknown section {shown_key(name)}{suggestion(name, SECTIONS) or '; known are ' + ', '.join(SECTIONS)}"
            sections.problems.append(entry.key.problem(message, name))


def _check_version(sections: Sections, source: Source, root: Mapping) -> None:
    version = root.get("version")
    if version is None:
        message = "`version` is missing; the file starts with `version: 1`"
        sections.problems.append(Problem(source.shown, 1, 1, message, "version"))
    elif version.value.value != 1 or type(version.value.value) is not int:
        sections.problems.append(version.value.problem("version must be 1", "version"))


def _section(sections: Sections, source: Source, name: str, entry: Entry) -> None:
    value = entry.value.value
    if not isinstance(value, dict):
        message = f"{name} must be a mapping, got {described(entry.value)}"
        sections.problems.append(entry.value.problem(message, name))
    elif name == "defaults":
        sections.defaults[source.shown] = entry
        if os.path.basename(source.shown) in FOLDER_DEFAULTS:  # noqa: PTH119 - a name, not a file
            sections.folders[source.depth] = entry
    else:
        _merge(sections, name, value)


def _merge(sections: Sections, name: str, value: Mapping) -> None:
    merged = sections.merged[name]
    for key, entry in value.items():
        first = merged.get(key)
        if first is None:
            merged[key] = entry
        elif first.key is not entry.key:
            sections.problems += _twice(name, key, first.key, entry.key)


def _twice(section: str, key: str, first: Node, second: Node) -> list[Problem]:
    what = f"{KINDS.get(section, section)} {shown_key(key)}"
    path = f"{section}.{key}"
    places = [f"{node.source.shown}:{node.line}:{node.column}" for node in (first, second)]
    return [
        first.problem(f"{what} is declared twice, also at {places[1]}", path),
        second.problem(f"{what} is declared twice, also at {places[0]}", path),
    ]
