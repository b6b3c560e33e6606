"""What a store remembers of one location when a process starts, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from watchbill.domain.results import Result
from watchbill.domain.schedule import Span
from watchbill.domain.status import Status
from watchbill.domain.units import Instant


@dataclass(frozen=True, slots=True)
class Opening:
    """What a store remembers of one location when a process starts.

    ``accounted_until``: the earliest slot that was still open at the last commit (``None``: a new store).
    ``spans``: the open ones. ``latest``: the newest success, failure or error of each check. ``rows_since``:
    how many slot rows each check has at or after ``accounted_until``. ``registered_at``: when each id was first
    declared. ``heartbeats``: the last ping.
    """

    accounted_until: Instant | None = None
    spans: Mapping[str, Span] = field(default_factory=dict)
    latest: Mapping[str, Result] = field(default_factory=dict)
    statuses: Mapping[str, Status] = field(default_factory=dict)
    rows_since: Mapping[str, int] = field(default_factory=dict)
    registered_at: Mapping[str, Instant] = field(default_factory=dict)
    heartbeats: Mapping[str, Instant] = field(default_factory=dict)
    newest: Instant = 0
    """The latest instant that slots or spans of this location have reached."""
