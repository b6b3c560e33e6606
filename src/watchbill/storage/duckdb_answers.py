"""What is asked of the DuckDB file, answered over one cursor in the thread of its reader."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from watchbill.domain.discovery import TargetGroup, in_order
from watchbill.domain.history import Coverage, StoredResult
from watchbill.domain.opening import Opening
from watchbill.domain.schedule import Span
from watchbill.domain.status import Status
from watchbill.domain.units import Instant
from watchbill.storage import duckdb_queries as sql
from watchbill.storage.rows import Row, group_of, latest_horizon, result_of, stored_result_of

ROWS_A_FETCH = 1_000  # converting rows holds the interpreter lock: 1,000 take about a millisecond
ROWS_A_QUESTION = 8_000_000  # coverage holds 512 MB for some 25 million rows


def spans(cursor: duckdb.DuckDBPyConnection, *, check_id: str) -> Sequence[Span]:
    return [Span(*row) for row in _rows(cursor, sql.SPANS_OF, check_id)]


def results(
    cursor: duckdb.DuckDBPyConnection, *, check_id: str, since: Instant, until: Instant, limit: int
) -> Sequence[StoredResult]:
    return [stored_result_of(_row(row)) for row in _rows(cursor, sql.RESULTS, check_id, since, until, limit)]


def coverage(cursor: duckdb.DuckDBPyConnection, *, since: Instant, until: Instant) -> Sequence[Coverage]:
    [(rows,)] = _rows(cursor, sql.ROWS_WITHIN, since, until)
    parts = 1 + rows // ROWS_A_QUESTION
    found = [
        Coverage(*row)
        for part in range(parts)
        for row in _rows(cursor, sql.COVERAGE, since, until, part, parts)
    ]
    return sorted(found, key=lambda covered: (covered.check_id, covered.location))


def opening(cursor: duckdb.DuckDBPyConnection, *, location: str) -> Opening:
    known = list(_rows(cursor, sql.ACCOUNTED, location))
    if not known:
        return Opening()
    accounted_until = int(known[0][0])
    names = {key: (check_id, since) for key, check_id, since in _rows(cursor, sql.NAMES)}
    open_spans = {row[0]: Span(*row) for row in _rows(cursor, sql.SPANS_AT, location)}
    horizon = latest_horizon(accounted_until, max((span.interval for span in open_spans.values()), default=0))
    latest = [result_of(_row(row)) for row in _rows(cursor, sql.LATEST, location, horizon)]
    return Opening(
        accounted_until=accounted_until,
        spans=open_spans,
        latest={result.check_id: result for result in latest},
        statuses={
            names[key][0]: Status(status)
            for key, status in _rows(cursor, sql.STATUSES, location)
            if key in names
        },
        rows_since={
            names[key][0]: count
            for key, count in _rows(cursor, sql.ROWS_SINCE, location, accounted_until)
            if key in names
        },
        registered_at=dict(names.values()),
        heartbeats={names[key][0]: at for key, at in _rows(cursor, sql.HEARTBEATS) if key in names},
        targets=_targets(cursor, location),
        newest=next(_rows(cursor, sql.NEWEST, location, accounted_until))[0],
    )


def _targets(cursor: duckdb.DuckDBPyConnection, location: str) -> dict[str, tuple[TargetGroup, ...]]:
    found = defaultdict(list)
    for discovery, source, text in _rows(cursor, sql.GROUPS, location):
        found[discovery].append(group_of(source, text))
    return {discovery: tuple(in_order(groups)) for discovery, groups in found.items()}


def _rows(cursor: duckdb.DuckDBPyConnection, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
    cursor.execute(query, list(values))
    while rows := cursor.fetchmany(ROWS_A_FETCH):
        yield from rows


def _row(values: Sequence[Any]) -> Row:
    check_id, location, slot, trigger, started_at, duration = values[:6]
    facts, stalled = values[-2:]
    rest = [*values[11:-2], None if facts is None else json.loads(facts), stalled]
    return Row(check_id, location, slot, trigger, started_at, duration, tuple(values[6:11]), *rest)
