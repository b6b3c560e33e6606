"""What can still be read of a damaged history, in a new file beside it; the damaged one is only read.

A row that lost what makes it a result (its check, slot, outcome) is left out and counted; of others only the damaged
columns are. What then has no row lies in a gap, so that it is `missed` and not `unaccounted`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from watchbill.domain.errors import StorageError
from watchbill.domain.results import GapReason
from watchbill.storage.duckdb_connection import CONFIG, storage_error
from watchbill.storage.duckdb_damage import Unreadable, columns_of, tables_of, unreadable
from watchbill.storage.duckdb_disk import sync
from watchbill.storage.duckdb_marks import Mark
from watchbill.storage.duckdb_names import identifier, literal
from watchbill.storage.duckdb_rules import OFF_GRID
from watchbill.storage.duckdb_schema import migrate, plain_checkpoint

OLD = "/damaged"
"""DuckDB names a database after its file, so that no history can have this name."""
SPILLING = {"max_temp_directory_size": "1TB"}  # beside the new file, as much as there is room for
NOT_COPIED = ("schema_migration",)
NEEDED = {
    "result": ("check_key", "location", "slot", "trigger", "outcome"),
    "check_identity": ("check_key", "check_id", "valid_from"),
    "check_revision": ("revision_key", "check_key"),
}
"""Without these a row says nothing; of other tables every column is needed."""

DOUBLED = """
    DELETE FROM result WHERE trigger = 'schedule' AND rowid NOT IN (
        SELECT min(rowid) FROM result WHERE trigger = 'schedule' GROUP BY check_key, location, slot)"""
MANUAL = f"UPDATE result r SET trigger = 'manual' WHERE {OFF_GRID}"  # noqa: S608 - a constant
SPANLESS = """
    INSERT INTO span
    WITH step AS (
        SELECT check_key, location, epoch_us(slot) AS due,
            due - lag(due) OVER (PARTITION BY check_key, location ORDER BY slot) AS width
        FROM result r WHERE trigger = 'schedule'
            AND NOT EXISTS (SELECT 1 FROM span s WHERE s.check_key = r.check_key AND s.location = r.location)
    )
    SELECT check_key, location, mode(width), max(due) % mode(width),
        make_timestamptz(min(due) - 1), make_timestamptz(max(due))
    FROM step GROUP BY check_key, location HAVING mode(width) > 0"""
NAMELESS = """
    INSERT INTO check_identity
    SELECT check_key, 'unknown-' || check_key, min(slot), NULL FROM result
    WHERE check_key NOT IN (SELECT check_key FROM check_identity) GROUP BY check_key"""
UNDECLARED = """
    INSERT INTO check_revision
    SELECT DISTINCT revision_key, check_key, '', '', '{}', '', '{}', make_timestamptz(0), NULL FROM result
    WHERE revision_key NOT IN (SELECT revision_key FROM check_revision)"""
UNACCOUNTED = """
    INSERT INTO gap
    SELECT c.location, greatest(min(c.day)::TIMESTAMPTZ, make_timestamptz(a.lo)),
        least((max(c.day) + 1)::TIMESTAMPTZ, make_timestamptz(a.hi)), $1
    FROM coverage c JOIN accounted a USING (location) WHERE c.unaccounted > 0 GROUP BY c.location, a.lo, a.hi"""


@dataclass(slots=True)
class Salvaged:
    """``rows`` that came over, by table, ``blanked`` in some column; ``left`` are those that are lost.

    ``doubled`` rows were taken out, ``spans`` made anew from the slots of their rows, ``off_grid`` rows belong to no
    slot any more, and ``missed`` slots lie in a gap now.
    """

    path: Path
    rows: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    blanked: dict[str, int] = field(default_factory=dict)
    doubled: int = 0
    spans: int = 0
    off_grid: int = 0
    missed: int = 0


def salvage(source: Path, target: Path, marks: Mapping[str, Mark]) -> Salvaged:
    """Write what can be read of ``source`` to ``target``, which gets its name once it is whole.

    :raises StorageError: nothing can be read, or the new file cannot be written, or is there already.
    """
    if target.exists():
        raise StorageError(f"{target}: exists; move it away first", retryable=False)
    aside = target.with_name(target.name + ".new")
    beside = [target.with_name(target.name + suffix) for suffix in (".wal", ".seq")]
    half_made = (aside, aside.with_name(aside.name + ".wal"))
    done = Salvaged(target)
    try:
        _remove(*half_made, *beside)
        with duckdb.connect(str(aside), config=CONFIG | SPILLING) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            migrate(aside, connection, plain_checkpoint)
            connection.execute(f"ATTACH {literal(source)} AS {identifier(OLD)} (READ_ONLY)")
            for table in tables_of(connection, OLD):
                if table not in NOT_COPIED and columns_of(connection, table, _here(connection)):
                    _copy(connection, table, done)
            connection.execute(f"DETACH {identifier(OLD)}")
            _make_whole(connection, marks, done)
            connection.checkpoint()
        sync(aside)
        aside.replace(target)
        sync(target.parent)
    except duckdb.Error as error:
        raise storage_error(source, error) from error
    except OSError as error:
        raise StorageError(f"{target}: {error.strerror}; make room or mend the folder") from error
    finally:
        _remove(*half_made)
    return done


def _remove(*leftovers: Path) -> None:
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)


def _copy(connection: duckdb.DuckDBPyConnection, table: str, done: Salvaged) -> None:
    old = {name for name, _ in columns_of(connection, table, OLD)}
    here = [(name, empty) for name, empty in columns_of(connection, table, _here(connection)) if name in old]
    broken = [part for part in unreadable(connection, table, OLD) if part.column in dict(here)]
    if table == "store_state":
        if broken:
            return  # a fresh seal key only means that every secret looks rotated once
        connection.execute("DELETE FROM store_state")
    done.rows[table] = done.left[table] = done.blanked[table] = 0
    for first, last, columns in _stretches(broken):
        needed = NEEDED.get(table, tuple(name for name, _ in here))
        rows = _count(connection, table, first, last)
        if set(columns) & set(needed):
            done.left[table] += rows
            continue
        chosen = ", ".join(_instead(name, empty) if name in columns else f'"{name}"' for name, empty in here)
        names = ", ".join(f'"{name}"' for name, _ in here)
        within = f"WHERE rowid >= {first}" + ("" if last is None else f" AND rowid <= {last}")
        stored = f'FROM {identifier(OLD)}."{table}" {within}'
        connection.execute(f'INSERT INTO "{table}" ({names}) SELECT {chosen} {stored}')
        done.rows[table] += rows
        done.blanked[table] += rows if columns else 0


def _here(connection: duckdb.DuckDBPyConnection) -> str:
    [(name,)] = connection.execute("SELECT current_database()").fetchall()
    return str(name)


def _instead(column: str, nullable: bool) -> str:
    if nullable:
        return "NULL"
    return "0" if column.endswith("_key") else "''"


def _count(connection: duckdb.DuckDBPyConnection, table: str, first: int, last: int | None) -> int:
    within = f"rowid >= {first}" + ("" if last is None else f" AND rowid <= {last}")
    counted = f'SELECT count(*) FROM {identifier(OLD)}."{table}" WHERE {within}'  # noqa: S608 - a name of our schema, and numbers
    [(rows,)] = connection.execute(counted).fetchall()
    return int(rows)


def _stretches(broken: Sequence[Unreadable]) -> Iterator[tuple[int, int | None, tuple[str, ...]]]:
    """All rows in order: (first, last, the columns that cannot be read there); the last stretch has no end."""
    edges = sorted({0, *(part.first for part in broken), *(part.last + 1 for part in broken)})
    for number, first in enumerate(edges):
        last = edges[number + 1] - 1 if number + 1 < len(edges) else None
        yield first, last, tuple(part.column for part in broken if part.first <= first <= part.last)


# --- what must hold again -----------------------------------------------------------------------------


def _make_whole(connection: duckdb.DuckDBPyConnection, marks: Mapping[str, Mark], done: Salvaged) -> None:
    connection.begin()
    _restore_state(connection, marks)
    connection.execute(NAMELESS)
    connection.execute(UNDECLARED)
    [(done.doubled,)] = connection.execute(DOUBLED).fetchall()
    [(done.spans,)] = connection.execute(SPANLESS).fetchall()
    # A row that no span expected stays readable and counts for no slot.
    [(done.off_grid,)] = connection.execute(MANUAL).fetchall()
    [(lost,)] = connection.execute(
        "SELECT coalesce(sum(unaccounted), 0) FROM coverage WHERE unaccounted > 0"
    ).fetchall()
    done.missed = int(lost)
    connection.execute(UNACCOUNTED, [GapReason.DROPPED.value])
    connection.commit()


def _restore_state(connection: duckdb.DuckDBPyConnection, marks: Mapping[str, Mark]) -> None:
    """Where it is gone, how far each location had come is what the marks promised, or what its rows say."""
    known = {location for (location,) in connection.execute("SELECT location FROM writer_state").fetchall()}
    rows = connection.execute(
        "SELECT location, epoch_us(max(slot)) + 1 FROM result GROUP BY location"
    ).fetchall()
    reached = {location: (1, until) for location, until in rows}
    for location, mark in marks.items():
        reached[location] = mark.sequence, mark.accounted_until or reached.get(location, (0, 0))[1]
    for location, (sequence, until) in reached.items():
        if location not in known:
            connection.execute(
                "INSERT INTO writer_state VALUES ($1, $2, make_timestamptz($3))", [location, sequence, until]
            )
