"""The schema of a history file: numbered steps, each of which a file gets once."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import duckdb

from watchbill.domain.errors import StorageError, StorageOutOfReachError
from watchbill.storage.duckdb_connection import storage_error


def migrations() -> list[tuple[int, str]]:
    """The schema's steps, numbered from 1 without a hole."""
    folder = resources.files("watchbill.storage") / "migrations"
    found = sorted(
        (int(entry.name.partition("_")[0]), entry.read_text())
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )
    assert [number for number, _ in found] == list(range(1, len(found) + 1))  # noqa: S101 - our own files
    return found


def schema_version(path: Path, connection: duckdb.DuckDBPyConnection) -> int:
    """How many migrations it has had; 0 for an empty database. Closes what it refuses."""
    try:
        return _known_version(path, connection)
    except duckdb.Error as error:
        connection.close()
        raise storage_error(path, error) from error
    except StorageError:
        connection.close()
        raise


def _known_version(path: Path, connection: duckdb.DuckDBPyConnection) -> int:
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        return 0
    if "schema_migration" not in tables:
        raise StorageError(
            f"{path}: a DuckDB database, but not a history of watchbill; give --storage another path",
            retryable=False,
        )
    [(version,)] = connection.execute("SELECT max(version) FROM schema_migration").fetchall()
    known = int(version or 0)
    if known > len(migrations()):
        raise StorageOutOfReachError(
            f"{path}: written by a newer watchbill (schema {known}); upgrade watchbill, or give --storage another path"
        )
    return known


def migrate(
    path: Path,
    connection: duckdb.DuckDBPyConnection,
    checkpoint: Callable[[duckdb.DuckDBPyConnection], None],
) -> None:
    """Bring the schema up to date. Closes what it cannot migrate."""
    known = schema_version(path, connection)
    try:
        for number, text in migrations()[known:]:
            _apply(connection, number, text)
            checkpoint(connection)
    except duckdb.Error as error:
        connection.close()
        raise storage_error(path, error) from error
    except OSError:
        connection.close()
        raise


def plain_checkpoint(connection: duckdb.DuckDBPyConnection) -> None:
    """Of a file that is made aside: nobody would miss it."""
    connection.checkpoint()


def _apply(connection: duckdb.DuckDBPyConnection, number: int, text: str) -> None:
    """One migration in one transaction. A checkpoint has to follow: no schema change is ever replayed from the log."""
    connection.begin()
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migration (version INTEGER NOT NULL, applied_at TIMESTAMPTZ NOT NULL)"
    )
    connection.execute(text)
    connection.execute("INSERT INTO schema_migration VALUES (?, now())", [number])
    connection.execute(
        "INSERT INTO store_state SELECT ?, make_timestamptz(0) WHERE NOT EXISTS (FROM store_state)",
        [secrets.token_bytes(32)],
    )
    connection.commit()
