"""What every error must be: at a place within a file, about a key, saying what to do, and silent on secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.fuzz.case import BESIDE, CANARY, ENVIRON
from tests.fuzz.verdict import Complaint
from watchbill.config.files import MOST_BYTES, UnreadableError, read_regular
from watchbill.config.nodes import Node, NotYamlError, Source, compose
from watchbill.domain.errors import Problem

LITERAL = f"{CANARY}-literal-9d2e"
SECRETS = (
    ENVIRON["TOKEN"],
    ENVIRON["API_PASSWORD"],
    "pass@word",
    "[two]: lines",
    BESIDE["secret.txt"].decode().strip(),
)
OF_PLACES = ("not a place", "no such file")
_BREAKS = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_SAYS = re.compile(
    r"must |at most|at least|did you mean|known are|is missing|due here|is due|put |write |use |set |leave |save |split|such as|is one of|takes|cannot|twice|is not known"
    r"|does not exist|cannot be read|is not a regular file|larger than|not declared|already|more than|only|stands inside|no anchor|holds|has none|duplicate|is reserved|runs upwards"
    r"|is declared|starts with|a status is|is text or|keep those|has no|try again|a proxy is|is one that|run upwards|is the path|is one line|is a name|is 1 to|section|circle|moves to itself|still declared|not YAML|is empty|needs it|fewer|longer than|mend|belongs? to|unknown key|unknown section|not a|not UTF-8|is shown|it has|names"
)
_SECRET_KEYS = re.compile(r"password|bearer|token|body|send|headers|url|proxy|basic|auth")
_OF_A_FILE = re.compile(
    r"not YAML|UTF-8|control character|file|\*|&|nested|alias|anchor|section|mistakes|aliases|tag|merge key|key is text|key is|whole number|NUL"
)


def complaints(problems: Iterable[Problem], root: Path) -> list[Complaint]:
    texts = _texts(root)
    lengths = {name: [len(line) for line in _BREAKS.split(text)] for name, text in texts.items()}
    found: list[Complaint] = []
    for problem in problems:
        found += _placed(problem, lengths, root)
        if "please report this" in problem.message:
            found.append(Complaint("traceback", str(problem)))
        if not _SAYS.search(problem.message):
            found.append(Complaint("says nothing to do", str(problem)))
        whole = (problem.line, problem.column) == (1, 1)
        if (
            not whole
            and not problem.key
            and "`" not in problem.message
            and not _OF_A_FILE.search(problem.message)
        ):
            found.append(Complaint("names no key", str(problem)))
        if any(secret in str(problem) for secret in SECRETS) or (
            LITERAL in problem.message and _only_in_secret_places(texts)
        ):
            found.append(Complaint("secret", str(problem)))
        if not problem.message.isprintable() or len(problem.message) > 600:
            found.append(Complaint("unprintable", repr(str(problem)[:700])))
    return found


def _texts(root: Path) -> dict[str, str]:
    texts = {}
    with suppress(OSError):  # what is not steady may be no folder any more
        files = [root] if root.is_file() else [*root.rglob("*.yaml"), *root.rglob("*.yml")]
        for file in files:
            with suppress(UnreadableError):
                texts[str(file)] = read_regular(str(file), MOST_BYTES).decode("utf-8-sig", "replace")
    return texts


def _placed(problem: Problem, lengths: Mapping[str, list[int]], root: Path) -> list[Complaint]:
    lines = lengths.get(problem.path)
    if lines is None:
        named = problem.path.startswith(str(root)) and (problem.line, problem.column) == (1, 1)
        return [] if named else [Complaint("no such file", str(problem))]
    if problem.line > len(lines) or not 1 <= problem.column <= lines[problem.line - 1] + 1:
        return [Complaint("not a place", str(problem))]
    return []


def _only_in_secret_places(texts: Mapping[str, str]) -> bool:
    """A secret that was written as a key, a type or an anchor is shown as what it is written as."""
    for name, text in texts.items():
        if LITERAL not in text:
            continue
        try:
            root, _ = compose(text, Source(name))
        except NotYamlError:
            return False
        if root is not None and any(not secret for secret in _secrecy(root, "", visited=set())):
            return False
    return True


def _secrecy(node: Node, path: str, *, visited: set[int]) -> list[bool]:
    """For each place that holds the secret: whether it is one for secrets."""
    if isinstance(node.value, str):
        return [_SECRET_KEYS.search(path) is not None] if LITERAL in node.value else []
    if id(node) in visited:
        return []
    visited.add(id(node))
    if isinstance(node.value, dict):
        keys = [False for name in node.value if LITERAL in name]
        return keys + [
            each
            for name, entry in node.value.items()
            for each in _secrecy(entry.value, f"{path}.{name}", visited=visited)
        ]
    items = node.value if isinstance(node.value, list) else []
    return [each for item in items for each in _secrecy(item, path, visited=visited)]
