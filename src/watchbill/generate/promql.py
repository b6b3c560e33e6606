"""Pieces of PromQL: strings, matchers, label sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_SPECIAL = frozenset("\\.+*?()|[]{}^$")


def quoted(text: str) -> str:
    """A string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def literal(text: str) -> str:
    """A regular expression that only this text matches."""
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in text)


def one_of(label: str, values: Sequence[str]) -> str:
    """A matcher that these values of a label meet, in their order."""
    if len(values) == 1:
        return f"{label}={quoted(values[0])}"
    return f"{label}=~{quoted('|'.join(map(literal, values)))}"


def braces(labels: Mapping[str, str]) -> str:
    """The labels of one series, as they stand behind its name."""
    inner = ", ".join(f"{name}={quoted(value)}" for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""
