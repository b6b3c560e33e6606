"""Instants and numbers as they stand in a query string."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from watchbill.domain.units import SECOND, Instant, parse_duration, to_instant, to_micros

_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?", re.ASCII)


def parse_instant(text: str, *, now: Instant) -> Instant:
    """RFC 3339 (UTC where it names no zone), seconds since the epoch, or a duration back from now.

    :raises ValueError: for anything else.
    """
    if _SECONDS.fullmatch(text):
        return round(float(text) * SECOND)
    if text[-1:].isalpha() and text[-1:] not in "Zz":
        return now - to_micros(parse_duration(text))
    try:
        # A plus sign that was not encoded arrives as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise ValueError(
            f"an instant is RFC 3339 (2026-01-31T12:00:00Z), seconds since the epoch or a duration back "
            f"from now (24h), got {text!r}"
        ) from None
    try:
        return to_instant((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC))
    except OverflowError:
        raise ValueError(f"an instant lies in the years 1 to 9999 of UTC, got {text!r}") from None


def parse_limit(text: str, *, most: int) -> int:
    """:raises ValueError: where it is no number from 1 to ``most``."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise ValueError(f"limit is a number from 1 to {most}, got {text!r}")
    return int(text)
