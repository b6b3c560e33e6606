"""What must hold of every history, looked at in parts that the memory suffices for, however many rows there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import duckdb

from watchbill.domain.units import Instant
from watchbill.storage.duckdb_connection import starved
from watchbill.storage.duckdb_queries import COVERAGE, ROWS_WITHIN

ROWS_AT_ONCE = 1_000_000
_WITHIN = "slot >= make_timestamptz($1::BIGINT) AND slot < make_timestamptz($2::BIGINT)"
OFF_GRID = """
    trigger = 'schedule' AND NOT EXISTS (
        SELECT 1 FROM span s WHERE s.check_key = r.check_key AND s.location = r.location AND r.slot > s.opened_at
        AND (s.closed_at IS NULL OR r.slot <= s.closed_at) AND (epoch_us(r.slot) - s.offset_micros) % s.interval_micros = 0)"""
_ENDS = """
    SELECT least(min(lo), (SELECT epoch_us(min(slot)) FROM result)),
        greatest(max(hi), (SELECT epoch_us(max(slot)) + 1 FROM result)) FROM accounted"""
_COVERED = """check_id, location, service, type, expected, success, failure, error, skipped, excused, missed,
    unaccounted, p50, p95, p99"""


class Rule(NamedTuple):
    """``query`` counts what breaks it; ``slots``: of the slots from $1 up to $2."""

    kind: str
    query: str
    meaning: str
    slots: bool = True


RULES = (
    Rule(
        "doubled",
        f"""SELECT coalesce(sum(n - 1), 0) FROM (
            SELECT count(*) AS n FROM result WHERE trigger = 'schedule' AND {_WITHIN}
            GROUP BY check_key, location, slot HAVING n > 1)""",  # noqa: S608 - constants
        "rows stand there twice: the same slot of the same check",
    ),
    Rule(
        "off_grid",
        f"SELECT count(*) FROM result r WHERE {_WITHIN} AND {OFF_GRID}",  # noqa: S608 - constants
        "rows are of slots that no span expected",
    ),
    Rule(
        "nameless",
        f"""SELECT count(*) FROM result WHERE {_WITHIN} AND (check_key NOT IN (SELECT check_key FROM check_identity)
            OR revision_key NOT IN (SELECT revision_key FROM check_revision))""",  # noqa: S608 - constants
        "rows are of checks that were never declared",
    ),
    Rule(
        "unaccounted",
        f"""SELECT coalesce(sum(abs(unaccounted)), 0) FROM ({COVERAGE}) AS covered({_COVERED})""",  # noqa: S608 - constants
        "slots are unaccounted for: neither a row nor a gap",
    ),
    Rule(
        "ambiguous",
        """SELECT count(*) FROM (
            SELECT check_id FROM check_identity WHERE valid_to IS NULL GROUP BY check_id HAVING count(*) > 1)""",
        "names stand for two checks at once",
        slots=False,
    ),
    Rule(
        "backward",
        """SELECT (SELECT count(*) FROM gap WHERE ended_at <= started_at)
            + (SELECT count(*) FROM span WHERE closed_at < opened_at)""",
        "gaps or spans end before they begin",
        slots=False,
    ),
)
"""What each counts must be 0."""


def broken(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Rule, int]]:
    """The rules that are broken, and how often. :raises duckdb.Error: one could not be looked at."""
    periods = list(_periods(connection))
    for rule in RULES:
        if rule.slots:
            number = sum(_counted(connection, rule, since, until) for since, until in periods)
        else:
            number = _number(connection, rule.query)
        if number:
            yield rule, number


def _periods(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Instant, Instant]]:
    """All slots in order, in stretches of so many rows at most."""
    [(first, last)] = connection.execute(_ENDS).fetchall()
    waiting = [] if first is None or last is None else [(int(first), int(last))]
    while waiting:
        since, until = waiting.pop()
        if until - since < 2 or _number(connection, ROWS_WITHIN, since, until) <= ROWS_AT_ONCE:
            yield since, until
        else:
            middle = (since + until) // 2
            waiting += [(middle, until), (since, middle)]


def _counted(connection: duckdb.DuckDBPyConnection, rule: Rule, since: Instant, until: Instant) -> int:
    values = (since, until, 0, 1) if "$4" in rule.query else (since, until)
    try:
        return _number(connection, rule.query, *values)
    except duckdb.Error as error:
        if not starved(error) or until - since < 2:
            raise
    middle = (since + until) // 2
    return _counted(connection, rule, since, middle) + _counted(connection, rule, middle, until)


def _number(connection: duckdb.DuckDBPyConnection, query: str, *values: int) -> int:
    [(number,)] = connection.execute(query, list(values)).fetchall()
    return int(number)
