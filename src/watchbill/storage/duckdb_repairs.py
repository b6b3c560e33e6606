"""What had to be mended in a history file, and what could not be: told once, in one line each, and counted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import structlog

from watchbill.domain.units import isoformat
from watchbill.storage.duckdb_marks import Loss

MOST_TOLD = 100

log = structlog.get_logger()


class Told(NamedTuple):
    """One line of the log: its event, and the facts beside the path."""

    event: str
    facts: dict[str, object]


@dataclass(slots=True)
class Repairs:
    """Of one file, as long as this process has it. ``lost_batches`` had been acknowledged and are gone.

    ``quiet``: whoever asked reads ``told`` instead of the log.
    """

    path: Path
    quiet: bool = False
    mended: int = 0
    lost_batches: int = 0
    told: deque[Told] = field(default_factory=lambda: deque(maxlen=MOST_TOLD))

    def mend(self, event: str, **facts: object) -> None:
        """Say that something was mended or set aside."""
        self.mended += 1
        self._tell(event, facts)

    def lose(self, losses: list[Loss], kept: Path | None = None) -> None:
        """Say what had been acknowledged and is not there, and where the log that should have had it lies."""
        for loss in losses:
            self.lost_batches += loss.last - loss.first + 1
            kept_as = {} if kept is None else {"kept_as": kept.name}
            self._tell("history.batches_lost", lost_facts(loss) | kept_as)

    def _tell(self, event: str, facts: dict[str, object]) -> None:
        if not self.quiet:
            log.error(event, path=str(self.path), **facts)
        self.told.append(Told(event, facts))


def lost_facts(loss: Loss) -> dict[str, object]:
    """What is known of it: how many batches, which, and of which slots."""
    facts: dict[str, object] = {
        "batches": loss.last - loss.first + 1,
        "first": loss.first,
        "last": loss.last,
    }
    if loss.location:
        facts["location"] = loss.location
    if loss.since is not None and loss.until is not None:
        facts |= {"slots_since": isoformat(loss.since), "slots_until": isoformat(loss.until)}
    facts["hint"] = "a damaged log or an older copy; these slots count as missed"
    return facts
