"""The time in which the application could not act, on its own timeline: stalls, jumps of the clock, and while there was no process."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from watchbill.domain.units import SECOND, Instant, Micros

LATENESS: Micros = SECOND // 2
"""A slot that could have been started for so long would have been."""
LONGEST_PROBE: Micros = 5 * SECOND // 2
"""A timeout, and what else delays its end."""


@dataclass
class LostTime:
    """Told of each stretch as it ends; of a slot that nobody ran it knows whether anybody could have."""

    _begins: list[Instant] = field(default_factory=list)
    _ends: list[Instant] = field(default_factory=list)
    """Of stretches that do not overlap, in order."""
    _deaths: list[Instant] = field(default_factory=list)
    _absences: list[tuple[Instant, Instant]] = field(default_factory=list)
    _held: dict[str, list[tuple[Instant, Instant]]] = field(default_factory=lambda: defaultdict(list))
    """By check: registered as of this instant, at that one."""
    _dead_since: Instant | None = None
    _starting_since: Instant | None = None

    # --- what happens -------------------------------------------------------------------------------

    def add(self, begin: Instant, end: Instant) -> None:
        while self._ends and self._ends[-1] >= begin:
            begin, end = min(begin, self._begins.pop()), max(end, self._ends.pop())
        if end > begin:
            self._begins.append(begin)
            self._ends.append(end)

    def born(self, at: Instant) -> None:
        """A process begins its timeline, which may be behind that of the one before."""
        while self._begins and self._begins[-1] >= at:
            self._begins.pop()
            self._ends.pop()
        if self._ends:
            self._ends[-1] = min(self._ends[-1], at)
        self._deaths = [min(death, at) for death in self._deaths]
        if self._dead_since is not None and self._dead_since < at:
            self._absences.append((self._dead_since, at))
            self.add(self._dead_since, at)
        self._dead_since, self._starting_since = None, at

    def begins(self, now: Instant) -> None:
        """From here on slots are started."""
        if self._starting_since is not None:
            self.add(self._starting_since, now)
        self._starting_since = None

    def dies(self, now: Instant) -> None:
        """From here on none are."""
        self.begins(now)
        self._deaths.append(now)
        self._dead_since = now if self._dead_since is None else self._dead_since

    def registered(self, check_id: str, at: Instant, now: Instant) -> None:
        if now > at:
            self._held[check_id].append((at, now))

    # --- what follows -------------------------------------------------------------------------------

    def awake(self, begin: Instant, end: Instant) -> Micros:
        """For how long it could act in between."""
        place, slept = bisect_right(self._ends, begin), 0
        while place < len(self._begins) and self._begins[place] < end:
            slept += min(end, self._ends[place]) - max(begin, self._begins[place])
            place += 1
        return max(0, end - begin - slept)

    def able_since(self, check_ids: Iterable[str], slot: Instant) -> Instant:
        """From when on that slot could be run: a registration that takes its time makes slots late."""
        held = (one for check_id in check_ids for one in self._held.get(check_id, ()))
        return max((now for at, now in held if at < slot <= now), default=slot)

    def was_busy_registering(self, at: Instant) -> Instant:
        """Until when, if at that instant slots waited for a registration."""
        held = (one for registrations in self._held.values() for one in registrations)
        return max((now for since, now in held if since <= at <= now), default=at)

    def passed_over(self, check_ids: Iterable[str], slot: Instant, interval: Micros) -> bool:
        """Whether its successor fell due before it could be started."""
        return self.awake(self.able_since(check_ids, slot), slot + interval) <= LATENESS

    def went_with_a_process(self, check_ids: Iterable[str], slot: Instant, interval: Micros) -> bool:
        """Whether no process was there, or the one that was died before that slot had to end."""
        if any(since < slot <= until for since, until in reversed(self._absences)):
            return True
        death = next((death for death in self._deaths if death >= slot), None)
        if death is None:
            return False
        return self.awake(self.able_since(check_ids, slot), death) <= interval + LONGEST_PROBE
