"""Which rows of a table cannot be read, found without reading more of what is damaged than needed.

DuckDB stores a column in blocks, each with its checksum, and refuses a whole statement that meets a damaged one. Asked
for fewer and fewer rows it says which ones are meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import duckdb

from watchbill.storage.duckdb_connection import starved
from watchbill.storage.duckdb_names import identifier

ROW_GROUP = 122_880
SMALLEST = 2_048  # rows that DuckDB handles at once


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Rows ``first`` to ``last`` (by row id) of one column; ``error`` is what DuckDB says of them."""

    table: str
    column: str
    first: int
    last: int
    error: str


def columns_of(connection: duckdb.DuckDBPyConnection, table: str, database: str) -> list[tuple[str, bool]]:
    """The columns in their order, and whether each may be NULL."""
    return [
        (name, nullable)
        for name, nullable in connection.execute(
            """SELECT column_name, is_nullable FROM duckdb_columns()
            WHERE table_name = $1 AND database_name = $2 AND schema_name = 'main' AND NOT internal ORDER BY column_index""",
            [table, database],
        ).fetchall()
    ]


def tables_of(connection: duckdb.DuckDBPyConnection, database: str) -> list[str]:
    found = connection.execute(
        """SELECT table_name FROM duckdb_tables()
        WHERE database_name = $1 AND schema_name = 'main' AND NOT internal ORDER BY table_name""",
        [database],
    ).fetchall()
    return [name for (name,) in found]


def unreadable(connection: duckdb.DuckDBPyConnection, table: str, database: str) -> list[Unreadable]:
    """Every part of every column that cannot be read; nothing where the table is whole.

    :raises duckdb.Error: memory or the disk did not suffice to look.
    """
    columns = [name for name, _ in columns_of(connection, table, database)]
    whole = ", ".join(f"sum(hash({identifier(name)}))" for name in columns)
    if _fails(connection, f"SELECT {whole} FROM {_place(table, database)}") is None:  # noqa: S608 - quoted
        return []
    return [part for column in columns for part in _merged(list(_parts(connection, table, column, database)))]


def _place(table: str, database: str) -> str:
    return f"{identifier(database)}.main.{identifier(table)}"


def _parts(
    connection: duckdb.DuckDBPyConnection, table: str, column: str, database: str
) -> Iterator[Unreadable]:
    query = f"SELECT sum(hash({identifier(column)})) FROM {_place(table, database)}"  # noqa: S608 - quoted
    if (error := _fails(connection, query)) is None:
        return
    try:
        newest = f"SELECT max(rowid) + 1 FROM {_place(table, database)}"  # noqa: S608 - quoted
        [(rows,)] = connection.execute(newest).fetchall()
    except duckdb.Error:
        rows = ROW_GROUP
    waiting = [(first, first + ROW_GROUP - 1) for first in range(0, rows or 0, ROW_GROUP)][::-1]
    while waiting:
        first, last = waiting.pop()
        error = _fails(connection, f"{query} WHERE rowid BETWEEN {first} AND {last}")
        if error is None:
            continue
        if last - first < SMALLEST:
            yield Unreadable(table, column, first, min(last, rows - 1), error)
        else:
            middle = first + (last - first + 1) // 2
            waiting += [(middle, last), (first, middle - 1)]


def _fails(connection: duckdb.DuckDBPyConnection, query: str) -> str | None:
    try:
        connection.execute(query).fetchall()
    except duckdb.Error as error:
        if starved(error) and "Input/output error" not in str(error):
            raise
        return " ".join(str(error).split())
    return None


def _merged(parts: list[Unreadable]) -> list[Unreadable]:
    merged: list[Unreadable] = []
    for part in parts:
        if merged and merged[-1].last + 1 == part.first:
            merged[-1] = replace(merged[-1], last=part.last)
        else:
            merged.append(part)
    return merged
