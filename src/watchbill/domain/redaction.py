"""Secrets taken out of what a target says, in whatever form and case it repeats them."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

HIDDEN = "***"
LONGEST_SPELLED = 510
"""More characters than a message shows, so that beginning stands for all of a longer secret, and what follows is hidden with
it: a body of 40 KB in all its spellings took 1.4 MB and a tenth of a second. A multiple of three, as base64 has it."""
SHORTEST_CUT = 4
_IN_NAMES = re.compile(r'[,+"\\<>;]')
"""What a backslash stands before in a certificate's subject (RFC 4514 §2.4)."""


def fold(text: str) -> str:
    """In lower case, character by character: of the same length, and alike whatever stands beside it.

    Of all characters Python lowers two otherwise: U+0130 becomes two, and what a sigma becomes depends on its neighbours.
    """
    if text.isascii():
        return text.lower()
    return text.replace("\u0130", "i").replace("\u03a3", "\u03c3").replace("\u03c2", "\u03c3").lower()


def folded(texts: Iterable[str]) -> tuple[str, ...]:
    """Each once, the longest first, as :func:`redact` wants them."""
    return tuple(sorted(set(map(fold, texts)), key=lambda text: (-len(text), text)))


def spelled(texts: Iterable[str]) -> tuple[str, ...]:
    """Each also as URLs, HTML, JSON, base64 and names would hold it, and as our messages quote all these; folded."""
    return folded(
        quoted
        for text in texts
        for sent in _sent(text[:LONGEST_SPELLED])
        for shown in (sent, _in_dns(sent))
        for quoted in (shown, _in_json(shown, ascii_only=False))
    )


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """The text without any of ``secrets``, which are folded, in whatever case it has them."""
    if not secrets:
        return text
    seen = fold(text)
    for secret in secrets:
        at = seen.find(secret)
        while at >= 0:
            end = at + len(secret) if len(secret) < LONGEST_SPELLED else len(text)
            text = f"{text[:at]}{HIDDEN}{text[end:]}"
            seen = f"{seen[:at]}{HIDDEN}{seen[end:]}"
            at = seen.find(secret, at + len(HIDDEN))
    return _without_cut_ones(text, secrets) if "…" in text else text


def is_clean(text: str, secrets: tuple[str, ...]) -> bool:
    """Whether :func:`redact` would leave it, and whatever it is made of, as it is."""
    seen = fold(text)
    return not (secrets and "…" in text) and not any(secret in seen for secret in secrets)


def _without_cut_ones(text: str, secrets: tuple[str, ...]) -> str:
    """Also without what stands right before an ellipsis and begins like one of them."""
    pieces = text.split("…")
    for index, piece in enumerate(pieces[:-1]):
        seen = fold(piece)
        cut = max((_cut_length(seen, secret) for secret in secrets), default=0)
        if cut >= SHORTEST_CUT:
            pieces[index] = piece[:-cut] + HIDDEN
    return "…".join(pieces)


def _cut_length(piece: str, secret: str) -> int:
    """How long a beginning of the secret the piece ends with."""
    longest = min(len(secret) - 1, len(piece))
    return next((length for length in range(longest, 0, -1) if piece.endswith(secret[:length])), 0)


def _sent(text: str) -> Iterator[str]:
    """How a target may write it."""
    yield from (text, quote(text), quote(text, safe=""), quote_plus(text))
    for in_json in (_in_json(text, ascii_only=True), _in_json(text, ascii_only=False)):
        yield from (in_json, in_json.replace("/", "\\/"))
    in_html = html.escape(text)
    yield from (in_html, in_html.replace("&#x27;", "&#39;").replace("&quot;", "&#34;"))
    begins = text.encode()[:LONGEST_SPELLED]
    yield from (encode(begins).decode().rstrip("=") for encode in (b64encode, urlsafe_b64encode))
    yield _IN_NAMES.sub(r"\\\g<0>", text)


def _in_json(text: str, *, ascii_only: bool) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def _in_dns(text: str) -> str:
    """As the text of records is shown (RFC 1035 §5.1)."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 32 <= byte < 127 else f"\\{byte:03}"
        for byte in text.encode(errors="replace")
    )
