"""Secrets that can be told from anything else, in whatever form they come out."""

from __future__ import annotations

import html
import json
import random
import re
import string
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

MARK = "zQk7"
PLANTED = 0
"""The number of the one that is no secret and must be seen everywhere."""
CUT_OFF = 999
MAGIC_WITHIN = 4096
"""Where a database file says what it is, behind a response's head. What it holds is packed, in pieces of eight bytes too, so that the
planted one may lie there without its number; what is in its columns is searched beside."""
_ROUGH = "\"é\\/&=% +'<b>"
"""What is written otherwise in JSON, URLs and HTML."""
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)
_SWAPPED = _LOWER | _UPPER
_PLAIN = re.compile(rb"zqk7([0-9]{3})?|7kqz|7a516b37", re.IGNORECASE)
"""The mark as it is, backwards, and in hexadecimal."""
_ENCODED = re.compile(rb"elFrN")
"""In base64. A core holds the mark at three alignments, one of which always looks like this."""


@dataclass(frozen=True)
class Canary:
    """``core`` is letters and digits alone, so that it stays as it is in URLs, JSON and HTML."""

    number: int
    core: str

    @property
    def rough(self) -> str:
        return self.core + _ROUGH


def canary(number: int, randomness: random.Random) -> Canary:
    """The mark stands in it so often that eight characters of it always hold one, beside the number."""
    filling = "".join(randomness.choices(string.ascii_letters, k=4))
    return Canary(
        number, f"{MARK}{number:03}{filling[:1]}{MARK}{number:03}{filling[1:2]}{MARK}{number:03}{filling[2:]}"
    )


def spellings(value: str) -> list[str]:
    """How a target may send it back."""
    percent = quote(value)
    return [
        value,
        percent,
        percent.lower(),
        quote_plus(value),
        quote(value, safe=""),
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        json.dumps(value).replace("/", "\\/"),
        html.escape(value),
        html.escape(value).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
        b64encode(value.encode()).decode(),
        urlsafe_b64encode(value.encode()).decode().rstrip("="),
        value.translate(_SWAPPED),
        value.translate(_UPPER),
        value.translate(_LOWER),
    ]


def caught(output: bytes) -> Iterator[tuple[int, bytes]]:
    """The number of a canary (999 where it was cut off, or is written otherwise), and what stands around it."""
    for pattern in (_PLAIN, _ENCODED):
        for match in pattern.finditer(output):
            number = int(match[1]) if pattern is _PLAIN and match[1] else CUT_OFF
            yield number, output[max(0, match.start() - 60) : match.end() + 40]


@dataclass
class Catch:
    """Leaks by (output, number) with an example each, and the outputs in which the planted one was seen."""

    leaks: dict[tuple[str, int], bytes] = field(default_factory=dict)
    seeing: set[str] = field(default_factory=set)

    def add(self, name: str, output: bytes) -> None:
        packed = b"DUCK" in output[:MAGIC_WITHIN]
        for number, around in caught(output):
            if number == PLANTED:
                self.seeing.add(name)
            elif number != CUT_OFF or not packed:
                self.leaks.setdefault((name, number), around)
