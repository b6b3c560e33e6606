"""The checks that blocks of discovery will make, known by how their ids are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from watchbill.domain.checks import Check
from watchbill.generate.promql import literal

_ANOTHER = "another-10"
Pieces: TypeAlias = tuple[str, ...]


def pattern(pieces: Pieces) -> str:
    """A regular expression that these ids match wholly, and no others."""
    return ".+".join(map(literal, pieces))


def fits(check_id: str, pieces: Pieces) -> bool:
    """Whether the id matches their pattern."""
    first, *rest = pieces
    if not rest:
        return check_id == first
    at = len(first)
    for piece in rest[:-1]:
        found = check_id.find(piece, at + 1)
        if found < 0:
            return False
        at = found + len(piece)
    return check_id.startswith(first) and check_id.endswith(rest[-1]) and at < len(check_id) - len(rest[-1])


@dataclass(frozen=True, slots=True)
class Family:
    """``pieces``: what stands in all of their ids, between what hangs on the target. ``like``: a check like them.

    ``besides``: the pieces of ids that look like theirs and are of others.
    """

    pieces: Pieces
    like: Check
    besides: tuple[Pieces, ...] = ()

    @property
    def pattern(self) -> str:
        """A regular expression that their ids match wholly."""
        return pattern(self.pieces)

    @property
    def examples(self) -> tuple[Check, Check]:
        """Two of them, for tests."""
        return self.like, self.like.model_copy(update={"id": _ANOTHER.join(self.pieces)})

    def may_meet(self, other: Family) -> bool:
        """Whether an id may look like those of both: their beginnings and their ends go together."""
        begins = sorted((self.pieces[0], other.pieces[0]), key=len)
        ends = sorted((self.pieces[-1], other.pieces[-1]), key=len)
        return begins[1].startswith(begins[0]) and ends[1].endswith(ends[0])

    @property
    def exactness(self) -> tuple[int, str]:
        return sum(map(len, self.pieces)), self.pattern


def apart(families: Sequence[Family], declared: Iterable[str]) -> tuple[Family, ...]:
    """The same, so that no check is of two: what is declared is not discovered, and who asks for more has it."""
    ids = sorted(declared)
    return tuple(replace(each, besides=_besides(each, families, ids)) for each in families)


def _besides(family: Family, families: Iterable[Family], declared: Iterable[str]) -> tuple[Pieces, ...]:
    alike = [(check_id,) for check_id in declared if fits(check_id, family.pieces)]
    closer = [
        other.pieces for other in families if other.exactness > family.exactness and other.may_meet(family)
    ]
    return (*alike, *closer)
