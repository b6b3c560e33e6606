"""Desired minus actual: what a configuration would change, and the commands that make it so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from watchbill.domain.specs import Spec
from watchbill.domain.units import SECOND

DAY_SECONDS = 86_400
MASS_DELETE_FLOOR = 10


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field's masked value before and after; ``None`` is absent (the default holds)."""

    path: str
    before: Any
    after: Any
    secret: bool = False
    """The shown text is the same, or must not be shown: the secret behind it changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """A check that is kept under its id, or renamed, with the fields that differ."""

    check_id: str
    fields: tuple[FieldChange, ...]
    moved_from: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What must happen for the running checks to be the declared ones. Ids are sorted."""

    added: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    removed: tuple[str, ...] = ()
    moved: tuple[Change, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.added or self.changed or self.removed or self.moved)

    def deletes_most_of(self, running: int) -> bool:
        """More than half of what runs, and more than ten."""
        return len(self.removed) > MASS_DELETE_FLOOR and 2 * len(self.removed) > running

    def counts(self) -> dict[str, int]:
        return {
            "added": len(self.added),
            "changed": len(self.changed),
            "removed": len(self.removed),
            "moved": len(self.moved),
        }


@dataclass(frozen=True, slots=True)
class Outline:
    """A plan before anything is compared: ids, sorted. ``renames``: new id -> old id."""

    added: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    renames: Mapping[str, str]


def outline(desired: Mapping[str, Any], actual: Mapping[str, Any], moved: Mapping[str, str]) -> Outline:
    """``moved`` maps old ids to new ones and counts only where the old one runs."""
    renames = {new: old for old, new in effective_moves(moved, desired, actual).items()}
    return Outline(
        added=tuple(sorted(desired.keys() - actual.keys() - renames.keys())),
        kept=tuple(sorted(desired.keys() & actual.keys())),
        removed=tuple(sorted(actual.keys() - desired.keys() - set(renames.values()))),
        renames=dict(sorted(renames.items())),
    )


def diff(desired: Mapping[str, Spec], actual: Mapping[str, Spec], moved: Mapping[str, str]) -> Plan:
    """Compare by id. ``moved`` maps old ids to new ones and counts only where the old one runs."""
    found = outline(desired, actual, moved)
    changed = []
    for check_id in found.kept:
        fields = field_changes(actual[check_id], desired[check_id])
        if fields:
            changed.append(Change(check_id, fields))
    return Plan(
        added=found.added,
        changed=tuple(changed),
        removed=found.removed,
        moved=tuple(
            Change(new, field_changes(actual[old], desired[new]), moved_from=old)
            for new, old in found.renames.items()
        ),
    )


def effective_moves(
    moved: Mapping[str, str], desired: Mapping[str, Any], actual: Mapping[str, Any]
) -> dict[str, str]:
    """The renames that apply now: the old id runs and is no longer declared, the new one is and does not."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for old in moved:
        if old in desired or old not in actual:
            continue
        new, seen = moved[old], {old}
        while new in moved and new not in desired and new not in seen:
            seen.add(new)
            new = moved[new]
        if new in desired and new not in actual and new not in taken:
            found[old] = new
            taken.add(new)
    return found


def predecessor(check_id: str, moved: Mapping[str, str], known: Collection[str]) -> str | None:
    """The nearest former name of a check that is known, or the nearest one if none is."""
    former = {new: old for old, new in moved.items()}
    nearest, seen = former.get(check_id), {check_id}
    name = nearest
    while name is not None and name not in seen:
        if name in known:
            return name
        seen.add(name)
        name = former.get(name)
    return nearest


def field_changes(before: Spec, after: Spec) -> tuple[FieldChange, ...]:
    changes = []
    for path in sorted(before.fields.keys() | after.fields.keys()):
        old, new = before.fields.get(path), after.fields.get(path)
        old_secret, new_secret = before.secrets.get(path), after.secrets.get(path)
        rotated = old_secret is not None and new_secret is not None and old_secret != new_secret
        if old != new:
            changes.append(FieldChange(path, old, new))
        elif rotated:
            changes.append(FieldChange(path, old, new, secret=True))
    return tuple(changes)


@dataclass(frozen=True, slots=True)
class Load:
    """What a set of checks costs: probes a second, rows of history a day, Prometheus series."""

    checks: int = 0
    checks_per_second: float = 0.0
    rows_per_day: int = 0
    series: int = 0

    def minus(self, other: Load) -> Load:
        return Load(
            self.checks - other.checks,
            self.checks_per_second - other.checks_per_second,
            self.rows_per_day - other.rows_per_day,
            self.series - other.series,
        )


def load_of(specs: Mapping[str, Spec], series: Mapping[str, int]) -> Load:
    """``series``: how many series one check of each type has."""
    running = [spec for spec in specs.values() if spec.enabled]
    return Load(
        checks=len(running),
        checks_per_second=sum(SECOND / spec.interval for spec in running),
        rows_per_day=round(sum(DAY_SECONDS * SECOND / spec.interval for spec in running)),
        series=sum(series[spec.type] for spec in running),
    )
