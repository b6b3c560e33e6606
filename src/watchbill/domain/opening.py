"""What a store remembers of one location when a process starts, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from watchbill.domain.discovery import TargetGroup
from watchbill.domain.plan import predecessor
from watchbill.domain.results import Result
from watchbill.domain.schedule import Span
from watchbill.domain.status import Status
from watchbill.domain.units import Instant

V = TypeVar("V")


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
    targets: Mapping[str, tuple[TargetGroup, ...]] = field(default_factory=dict)
    """What the source of each block of ``discover`` had last."""
    newest: Instant = 0
    """The latest instant that slots or spans of this location have reached."""

    def renamed(self, declared: Iterable[str], moved: Mapping[str, str]) -> Opening:
        """What is known under a name that was left while nobody ran, under the new one as well."""
        known = self.registered_at
        former = {
            check_id: old
            for check_id in declared
            if check_id not in known and (old := predecessor(check_id, moved, known)) is not None
        }

        def follow(found: Mapping[str, V]) -> dict[str, V]:
            return {**found, **{new: found[old] for new, old in former.items() if old in found}}

        return replace(
            self,
            spans=follow(self.spans),
            rows_since=follow(self.rows_since),
            latest=follow(self.latest),
            statuses=follow(self.statuses),
            registered_at=follow(self.registered_at),
            heartbeats=follow(self.heartbeats),
        )

    def reached(self) -> Instant:
        """The latest instant of all that is remembered, but for what was still open."""
        known = [
            self.newest,
            *(result.started_at for result in self.latest.values()),
            *(span.opened_at for span in self.spans.values()),
            *self.registered_at.values(),
            *self.heartbeats.values(),
        ]
        return max(known)

    def last_seen(self) -> dict[str, Instant]:
        """Of the checks that were expected until now: what was parked owes no heartbeats for that time."""
        seen = {**self.registered_at, **self.heartbeats}
        return {check_id: at for check_id, at in seen.items() if check_id in self.spans}

    def missed_until(self, until: Instant) -> dict[str, int]:
        """Slots that fell due while nobody ran, by check."""
        since = self.accounted_until
        if since is None:
            return {}
        return {
            check_id: max(0, span.expected(since - 1, until) - self.rows_since.get(check_id, 0))
            for check_id, span in self.spans.items()
        }
