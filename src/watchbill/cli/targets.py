"""From what people type after a command (a URL, ``host:port``, a host) to the check they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError

from watchbill.domain.checks import Check, parse_check
from watchbill.domain.errors import WatchbillError

SCHEMES = ("http", "https", "tcp", "tls", "icmp", "dns")
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/@?#\[\]]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Guess:
    """The check that a target means. ``declared`` is as in the file, without the id."""

    id: str
    declared: Mapping[str, Any] = field(repr=False)


class TargetError(WatchbillError):
    """A target that no type of check fits."""


def is_target(text: str) -> bool:
    """Whether it can only be a target, never the path of a file."""
    return "://" in text or _HOST_PORT.fullmatch(text) is not None


def guess(target: str) -> Guess:
    """The obvious check for a target.

    :raises TargetError: for an unknown scheme, or where a part is missing.
    """
    if not target.isprintable():
        raise TargetError("a target is printable text")
    if "://" in target:
        return _from_url(target)
    match = _HOST_PORT.fullmatch(target)
    if match is not None:
        return _streams("tcp", match[1].strip("[]"), int(match[2]))
    if "/" in target and target.partition("/")[0]:
        raise TargetError(f"{target}: add a scheme, such as https://{target}")
    return Guess(_slug(target), {"type": "icmp", "host": target})


def check_of(found: Guess) -> Check:
    """The check itself.

    :raises TargetError: saying in one line what is wrong with it.
    """
    try:
        return parse_check({"id": found.id, **found.declared})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise TargetError(first["msg"].removeprefix("Value error, ")) from None


def _from_url(target: str) -> Guess:
    try:
        url = urlsplit(target)
        host, port = url.hostname, url.port
    except ValueError:
        raise TargetError("not a url; it is written as in https://shop.example/") from None
    if url.scheme not in SCHEMES:
        raise TargetError(
            f"no check probes {url.scheme}://; there are {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    if not host:
        raise TargetError(f"the url names no host; it is written as in {url.scheme}://shop.example")
    return _by_scheme(url, host, port, target)


def _by_scheme(url: SplitResult, host: str, port: int | None, target: str) -> Guess:
    match url.scheme:
        case "tcp" if port is None:
            raise TargetError(f"a tcp target names a port, as in tcp://{host}:5432")
        case "tcp" | "tls":
            return _streams(url.scheme, host, port or 443)
        case "icmp":
            return Guess(_slug(host), {"type": "icmp", "host": host})
        case "dns":
            return _dns(url, host)
        case _:
            path = url.path.strip("/").replace("/", "-")
            return Guess(_slug(f"{host}-{path}" if path else host), {"type": "http", "url": target})


def _streams(kind: str, host: str, port: int) -> Guess:
    return Guess(_slug(f"{host}-{port}"), {"type": kind, "host": host, "port": port})


def _dns(url: SplitResult, host: str) -> Guess:
    """``dns://9.9.9.9/shop.example`` asks that server, ``dns://shop.example`` the system's."""
    name = url.path.strip("/")
    if not name:
        return Guess(_slug(f"{host}-dns"), {"type": "dns", "name": host})
    server = url.netloc.rpartition("@")[2]
    return Guess(_slug(f"{name}-dns"), {"type": "dns", "name": name, "server": server})


def _slug(text: str) -> str:
    """A stable id: lower-case letters, digits, dots and dashes."""
    slug = re.sub(r"[^a-z0-9.]+", "-", text.lower().removeprefix("www."))
    return slug.strip("-.")[:100] or "check"
