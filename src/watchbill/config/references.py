"""Which of a check's values came from secrets, and how they are shown instead."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import SecretStr

from watchbill.config.interpolation import MASK, Interpolated, Part, quoted_in_userinfo
from watchbill.config.plain import Found, Plain
from watchbill.domain.checks import Check, Http
from watchbill.domain.redaction import fold, folded

SHORTEST_SEARCHED = 4
SHOWN_FIELDS = ("labels", "description", "service")
"""What metrics and pages show of every check: no place for a secret."""
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)@", re.DOTALL)
_STAND_IN = "\ue000"


def with_references(check: Check, plain: Plain, userinfo: Mapping[str, str]) -> Check:
    """The check with ``references`` and ``interpolated`` filled in. ``userinfo`` is what the url declared of it."""
    if not plain.found and not userinfo:
        return check
    leaves = dict(_leaves(check.model_dump(by_alias=True, exclude_defaults=True), ""))
    references = {path: text for path, text in userinfo.items() if path in leaves}
    secrets: set[str] = set()
    unknown: set[str] = set()
    for path, found in plain.found.items():
        for leaf in _paths(path, leaves):
            shown = _shown(found.text, secret_field=isinstance(leaves[leaf], SecretStr))
            if shown is not None:
                references.setdefault(leaf, shown)
        secrets.update(found.text.secrets)
        unknown.update(part.value for part in found.text.parts if part.secret and not part.resolved)
        if any(isinstance(leaves[leaf], SecretStr) for leaf in _paths(path, leaves)):
            secrets.update(found.text.referenced)
    secrets |= _token_in_userinfo(check, userinfo)
    _mask_what_is_left(leaves, references, secrets | unknown)
    return check.model_copy(
        update={
            "references": references,
            "interpolated": tuple(SecretStr(secret) for secret in sorted(secrets)),
        }
    )


class _Place(NamedTuple):
    """A field that may hold ``user:password@``, and the paths of what becomes of it."""

    field: str
    bare: str
    username: str
    password: str


_PLACES = (
    _Place("url", "url", "auth.basic.username", "auth.basic.password"),
    _Place("proxy", "proxy.url", "proxy.username", "proxy.password"),
    _Place("proxy.url", "proxy.url", "proxy.username", "proxy.password"),
)


def split_userinfo(declared: dict[str, Any], plain: Plain) -> dict[str, str]:
    """Make what references put into ``user:password@`` of a url unable to end it, and say how both are shown."""
    shown: dict[str, str] = {}
    for place in _PLACES:
        url: Any = declared
        for name in place.field.split("."):
            url = url.get(name) if isinstance(url, dict) else None
        if isinstance(url, str) and "@" in url:
            shown |= _split(url, plain, place)
    return shown


def _split(url: str, plain: Plain, place: _Place) -> dict[str, str]:
    found = plain.found.get(place.field)
    if found is None:
        return {place.username: MASK} if _USERINFO.match(url) else {}
    taken = _taken_apart(found.text.parts)
    if taken is None:
        whole = found.text.shown_in_secret_field
        return dict.fromkeys((place.username, place.password), whole)
    found.put(taken.url)
    del plain.found[place.field]
    plain.found[place.bare] = Found(found.node, taken.bare, found.holder, found.at)
    plain.found[place.username] = Found(found.node, taken.user, {}, "")
    plain.found[place.password] = Found(found.node, taken.password, {}, "")
    return {
        place.username: taken.user.shown_in_secret_field,
        place.password: taken.password.shown_in_secret_field,
    }


class _Apart(NamedTuple):
    """A URL as it is read, and what was written of it: without its userinfo, and the two halves of that."""

    url: str
    bare: Interpolated
    user: Interpolated
    password: Interpolated


@lru_cache(maxsize=64)  # thousands of checks may ask one server with one password
def _taken_apart(parts: tuple[Part, ...]) -> _Apart | None:
    marked = "".join(_STAND_IN if part.reference else part.value for part in parts)
    match = _USERINFO.match(marked)
    if match is None:
        return None
    before, rest = _cut(parts, match.end(1))
    within, after = _cut(rest, match.end(2) - match.end(1))
    user, password = _at_colon(within)
    return _Apart(
        Interpolated(before).value + quoted_in_userinfo(within) + Interpolated(after).value,
        Interpolated((*before, *_without_at(after))),
        Interpolated(user),
        Interpolated(password),
    )


def _cut(parts: tuple[Part, ...], at: int) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Split before the character ``at``, where a reference counts as one character."""
    for index, part in enumerate(parts):
        length = 1 if part.reference else len(part.value)
        if at < length:
            left, right = Part(part.value[:at]), part._replace(value=part.value[at:])
            return (*parts[:index], left), (right, *parts[index + 1 :])
        at -= length
    return parts, ()


def _at_colon(parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    marked = "".join(_STAND_IN if part.reference else part.value for part in parts)
    user, colon, _ = marked.partition(":")
    before, rest = _cut(parts, len(user))
    return before, _cut(rest, len(colon))[1]


def _without_at(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return _cut(parts, 1)[1]


def _shown(text: Interpolated, *, secret_field: bool) -> str | None:
    if secret_field:
        return text.shown_in_secret_field
    if text.unresolved or any(part.secret for part in text.parts):
        return text.shown
    return None


def _paths(path: str, leaves: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a declared text ended up: itself, or the one item or rule that its short form stands for."""
    for candidate in (path, f"{path}.0", f"{path}.equals", f"{path}.url"):
        if candidate in leaves:
            return (candidate,)
    return ()


def _token_in_userinfo(check: Check, userinfo: Mapping[str, str]) -> set[str]:
    """A url's user without a password is a token, not a name."""
    if not isinstance(check, Http) or not userinfo:
        return set()
    basic = check.auth.basic if check.auth is not None else None
    pairs = [
        (basic.username, basic.password.get_secret_value()) if basic is not None else None,
        check.proxy.credentials if check.proxy is not None else None,
    ]
    return {username for username, password in filter(None, pairs) if username and not password}


def _mask_what_is_left(leaves: Mapping[str, Any], references: dict[str, str], secrets: set[str]) -> None:
    """Wherever else a secret ended up, as in a document that was built from several values."""
    long = [secret for secret in secrets if len(secret) >= SHORTEST_SEARCHED]
    searched = folded(
        [*long, *(json.dumps(secret)[1:-1] for secret in long)]
    )  # a JSON Schema is kept as text
    for path, leaf in leaves.items():
        if isinstance(leaf, str) and path not in references:
            text = fold(leaf)
            if any(secret in text for secret in searched):
                references[path] = MASK


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}.{index}")
    else:
        yield path, value
