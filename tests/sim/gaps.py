"""Each gap that a process speaks of, held against what this machine did to it: the reason, the bounds, and that it is told once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.sim.account import Account
from tests.sim.machine import Machine
from watchbill.clock import Timeline
from watchbill.domain.messages import SlotsMissed
from watchbill.domain.opening import Opening
from watchbill.domain.results import GapReason
from watchbill.domain.units import SECOND, Instant, Micros

LONG: Micros = 19 * SECOND // 10
"""A stall that is shorter is none of two seconds, however late timers are besides."""
CERTAINLY_LONG: Micros = 22 * SECOND // 10
"""One that is longer is seen to be one, however late it was seen to begin."""
SAME_STALL: Micros = SECOND // 20
"""Stalls with no more in between are one: no timer fires there."""
TOLD_WITHIN_SECONDS = 1.5
LOOKS_EVERY: Micros = 13 * SECOND // 10
"""A gap reaches back to when it was last looked at what is due."""


class WatchedTimeline(Timeline):
    """``jumped`` is told from where to where it follows a wall clock that was set."""

    jumped: Callable[[Instant, Instant], None] = staticmethod(lambda before, after: None)

    def correct(self) -> Micros:
        before = self.now()
        if jump := super().correct():
            self.jumped(before, self.now())
        return jump


@dataclass
class Cause:
    """What calls for a gap. ``took``: how long it was; ``due``: on the loop's clock, when the gap is told at the latest."""

    reason: GapReason
    begin: Instant
    end: Instant
    took: Micros
    due: float
    last: Instant
    """Where it is several stalls, when the last of them began: it may have been looked at what is due in between."""
    sure: bool = True
    """Whether it cannot have been overlooked."""


@dataclass
class Gaps:
    """Of one process. ``breaks`` is told of what does not hold."""

    machine: Machine
    clock: WatchedTimeline
    account: Account
    opened: Callable[[], Opening]
    breaks: Callable[[str], None]
    told: int = 0
    _causes: list[Cause] = field(default_factory=list)
    _born: bool = False
    _begun: bool = False

    def __post_init__(self) -> None:
        self.lost = self.account.lost
        self.clock.jumped = self._jump
        self.machine.timeline, self.machine.lost = self.clock.now, self._stall

    # --- what happens -------------------------------------------------------------------------------

    def begins(self) -> None:
        """The scheduler runs."""
        self.lost.begins(self.clock.now())
        self._begun = True

    def ends(self) -> None:
        """Nothing is started any more."""
        if self.machine.timeline == self.clock.now:
            self.lost.dies(self.clock.now())
            self.machine.timeline, self.machine.lost = lambda: 0, lambda begin, end: None
        self._begun = False

    def registered(self, check_id: str, at: Instant) -> None:
        now = self.clock.now()
        if not self._born:
            if self.opened().accounted_until is not None:
                self.breaks("nobody says that there was no process for a while")
            self._is_born(at)
        if self._begun:
            self.lost.registered(check_id, at, now)

    def _stall(self, begin: Instant, end: Instant) -> None:
        self.lost.add(begin, end)
        due = self.machine.monotonic() + TOLD_WITHIN_SECONDS
        last = self._causes[-1] if self._causes else None
        if last is None or last.reason is GapReason.CLOCK or begin - last.end > SAME_STALL:
            if last is not None and last.reason is GapReason.STALL and last.took < LONG:
                self._causes.pop()
            last = Cause(GapReason.STALL, begin, end, 0, due, begin, sure=False)
            self._causes.append(last)
        last.took += end - begin
        last.last, last.end, last.due = begin, end, due
        last.sure |= self._begun and end - begin > CERTAINLY_LONG

    def _jump(self, before: Instant, after: Instant) -> None:
        self.lost.add(before, after)
        due = self.machine.monotonic()
        self._causes.append(Cause(GapReason.CLOCK, before, after, after - before, due, before))

    # --- what is said -------------------------------------------------------------------------------

    def hear(self, gap: SlotsMissed) -> None:
        self.told += 1
        match gap.reason:
            case GapReason.RESTART:
                self._restart(gap)
            case GapReason.DROPPED:
                self.breaks(f"{gap} is said aloud, though only history knows what it dropped")
            case _:
                self._passed(gap)

    def overdue(self) -> None:
        """A jump, or a stall that nobody could overlook, is spoken of soon."""
        if not self._begun:
            return
        for cause in self._causes:
            if cause.sure and self._is_over(cause):
                self.breaks(f"nobody speaks of a gap ({cause.reason}) from {cause.begin} to {cause.end}")

    def _is_over(self, cause: Cause) -> bool:
        """Whether the gap should have been told by now."""
        return self.machine.monotonic() > cause.due and not self.machine.stood_still(cause.due)

    def _restart(self, gap: SlotsMissed) -> None:
        since = self.opened().accounted_until
        if self._born:
            return self.breaks(f"{gap}, though this process was there")
        if (gap.start, gap.end) != (since, self.clock.now() + 1):
            self.breaks(f"{gap}, though history had come to {since}, and it is {self.clock.now()}")
        self._is_born(gap.end - 1)
        return None

    def _is_born(self, at: Instant) -> None:
        self._born = True
        self.account.born(at)

    def _passed(self, gap: SlotsMissed) -> None:
        causes = [cause for cause in self._causes if cause.took >= LONG]
        causes = [cause for cause in causes if cause.sure or not self._is_over(cause)]
        self._causes.clear()
        if gap.reason not in {cause.reason for cause in causes}:
            return self.breaks(f"{gap}, though there was no such reason")
        now, begin = self.clock.now(), min(cause.begin for cause in causes)
        sure = min((cause.last for cause in causes if cause.sure), default=causes[-1].last)
        if gap.end != now:
            self.breaks(f"{gap} does not end now, at {now}")
        if gap.start > sure:
            self.breaks(f"{gap} begins after {sure}, when nothing went on")
        waited = self.lost.was_busy_registering(gap.start)
        if self.lost.awake(waited, begin) > LOOKS_EVERY:
            self.breaks(f"{gap} begins long before {begin}, until when all went well")
        return None
