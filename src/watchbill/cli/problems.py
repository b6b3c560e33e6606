"""Mistakes in a configuration, as people, tools and GitHub read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from watchbill.cli.terminal import count, paint, plain
from watchbill.domain.errors import Problem


def text_lines(problems: Sequence[Problem]) -> list[str]:
    """One line each, as a compiler writes them."""
    return [f"{paint(plain(_place(each)), 'cyan')}: {plain(each.message)}" for each in problems]


def summary(problems: Sequence[Problem]) -> str:
    files = {each.path for each in problems}
    return f"{count(len(problems), 'problem')} in {count(len(files), 'file')}"


def as_json(problem: Problem) -> dict[str, Any]:
    return {
        "path": problem.path,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "key": problem.key,
    }


def github_line(problem: Problem) -> str:
    """A workflow command that puts the mistake beside its line in a pull request."""
    place = f"file={_property(problem.path)},line={problem.line},col={problem.column}"
    return f"::error {place},title=watchbill::{_escaped(problem.message)}"


def _place(problem: Problem) -> str:
    return f"{problem.path}:{problem.line}:{problem.column}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
