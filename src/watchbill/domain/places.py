"""Where the web stands: how it is reached from outside, and below which path its routes lie."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Places:
    """``external_url`` is empty where nobody said it. Paths are empty or begin with a slash, and never end with one."""

    external_url: str = ""
    prefix: str = ""
    """Below it lie the routes."""
    links: str = ""
    """What the links of a page begin with: as a browser sees it, before any proxy took something away."""


NOWHERE = Places()


def places(external_url: str | None = None, route_prefix: str | None = None) -> Places:
    """As Prometheus has them: the prefix is the external URL's path unless said otherwise.

    :raises ValueError: the URL is no address of a web server, or the prefix no path; says how one looks.
    """
    url, path = _external(external_url or "")
    prefix = path if route_prefix is None else _path(route_prefix)
    return Places(url, prefix, path if url else prefix)


def _external(url: str) -> tuple[str, str]:
    if not url:
        return "", ""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if (
        parts.scheme not in {"http", "https"}
        or not host
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError("must be how it is reached from outside, such as https://watch.example/watchbill")
    path = _path(parts.path)
    return f"{parts.scheme}://{parts.netloc}{path}", path


def _path(text: str) -> str:
    path = text.strip("/")
    parts = path.split("/") if path else []
    if any(part in {"", ".", ".."} or not _plain(part) for part in parts):
        raise ValueError("must be a path of letters, digits and -._~, such as /watchbill")
    return "".join(f"/{part}" for part in parts)


def _plain(part: str) -> bool:
    return part.isascii() and all(character.isalnum() or character in "-._~" for character in part)
