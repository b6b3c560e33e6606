"""When a check runs: a hashed offset and a grid, in integer microseconds.

Equal ids fire at equal instants on every machine and after every restart, and checks of equal interval
are spread over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from watchbill.domain.units import Instant, Micros


def offset_of(check_id: str, interval: Micros) -> Micros:
    """Where on its grid a check stands, in [0, interval)."""
    digest = blake2b(check_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % interval


def first_slot_after(instant: Instant, *, interval: Micros, offset: Micros) -> Instant:
    """The first slot strictly after ``instant``."""
    return instant + interval - (instant - offset) % interval


def last_slot_until(instant: Instant, *, interval: Micros, offset: Micros) -> Instant:
    """The last slot at or before ``instant``."""
    return instant - (instant - offset) % interval


def slots_between(after: Instant, until: Instant, *, interval: Micros, offset: Micros) -> int:
    """How many slots lie in (after, until]."""
    if until <= after:
        return 0
    return (until - offset) // interval - (after - offset) // interval


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time over which the slots of a check were expected: those in (opened_at, closed_at]."""

    check_id: str
    location: str
    interval: Micros
    offset: Micros
    opened_at: Instant
    closed_at: Instant | None = None

    def expected(self, after: Instant, until: Instant) -> int:
        """How many slots of this span lie in (after, until]."""
        end = until if self.closed_at is None else min(until, self.closed_at)
        return slots_between(max(after, self.opened_at), end, interval=self.interval, offset=self.offset)
