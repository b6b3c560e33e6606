"""The high-water mark beside a history file, ``.seq``: what was acknowledged, so that a loss cannot pass in silence.

Set after every commit and before it is acknowledged. A kill does not undo what was written, so only a power cut asks
for a sync, and one a second is enough: what is then missing is an older mark, never a wrong one. Two places take turns,
each with its checksum, so that a torn write leaves the mark before.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from watchbill.domain.units import Instant
from watchbill.storage.duckdb_disk import sync
from watchbill.storage.duckdb_queries import WRITER_STATE

SYNC_EVERY_SECONDS = 1.0
PLACE_BYTES = 4096
MOST_LOSSES_KEPT = 8


class Mark(NamedTuple):
    """The number of a location's newest batch, and how far its slots were accounted for with it."""

    sequence: int
    accounted_until: Instant | None = None


class Loss(NamedTuple):
    """The batches ``first`` to ``last`` were acknowledged and are gone, and with them rows of slots from ``since`` to ``until``."""

    location: str
    first: int
    last: int
    since: Instant | None
    until: Instant | None


@dataclass(slots=True)
class _Record:
    number: int = 0
    marks: dict[str, Mark] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    uncounted: int = 0


def marks_in(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Mark]:
    """How far each location has come in a database. :raises duckdb.Error: it cannot tell."""
    states = connection.execute(WRITER_STATE).fetchall()
    return {location: Mark(sequence, accounted) for location, sequence, accounted in states}


def losses_between(promised: Mapping[str, Mark], found: Mapping[str, Mark]) -> list[Loss]:
    """What is promised beyond what is there."""
    losses = []
    for location, mark in promised.items():
        there = found.get(location, Mark(0))
        if there.sequence < mark.sequence:
            last = mark.accounted_until
            losses.append(Loss(location, there.sequence + 1, mark.sequence, there.accounted_until, last))
    return losses


class Marks:
    """The marks at ``path``. Whoever sets them holds the history's lock; reading needs none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._record: _Record | None = None
        self._synced_at = 0.0
        self._named = False  # its folder was synced since it was opened

    def read(self) -> Mapping[str, Mark]:
        """What was last set, as far as it can be read: a spoiled mark promises nothing."""
        return self._read().marks

    def losses(self) -> list[Loss]:
        """What was found missing at earlier starts, the newest last."""
        return self._read().losses

    def uncounted(self) -> list[Loss]:
        """Those of the losses that no exporter has counted yet: ``watchbill doctor`` found them."""
        record = self._read()
        return record.losses[len(record.losses) - record.uncounted :]

    def set(self, location: str, mark: Mark) -> None:
        """Remember that this batch is in the file. A disk that is full forgets it until later."""
        record = self._current()
        record.marks.pop(location, None)  # the newest last: where room is short the oldest goes
        record.marks[location] = mark
        with contextlib.suppress(OSError):
            self._write(record)
            if time.monotonic() - self._synced_at >= SYNC_EVERY_SECONDS:
                self.sync()

    def settle(self, found: Mapping[str, Mark], losses: list[Loss], *, counted: bool) -> None:
        """From here on this is what was promised: what is gone has been told, and ``counted`` in a metric or not yet."""
        record = self._current()
        record.marks = dict(found)
        record.losses = [*record.losses, *losses][-MOST_LOSSES_KEPT:]
        record.uncounted = 0 if counted else min(record.uncounted + len(losses), len(record.losses))
        with contextlib.suppress(OSError):
            self._write(record)
            self.sync()

    def sync(self) -> None:
        if self._descriptor is not None:
            os.fdatasync(self._descriptor)
            if not self._named:
                sync(self.path.parent)
                self._named = True
            self._synced_at = time.monotonic()

    def forget(self) -> None:
        """Nothing is promised any more."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """The next one who sets a mark reads anew."""
        descriptor, self._descriptor, self._record = self._descriptor, None, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.fdatasync(descriptor)
            os.close(descriptor)

    # --- inside -------------------------------------------------------------------------------------

    def _current(self) -> _Record:
        if self._record is None:
            self._record = self._read()
        return self._record

    def _read(self) -> _Record:
        try:
            content = self.path.read_bytes()[: 2 * PLACE_BYTES]
        except OSError:
            return _Record()
        places = (content[:PLACE_BYTES], content[PLACE_BYTES:])
        found = [record for place in places if (record := _record_of(place)) is not None]
        return max(found, key=lambda record: record.number, default=_Record())

    def _write(self, record: _Record) -> None:
        if self._descriptor is None:
            self._named = False
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        record.number += 1
        os.pwrite(self._descriptor, _place_of(record), record.number % 2 * PLACE_BYTES)


def _place_of(record: _Record) -> bytes:
    content = _encoded(record)
    while len(content) > PLACE_BYTES and record.marks:  # many locations, or one with a long name
        del record.marks[next(iter(record.marks))]
        content = _encoded(record)
    return content[:PLACE_BYTES].ljust(PLACE_BYTES)


def _encoded(record: _Record) -> bytes:
    content = {
        "number": record.number,
        "marks": record.marks,
        "lost": record.losses,
        "uncounted": record.uncounted,
    }
    text = json.dumps(content).encode()
    return b"%08x %s" % (zlib.crc32(text), text)


def _record_of(place: bytes) -> _Record | None:
    checksum, _, text = place.rstrip().partition(b" ")
    if b"%08x" % zlib.crc32(text) != checksum:
        return None
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return _parsed(json.loads(text))
    return None


def _parsed(content: dict[str, Any]) -> _Record:
    losses = [Loss(*loss) for loss in content["lost"]]
    return _Record(
        int(content["number"]),
        {
            location: Mark(int(sequence), None if accounted is None else int(accounted))
            for location, (sequence, accounted) in content["marks"].items()
        },
        losses,
        max(0, min(int(content.get("uncounted", 0)), len(losses))),
    )
