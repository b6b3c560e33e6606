"""Durations, sizes and instants as people write them, and as the program counts them.

Inside the program an instant is an integer number of microseconds since the Unix epoch and a span of
time is an integer number of microseconds, so that slot arithmetic is exact.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

Instant: TypeAlias = int
"""Microseconds since the Unix epoch."""

Micros: TypeAlias = int
"""A length of time in microseconds."""

SECOND: Micros = 1_000_000

_UNITS = {"ms": 1_000, "s": SECOND, "m": 60 * SECOND, "h": 3_600 * SECOND, "d": 86_400 * SECOND}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)")
DURATION_PATTERN = r"^([0-9]{1,12}(\.[0-9]{1,6})?(ms|s|m|h|d)){1,10}$"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST: Micros = 3_660 * 86_400 * SECOND


def parse_duration(text: object) -> timedelta:
    """Read ``500ms``, ``30s``, ``1h30m`` or ``7d``; over zero and at most ten years.

    :raises ValueError: for anything else.
    """
    if isinstance(text, timedelta):
        micros = to_micros(text)
    elif isinstance(text, str) and re.fullmatch(DURATION_PATTERN, text):
        micros = sum(round(float(number) * _UNITS[unit]) for number, unit in _PART.findall(text))
    else:
        shown = f", got {text!r}" if isinstance(text, int | float | str) else ""
        raise ValueError(f"a duration is a number with a unit, such as 500ms, 30s, 5m, 1h or 7d{shown}")
    if micros <= 0:
        raise ValueError(f"a duration must be over zero, got {text}")
    if micros > _LONGEST:
        raise ValueError(f"a duration must be at most ten years, got {text}")
    return timedelta(microseconds=micros)


def format_duration(value: timedelta) -> str:
    """The shortest form that reads back as the same length of time: ``90s`` is ``1m30s``."""
    left, parts = to_micros(value), []
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    if left:
        parts.append(f"{left / 1000:g}ms")
    return "".join(parts) or "0s"


def to_micros(value: timedelta) -> Micros:
    return value // timedelta(microseconds=1)


def to_datetime(instant: Instant) -> datetime:
    return _EPOCH + timedelta(microseconds=instant)


def to_instant(moment: datetime) -> Instant:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def isoformat(instant: Instant) -> str:
    """RFC 3339 in UTC with milliseconds, as people and tools read it."""
    return to_datetime(instant).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": DURATION_PATTERN, "examples": ["500ms", "30s", "5m", "1h", "7d"]}
    ),
]
