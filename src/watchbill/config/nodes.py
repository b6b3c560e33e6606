"""YAML text as a tree of nodes, each of which knows its place; or the mistakes that keep it from being one.

The tree is built from the parser's events one by one, with bounds checked on the way, because composing
first and checking later is what nesting, alias and merge-key bombs count on. Scalars follow the core schema of
YAML 1.2: ``yes`` and ``NO`` are text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import yaml

from watchbill.config.scalars import MOST_DIGITS, Scalar, resolve_plain
from watchbill.domain.errors import MOST_PROBLEMS, Problem

DEEPEST = 100
LONGEST_MESSAGE = 500
MOST_NODES = 1_000_000
MOST_REPEATED = 500_000
"""How many nodes aliases and merge keys may add to those that are written."""
BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line to the parser."""
CHARACTERS_OF_A_VALUE = 64
"""A longer text counts as several values where it is repeated."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read: ``shown`` is how the user would name it, ``folder`` what its paths are relative to."""

    shown: str
    folder: str = ""
    depth: tuple[str, ...] = ()
    """The folders between the root and the file."""


class Node:
    """A value and where it stands. ``plain`` says that a scalar was written without quotes."""

    __slots__ = ("column", "line", "plain", "size", "source", "value")

    def __init__(self, value: Any, source: Source, line: int, column: int, *, plain: bool = False) -> None:
        self.value: Scalar | list[Node] | Mapping = value
        self.source = source
        self.line = line
        self.column = column
        self.size = 1
        self.plain = plain

    def problem(self, message: str, key: str = "") -> Problem:
        return Problem(self.source.shown, self.line, self.column, one_line(message), key)


class Entry(NamedTuple):
    """One ``key: value`` of a mapping."""

    key: Node
    value: Node


Mapping: TypeAlias = dict[str, Entry]


class NotYamlError(Exception):
    """The text cannot be read as a tree; the last of ``problems`` says where it stops being one."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems


def compose(text: str, source: Source) -> tuple[Node | None, list[Problem]]:
    """The root node (``None`` for an empty document) and every mistake that leaves a tree standing.

    :raises NotYamlError: where the text has no tree, or one past the bounds.
    """
    composer = _Composer(source, _Ends(text))
    parser = yaml.CSafeLoader(text)
    try:
        while parser.check_event():
            composer.accept(parser.get_event())
    except yaml.YAMLError as error:
        raise NotYamlError(*composer.problems, composer.syntax_problem(error)) from None
    return composer.root, composer.problems


class _Ends:
    """Where the text ends: the parser puts that in a line of its own, even where there is none."""

    def __init__(self, text: str) -> None:
        *before, last = BREAK.split(text)
        self._lines = len(before) + 1
        self._columns = len(last)

    def place(self, mark: Any) -> tuple[int, int]:
        """Line and column of a mark, from 1."""
        if mark.line < self._lines:
            return mark.line + 1, mark.column + 1
        return self._lines, self._columns + 1


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen yet."""

    node: Node
    anchor: str | None
    key: Node | None = None
    merges: list[Node] = field(default_factory=list)


class _Composer:
    def __init__(self, source: Source, ends: _Ends) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._source = source
        self._ends = ends
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0
        self._nodes = 0
        self._repeated = 0

    def accept(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._place(self._scalar(event), event.anchor)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop(
                        event, "a file holds exactly one document; put this one into a file of its own"
                    )

    def _node(self, event: Any, value: Any, *, plain: bool = False) -> Node:
        self._nodes += 1
        if len(self.problems) > MOST_PROBLEMS:
            self._stop(
                event, f"more than {MOST_PROBLEMS:,} mistakes; mend these first, what follows was not read"
            )
        if self._nodes > MOST_NODES:
            self._stop(event, f"a file holds at most {MOST_NODES:,} values; split it")
        line, column = self._ends.place(event.start_mark)
        return Node(value, self._source, line, column, plain=plain)

    def _stop(self, event: Any, message: str) -> None:
        found = Problem(self._source.shown, *self._ends.place(event.start_mark), message)
        raise NotYamlError(*self.problems, found)

    def syntax_problem(self, error: yaml.YAMLError) -> Problem:
        mark = getattr(error, "problem_mark", None)
        said = str(getattr(error, "problem", "") or str(error).splitlines()[0])
        line, column = (1, 1) if mark is None else self._ends.place(mark)
        return Problem(self._source.shown, line, column, f"not YAML: {_SAID.get(said, said)}")

    def _scalar(self, event: Any) -> Node:
        plain = event.implicit[0] and event.style in (None, "")
        node = self._node(event, event.value, plain=plain)
        node.size += len(event.value) // CHARACTERS_OF_A_VALUE
        if plain:
            node.value = resolve_plain(event.value)
        elif event.tag is not None and event.tag != "!":
            self._tagged(node, event.tag)
        if isinstance(node.value, int) and len(event.value) > MOST_DIGITS:
            self.problems.append(node.problem(f"a whole number has at most {MOST_DIGITS} digits"))
            node.value = 0
        elif isinstance(node.value, str) and "\0" in node.value:
            self.problems.append(node.problem("text must not contain the NUL character"))
            node.value = node.value.replace("\0", "")
        return node

    def _tagged(self, node: Node, tag: str) -> None:
        """``!!int "5"`` and its like; any other tag would ask for a type that this file does not have."""
        kind = _TAGS.get(tag)
        value = str(node.value)
        resolved = value if kind is str else resolve_plain(value)
        if kind is None:
            self.problems.append(
                node.problem(
                    f"{_unknown_tag(tag)} is not known here; leave it out, or put text that begins with ! in quotes"
                )
            )
        elif type(resolved) is not kind and not (kind is float and type(resolved) is int):
            self.problems.append(
                node.problem(f"this is not what its tag {_shown_tag(tag)} says; leave the tag out")
            )
        else:
            node.value = float(resolved) if kind is float else resolved  # type: ignore[arg-type]

    def _open(self, event: Any) -> None:
        if len(self._stack) >= DEEPEST:
            self._stop(event, f"nested more than {DEEPEST} levels deep")
        mapping = isinstance(event, yaml.MappingStartEvent)
        node = self._node(event, {} if mapping else [])
        expected = "tag:yaml.org,2002:map" if mapping else "tag:yaml.org,2002:seq"
        if event.tag not in (None, "!", expected):
            self.problems.append(
                node.problem(
                    f"{_unknown_tag(event.tag)} is not known here; leave it out, or put text that begins with ! in quotes"
                )
            )
        self._stack.append(_Open(node, event.anchor))

    def _close(self) -> None:
        opened = self._stack.pop()
        for merged in opened.merges:
            self._merge(opened.node, merged)
        self._place(opened.node, opened.anchor)

    def _alias(self, event: Any) -> None:
        if any(opened.anchor == event.anchor for opened in self._stack):
            self._stop(event, "the alias stands inside what it names")
        if event.anchor not in self._anchors:
            self._stop(event, "no anchor stands before this alias; put text that begins with * in quotes")
        node = self._anchors[event.anchor]
        self._repeat(event, node.size)
        self._place(node, None, at=event)

    def _repeat(self, event: Any, nodes: int) -> None:
        self._repeated += nodes
        if self._repeated > MOST_REPEATED:
            self._stop(event, f"aliases and merge keys add more than {MOST_REPEATED:,} values")

    def _place(self, node: Node, anchor: str | None, *, at: Any = None) -> None:
        """Put a finished node where it belongs: the root, a list, or a key or value of a mapping."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._stack:
            self.root = node
            return
        opened = self._stack[-1]
        opened.node.size += node.size
        if isinstance(opened.node.value, list):
            opened.node.value.append(node)
        elif opened.key is None:
            opened.key = node if at is None else self._at(at, node)
        else:
            self._pair(opened, opened.key, node)
            opened.key = None

    def _at(self, event: Any, node: Node) -> Node:
        return self._node(event, node.value, plain=node.plain)

    def _pair(self, opened: _Open, key: Node, value: Node) -> None:
        if key.plain and key.value == "<<":
            if opened.merges:
                self.problems.append(
                    key.problem("a second merge key; one takes a list: `<<: [*one, *other]`")
                )
            opened.merges += value.value if isinstance(value.value, list) else [value]
            return
        name = self._key(key)
        mapping = opened.node.value
        assert isinstance(mapping, dict)  # noqa: S101 - _place has told lists apart
        if name is None:
            return
        if name in mapping:
            first = mapping[name].key.line
            message = f"duplicate key {shown_key(name)}; it stands in line {first} already"
            self.problems.append(key.problem(message, name))
            return
        mapping[name] = Entry(key, value)

    def _key(self, key: Node) -> str | None:
        if isinstance(key.value, list | dict):
            self.problems.append(key.problem("a key is text, not a list or a mapping"))
            return None
        if not isinstance(key.value, str):
            written = "null" if key.value is None else str(key.value).lower()
            self.problems.append(key.problem(f'a key is text; put it in quotes: "{written}"'))
            return None
        return key.value

    def _merge(self, into: Node, merged: Node) -> None:
        mapping = into.value
        if not isinstance(mapping, dict) or not isinstance(merged.value, dict):
            self.problems.append(merged.problem("a merge key (<<) takes a mapping or a list of mappings"))
            return
        added = 0
        for name, entry in merged.value.items():
            if name not in mapping:
                mapping[name] = entry
                added += 1 + entry.value.size
        into.size += added
        self._repeated += added
        if self._repeated > MOST_REPEATED:
            message = f"aliases and merge keys add more than {MOST_REPEATED:,} values"
            raise NotYamlError(*self.problems, into.problem(message))


_TAGS: dict[str, type] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
    "tag:yaml.org,2002:bool": bool,
    "tag:yaml.org,2002:null": type(None),
}


def one_line(message: str) -> str:
    """A message as it can be printed: what was quoted in it may hold line breaks and terminal sequences."""
    line = "".join(character if character.isprintable() else "\ufffd" for character in message)
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def shown_key(name: str) -> str:
    """A key as it is quoted in messages, cut to a readable length."""
    return f"`{name if len(name) <= 60 else name[:59] + '…'}`"


def _shown_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:60]


def _unknown_tag(tag: str) -> str:
    """Not one of a user's own, ``!word``: that may be a password that was not put in quotes."""
    return f"the tag {_shown_tag(tag)}" if tag.startswith("tag:yaml.org,2002:") else "this tag"


_SAID = {
    "found character that cannot start any token": "a tab, @, ` or % cannot start a value; indent with spaces, or put the value in quotes",
    "mapping values are not allowed in this context": "a `key: value` cannot stand here; put text that holds a colon in quotes, and check the indentation",
    "did not find expected key": "no key where one is due; check the indentation and the quotes above",
    "could not find expected ':'": "a key without a colon; check the indentation and the quotes above",
    "did not find expected '-' indicator": "no `- item` where one is due; check the indentation",
    "did not find expected ',' or '}'": "a { that is not closed: a comma or } is due here",
    "did not find expected ',' or ']'": "a [ that is not closed: a comma or ] is due here",
    "did not find expected node content": "a value is missing here; close every [ and {",
    "found unexpected end of stream": "a quote that is not closed",
}
