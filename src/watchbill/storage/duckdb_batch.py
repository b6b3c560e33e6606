"""One batch of events as one transaction: what the writer thread does.

Results go in through an appender (15 us a row; one INSERT each costs a millisecond), everything else through a
few statements over whole lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb

from watchbill.domain.history import Batch
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckStatusChanged,
    CheckSucceeded,
    ConfigReloaded,
    Event,
    HeartbeatReceived,
    SlotSkipped,
    SlotsMissed,
    TargetsFound,
)
from watchbill.domain.units import Instant, to_datetime
from watchbill.storage import duckdb_queries as sql
from watchbill.storage.ledger import Changes, Identity, Ledger, Revision, SpanRecord
from watchbill.storage.rows import FACTS_SHARED_FOR, Row, group_text, row_of, row_of_skipped, storable

ROWS_AT_ONCE = 50
"""Converting rows holds the interpreter's lock, which probes wait for: 10 us a row."""
Values = tuple[Any, ...]
Fetch = Callable[[str], Sequence[Values]]


@dataclass(slots=True)
class Writing:
    """What the writer knows of the file, so that it never has to read before it writes.

    ``sequences`` and ``heartbeats`` say which rows exist; ``facts`` the last facts of each check as
    (facts, key, the slot they were first seen at). Thrown away after a failure and loaded again.
    """

    ledger: Ledger
    sequences: dict[str, int]
    heartbeats: set[int]
    next_facts_key: int
    facts: dict[int, tuple[Mapping[str, Any], int, Instant]] = field(default_factory=dict)

    @classmethod
    def load(cls, fetch: Fetch) -> Writing:
        return cls(
            ledger=Ledger(
                seal_key=bytes(fetch(sql.SEAL_KEY)[0][0]),
                identities=[Identity(*(*row, True)) for row in fetch(sql.IDENTITIES)],
                revisions=[Revision(*(*row, True)) for row in fetch(sql.REVISIONS)],
                open_spans=[SpanRecord(*(*row, True)) for row in fetch(sql.OPEN_SPANS)],
            ),
            sequences={row[0]: row[1] for row in fetch(sql.WRITER_STATE)},
            heartbeats={row[0] for row in fetch(sql.HEARTBEATS)},
            next_facts_key=int(fetch(sql.LAST_FACTS_KEY)[0][0]) + 1,
        )


class _Tables:
    """The rows of one batch, by table, in the order of its columns."""

    def __init__(self, writing: Writing, location: str) -> None:
        self._writing = writing
        self._location = location
        self.result: list[Values] = []
        self.facts: list[Values] = []
        self.gap: list[Values] = []
        self.flip: list[Values] = []
        self.config_revision: list[Values] = []
        self.heartbeats: dict[int, Instant] = {}
        self.groups: dict[tuple[str, str], str] = {}
        """What is left of each group of targets that changed; empty where nothing is."""

    def take(self, event: Event) -> None:
        ledger = self._writing.ledger
        match event:
            case CheckSucceeded() | CheckFailed() | CheckErrored():
                self._row(row_of(event.result))
            case SlotSkipped():
                self._row(row_of_skipped(event))
            case CheckRegistered():
                ledger.register(event)
            case CheckDeleted():
                ledger.delete(event)
            case SlotsMissed():
                span = to_datetime(event.start), to_datetime(event.end)
                self.gap.append((event.location, *span, event.reason.value))
            case HeartbeatReceived():
                self.heartbeats[ledger.locate(event.check_id, event.at)[0]] = event.at
            case TargetsFound():
                self.groups |= {(event.discovery, storable(source)): "" for source in event.gone}
                self.groups |= {
                    (event.discovery, storable(one.source)): group_text(one) for one in event.changed
                }
            case CheckStatusChanged():
                flip = event.flip
                key, _ = ledger.locate(flip.check_id, flip.at)
                self.flip.append(
                    (key, self._location, to_datetime(flip.at), flip.before.value, flip.after.value)
                )
            case ConfigReloaded():
                ledger.retire_others(event.loaded.config.checks, event.at)
                loaded = event.loaded
                self.config_revision.append(
                    (to_datetime(event.at), loaded.digest, storable(loaded.revision), event.cause)
                )
            case _:
                pass  # what is not history (a rejected configuration, a service's roll-up)

    def _row(self, row: Row) -> None:
        key, revision = self._writing.ledger.locate(row.check_id, row.slot)
        self.result.append(
            (
                key, revision, row.location, to_datetime(row.slot), row.trigger, _moment(row.started_at), row.duration,
                *row.phases, row.outcome, row.verdict, row.reason, row.status_code, row.message, row.failures,
                self._facts_key(key, row), row.stalled,
            )
        )  # fmt: skip

    def _facts_key(self, key: int, row: Row) -> int | None:
        """Rows share their facts with the rows before them, for up to a day, so that age can delete them."""
        if row.facts is None:
            return None
        known = self._writing.facts.get(key)
        if known is not None and known[0] == row.facts and 0 <= row.slot - known[2] < FACTS_SHARED_FOR:
            return known[1]
        facts_key = self._writing.next_facts_key
        self._writing.next_facts_key += 1
        self._writing.facts[key] = row.facts, facts_key, row.slot
        text = json.dumps(row.facts, separators=(",", ":"), default=str)
        self.facts.append((facts_key, to_datetime(row.slot), text))
        return facts_key


def write_batch(cursor: duckdb.DuckDBPyConnection, writing: Writing, batch: Batch, location: str) -> int:
    """Write it all in one transaction; the sequence number it got.

    :raises duckdb.Error: ``writing`` is out of step then and must be loaded again.
    """
    tables = _Tables(writing, location)
    for event in batch.events:
        tables.take(event)
    sequence = writing.sequences.get(location, 0) + 1
    cursor.begin()
    _write_changes(cursor, writing.ledger.changes)
    for name in ("facts", "result", "gap", "flip", "config_revision"):
        _append(cursor, name, getattr(tables, name))
    _write_heartbeats(cursor, tables.heartbeats, writing.heartbeats)
    _write_groups(cursor, tables.groups, location)
    known = location in writing.sequences
    cursor.execute(
        sql.UPDATE_WRITER_STATE if known else sql.INSERT_WRITER_STATE,
        [location, sequence, batch.accounted_until],
    )
    cursor.commit()
    writing.ledger.written()
    writing.heartbeats |= tables.heartbeats.keys()
    writing.sequences[location] = sequence
    return sequence


def _write_changes(cursor: duckdb.DuckDBPyConnection, changes: Changes) -> None:
    if changes.closed_identities:
        _close(cursor, sql.CLOSE_IDENTITIES, ((one.key, one.valid_to) for one in changes.closed_identities))
    if changes.closed_revisions:
        closed = ((one.revision_key, one.valid_to) for one in changes.closed_revisions)
        _close(cursor, sql.CLOSE_REVISIONS, closed)
    if changes.closed_spans:
        _close(
            cursor, sql.CLOSE_SPANS, ((one.key, one.location, one.closed_at) for one in changes.closed_spans)
        )
    _append(
        cursor,
        "check_identity",
        [
            (one.key, one.check_id, to_datetime(one.valid_from), _moment(one.valid_to))
            for one in changes.identities
        ],
    )
    _append(
        cursor,
        "check_revision",
        [
            (
                one.revision_key, one.key, one.type, storable(one.service), one.labels, one.digest,
                one.spec, to_datetime(one.valid_from), _moment(one.valid_to),
            )
            for one in changes.revisions
        ],
    )  # fmt: skip
    _append(
        cursor,
        "span",
        [
            (
                one.key,
                one.location,
                one.interval,
                one.offset,
                to_datetime(one.opened_at),
                _moment(one.closed_at),
            )
            for one in changes.spans
        ],
    )


def _write_heartbeats(cursor: duckdb.DuckDBPyConnection, heard: dict[int, Instant], known: set[int]) -> None:
    again = [(key, at) for key, at in heard.items() if key in known]
    if again:
        _close(cursor, sql.UPDATE_HEARTBEATS, again)
    _append(cursor, "heartbeat", [(key, to_datetime(at)) for key, at in heard.items() if key not in known])


def _write_groups(
    cursor: duckdb.DuckDBPyConnection, groups: Mapping[tuple[str, str], str], location: str
) -> None:
    if groups:
        blocks, sources = zip(*groups, strict=True)
        cursor.execute(sql.FORGET_GROUPS, [location, list(blocks), list(sources)])
        rows = [(location, *key, text) for key, text in groups.items() if text]
        _append(cursor, "discovered_group", rows)


def _close(cursor: duckdb.DuckDBPyConnection, statement: str, rows: Iterable[Values]) -> None:
    cursor.execute(statement, [list(column) for column in zip(*rows, strict=True)])


def _append(cursor: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Values]) -> None:
    if rows:
        with cursor.appender(table) as appender:
            for start in range(0, len(rows), ROWS_AT_ONCE):
                appender.append_rows(rows[start : start + ROWS_AT_ONCE])


def _moment(instant: Instant | None) -> datetime | None:
    return None if instant is None else to_datetime(instant)
