"""``${NAME}``, ``${NAME:-default}``, ``${file:/path}``, ``${each.NAME}`` and ``$$`` in text that was parsed already.

What a reference stands for is put in as text, once: it is not searched for references again, and no YAML in it is
read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

from watchbill.config.files import MOST_SECRET_BYTES, UnreadableError, read_regular
from watchbill.config.nodes import shown_key

_TOKEN = re.compile(r"\$(?:(\$)|(\{)([^{}]*)(\})?)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_WITH_DEFAULT = re.compile(r"\$\{[A-Za-z0-9_]+(?=:-)")
_EACH = re.compile(r"each\.([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_TELLING_NAME = re.compile("pass|secret|token|key|auth|cred", re.IGNORECASE)
_SCHEME_WORD = re.compile(r"(Bearer|Basic|Token|Digest|ApiKey)?\s*", re.IGNORECASE)
MASK = "(secret)"
LONGEST_QUOTED = 80
MOST_CHARACTERS = 1 << 20
"""That references may put into one text."""
MOST_CHARACTERS_IN_ALL = 64 << 20
"""Of all texts that hold references: a few bytes can stand for gigabytes. One outside of ASCII counts for four."""
REFERENCE_COST = 100
"""Characters that each reference counts for besides, since looking it up takes time too."""
_TOO_LONG = f"references put more than {MOST_CHARACTERS:,} characters into this text, or there are too many"
_TOO_MUCH = (
    f"all texts with references are longer than {MOST_CHARACTERS_IN_ALL:,} characters together; shorten them"
)
_NO_REFERENCE = (
    "a reference is ${NAME}, ${NAME:-default} or ${file:PATH}, and this is none; write $${ for a literal ${"
)
"""Without what stands there: a password may hold a ``${``."""
ANY_EACH: Mapping[str, str] = {}
"""Stands for the ``for_each`` of checks that are not known yet: defaults may name it."""


class Part(NamedTuple):
    """A stretch of text: what it stands for, and how it is shown. ``reference`` is empty for literal text."""

    value: str
    reference: str = ""
    secret: bool = False
    problem: str = ""
    """Why the reference has no value; the value is the reference itself then."""
    resolved: bool = True


class Interpolated(NamedTuple):
    """Text after interpolation, part by part. ``interpolates``: it held a reference, not only ``$$``."""

    parts: tuple[Part, ...]
    interpolates: bool = True

    @property
    def value(self) -> str:
        return "".join(part.value for part in self.parts)

    @property
    def shown(self) -> str:
        """Secrets by their reference, everything else resolved."""
        return "".join(
            part.reference if part.secret or not part.resolved else part.value for part in self.parts
        )

    @property
    def shown_in_secret_field(self) -> str:
        """References only: in a field that is a secret, literal text is one too, but for ``Bearer`` and its like."""
        return "".join(
            _without_default(part.reference) or _literal_in_secret(part.value) for part in self.parts
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(part.value for part in self.parts if part.secret and part.resolved and part.value)

    @property
    def referenced(self) -> tuple[str, ...]:
        """Everything that references resolved to, secret by name or not."""
        return tuple(part.value for part in self.parts if part.reference and part.resolved and part.value)

    @property
    def references(self) -> str:
        """Every reference once, for a message."""
        found = (_short(_without_default(part.reference)) for part in self.parts if part.reference)
        return ", ".join(dict.fromkeys(found))

    @property
    def unresolved(self) -> bool:
        return not all(part.resolved for part in self.parts)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(part.problem for part in self.parts if part.problem)


def is_secret_reference(token: str) -> bool:
    """Whether what ``${...}`` stands for is a secret wherever it stands."""
    inside = token.removeprefix("${").removesuffix("}")
    return inside.startswith("file:") or _TELLING_NAME.search(inside.partition(":-")[0]) is not None


def mentioned(texts: Iterable[str]) -> tuple[set[str], set[str]]:
    """The variables that references in these texts name, and the references to files as they are written."""
    names, files = set[str](), set[str]()
    for match in (match for text in texts for match in _TOKEN.finditer(text) if match[4]):
        if match[3].startswith("file:"):
            files.add(match[0])
        elif found := _NAME.fullmatch(match[3]):
            names.add(found[1])
    return names, files


def _without_default(reference: str) -> str:
    """``${NAME}`` of ``${NAME:-default}``: in a field that is a secret the default is one, too."""
    match = _WITH_DEFAULT.match(reference)
    return f"{match[0]}}}" if match else reference


def _literal_in_secret(text: str) -> str:
    return text if _SCHEME_WORD.fullmatch(text) else MASK


@dataclass(slots=True)
class Values:
    """Where references get their values.

    ``resolve_secrets`` off: what is missing is no problem and stands as its own reference.
    ``real`` maps a path into the generation of files that is being read.
    """

    environ: Mapping[str, str]
    resolve_secrets: bool = True
    real: Callable[[str], str] = str
    read: dict[str, Part] = field(default_factory=dict)
    """Files that were read, so that one load sees one content of each."""
    named: set[str] = field(default_factory=set)
    """Files that checks name: schemas, certificates, keys."""
    _known: dict[tuple[str, str], tuple[Interpolated, int]] = field(default_factory=dict)
    _left: int = MOST_CHARACTERS_IN_ALL
    _told: bool = False

    def interpolate(
        self, text: str, *, folder: str = "", each: Mapping[str, str] | None = None
    ) -> Interpolated:
        if self._left < 0:
            told, self._told = self._told, True
            return _refused("" if told else _TOO_MUCH)
        known = (text, folder)  # one token in the headers of thousands of checks
        if each is not None or known not in self._known:
            whole, cost = self._parsed(text, folder, each)
            if each is None:
                self._known[known] = whole, cost
        else:
            whole, cost = self._known[known]
        self._left -= cost
        return whole

    def _parsed(self, text: str, folder: str, each: Mapping[str, str] | None) -> tuple[Interpolated, int]:
        """And what it costs of the bound on all of them."""
        parts: list[Part] = []
        end = added = 0
        for match in _TOKEN.finditer(text):
            if match.start() > end:
                parts.append(Part(text[end : match.start()]))
            end = match.end()
            if match[1]:
                parts.append(Part("$"))
            elif not match[4]:
                parts.append(_not_closed(match[0], text[end:]))
            else:
                parts.append(self._reference(match[0], match[3], folder, each))
            added += len(parts[-1].value) + REFERENCE_COST
            if added > MOST_CHARACTERS:
                return _refused(_TOO_LONG), added
        if end < len(text):
            parts.append(Part(text[end:]))
        whole = Interpolated(tuple(parts), "${" in text.replace("$$", ""))
        return whole, added + sum(len(part.value) * (1 if part.value.isascii() else 4) for part in parts)

    def _reference(self, token: str, inside: str, folder: str, each: Mapping[str, str] | None) -> Part:
        if inside.startswith("file:"):
            path = os.path.join(folder, inside.removeprefix("file:"))  # noqa: PTH118 - text in, text out
            if path not in self.read:
                self.read[path] = self._file(token, path)
            return self.read[path]._replace(reference=token)
        if match := _EACH.fullmatch(inside):
            return _each(token, match[1], match[2], each)
        if match := _NAME.fullmatch(inside):
            return self._variable(token, match[1], match[2])
        return _broken(
            token,
            _NO_REFERENCE,
        )

    def _variable(self, token: str, name: str, default: str | None) -> Part:
        secret = _TELLING_NAME.search(name) is not None
        reference = f"${{{name}}}" if secret else token
        value = self.environ.get(name)
        if default is not None and not value:
            return Part(default, reference, secret)
        if value is None:
            problem = f"the environment variable {_short(name)} is not set; set it, or give a default: ${{{_short(name)}:-...}}"
            return self._missing(token, reference, secret, problem)
        if not storable(value):
            return _broken(token, f"the environment variable {_short(name)} is not UTF-8 text", secret=secret)
        return Part(value, reference, secret)

    def _file(self, token: str, path: str) -> Part:
        try:
            text = read_regular(self.real(path), MOST_SECRET_BYTES).decode("utf-8")
        except UnreadableError as error:
            return self._missing(token, token, True, f"the file of {_short(token)} {error}")
        except UnicodeDecodeError:
            return _broken(token, f"the file of {_short(token)} is not UTF-8 text", secret=True)
        if not storable(text):
            return _broken(token, f"the file of {_short(token)} holds a NUL character", secret=True)
        text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
        return Part(text, token, True)

    def _missing(self, token: str, reference: str, secret: bool, problem: str) -> Part:
        return Part(token, reference, secret, problem if self.resolve_secrets else "", resolved=False)


class Labels(dict[str, str]):
    """Those of a target, which ``${each.NAME}`` stands for in the check that is made of it."""


def _each(token: str, name: str, default: str | None, each: Mapping[str, str] | None) -> Part:
    if each is ANY_EACH:
        return Part(token, token, resolved=False)
    if each is None:
        return _broken(token, f"{_short(token)} stands only in a check that has for_each")
    if isinstance(each, Labels):
        return _label(token, name, default, each)
    if default is not None:
        return _broken(token, f"for_each gives {shown_key(name)} a value each time; leave the default out")
    if name not in each:
        return _broken(
            token, f"for_each has no {shown_key(name)}; it has {', '.join(map(shown_key, sorted(each)))}"
        )
    return Part(each[name])


def _label(token: str, name: str, default: str | None, labels: Labels) -> Part:
    value = labels.get(name) or default
    if value is None:
        return _broken(token, f"the target has no label {shown_key(name)}")
    return Part(value) if storable(value) else _broken(token, f"the label {shown_key(name)} is not text")


def _not_closed(token: str, rest: str) -> Part:
    if rest.startswith("{"):
        return _broken(token, "a ${ holds another brace; a reference cannot stand in a reference")
    return _broken(token, "a ${ is not closed; write $${ for a literal ${")


def _short(reference: str) -> str:
    """As it is quoted in a message, which says more than that: with the end of a path, which tells files apart."""
    if len(reference) <= LONGEST_QUOTED:
        return reference
    return f"{reference[: LONGEST_QUOTED // 2]}…{reference[1 - LONGEST_QUOTED // 2 :]}"


def _refused(problem: str) -> Interpolated:
    return Interpolated((Part("", problem=problem, resolved=False),))


def _broken(token: str, problem: str, *, secret: bool = False) -> Part:
    return Part(token, token, secret, problem, resolved=False)


def storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def quoted_in_userinfo(parts: tuple[Part, ...]) -> str:
    """The text with what references stand for percent-encoded, so that a ``/`` or ``@`` in a password stays in it."""
    return "".join(
        quote(part.value, safe=":" if part.resolved else "") if part.reference else part.value
        for part in parts
    )
