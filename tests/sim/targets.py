"""What targets do, and what is wrong with this very machine: one thing for a while, then another."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Generic, TypeVar

from watchbill.domain.results import Reason

T = TypeVar("T")


class Behaviour(StrEnum):
    """What a target does."""

    ANSWERS = "answers"
    SLOW = "slow"
    """It answers, after some tenths of a second."""
    LATE = "late"
    """It answers at some time, which may be after the probe's timeout."""
    TRICKLES = "trickles"
    """It answers in many small pieces."""
    ERRORS = "errors"
    """It answers with an error of its own: 500, SERVFAIL, a certificate that is over."""
    GARBAGE = "garbage"
    REFUSES = "refuses"
    UNREACHABLE = "unreachable"
    HANGS = "hangs"
    """No connection comes about."""
    SILENT = "silent"
    """It accepts and says nothing."""
    RESETS = "resets"
    """It hangs up in the middle of its answer, after any of its bytes."""
    NO_NAME = "no name"
    NAME_HANGS = "name hangs"


class Trouble(StrEnum):
    """What is wrong with this very machine, for all targets alike."""

    NONE = "none"
    NO_RESOLVER = "no resolver"
    NO_ROUTE = "no route"
    NO_DESCRIPTORS = "no descriptors"


OWN_SIDE = {
    Trouble.NO_RESOLVER: Reason.RESOLVER,
    Trouble.NO_ROUTE: Reason.NETWORK,
    Trouble.NO_DESCRIPTORS: Reason.DESCRIPTORS,
}


@dataclass
class Course(Generic[T]):
    """What held from when on, the newest last."""

    begins: list[float]
    held: list[T]

    def change(self, at: float, now: T) -> None:
        if now is not self.held[-1]:
            self.begins.append(at)
            self.held.append(now)

    @property
    def present(self) -> T:
        return self.held[-1]

    def over(self, start: float, end: float) -> tuple[T, ...]:
        """All that held at some time in [start, end], each once."""
        first = max(bisect_right(self.begins, start) - 1, 0)
        last = bisect_right(self.begins, end)
        return tuple(dict.fromkeys(self.held[first:last]))


Drawn = tuple[tuple[Behaviour, int], ...]
WELL = (Behaviour.ANSWERS, Behaviour.SLOW, Behaviour.TRICKLES)
LIKELY: Drawn = (
    (Behaviour.ANSWERS, 30),
    (Behaviour.SLOW, 4),
    *((behaviour, 1) for behaviour in Behaviour if behaviour not in {Behaviour.ANSWERS, Behaviour.SLOW}),
)
TROUBLES = ((Trouble.NONE, 20), *((trouble, 5) for trouble in Trouble if trouble is not Trouble.NONE))


ECHOES = frozenset({*WELL, Behaviour.LATE})


def drawn(random: Random, weighted: tuple[tuple[T, int], ...]) -> T:
    return random.choices([one for one, _ in weighted], [weight for _, weight in weighted])[0]


@dataclass
class Target:
    """One host, by the name ``t<number>.test``. Its address ends with its number."""

    number: int
    course: Course[Behaviour]

    @property
    def address(self) -> str:
        return f"192.0.{2 + (self.number >> 8)}.{self.number & 255}"
