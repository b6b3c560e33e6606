"""What unquoted text means under the core schema of YAML 1.2: ``yes`` and ``NO`` are text, and so is a date."""

from __future__ import annotations

import re
from typing import TypeAlias

MOST_DIGITS = 18
"""Of a whole number; longer ones are no number that anything here takes."""

Scalar: TypeAlias = str | int | float | bool | None

_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def resolve_plain(text: str) -> Scalar:
    """What unquoted text means under the core schema of YAML 1.2 (§10.3.2)."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if not text[0].isdigit() and text[0] not in "+-.":
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text


def _integer(text: str) -> int:
    if len(text) > 4 * MOST_DIGITS:  # int() refuses thousands of digits
        return int(10**MOST_DIGITS)
    return int(text, 0 if text[1:2] in ("o", "x") else 10)
