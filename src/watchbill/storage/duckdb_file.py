"""The DuckDB file itself: one process at a time, born whole, migrated before use.

A second lock file is held beside DuckDB's own: POSIX locks are dropped when any descriptor of the file is closed in
the same process, so the database file is never opened here by its path while it is in use.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from importlib import resources
from pathlib import Path

import duckdb

from watchbill.domain.errors import StorageError
from watchbill.storage.duckdb_checkpoint import Checkpoints
from watchbill.storage.duckdb_connection import connect, copying_folder, held_by, storage_error
from watchbill.storage.duckdb_log import WriteAheadLog, set_aside, sync
from watchbill.storage.duckdb_repairs import Repairs

_LOOK_AT_THE_DISK = "see that the disk has room and this user may write there"


class DuckDbFile:
    """A history file and its lock; what had been committed lately is in its :class:`WriteAheadLog`."""

    def __init__(self, location: str, *, quiet: bool = False) -> None:
        # Where a link leads, since what belongs to a file lies beside the file, whatever name it is opened by.
        self.path = path = Path(os.path.realpath(Path(location).expanduser()))
        self.repairs = Repairs(path, quiet)
        self.log = WriteAheadLog(path, self.repairs)
        self.checkpoints = Checkpoints(path, self.repairs)
        self._lock = path.with_name(path.name + ".lock")
        self._new = path.with_name(path.name + ".new")
        self._locked: int | None = None

    # --- one process at a time ----------------------------------------------------------------------

    def lock(self) -> None:
        """:raises StorageLockedError: another process holds the file."""
        if self._locked is not None:
            return
        if self.path.exists() and not self.path.is_file():
            raise StorageError(f"{self.path}: not a file; give --storage another path", retryable=False)
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StorageError(
                f"{self._lock}: {error.strerror}; make the folder {self._lock.parent} exist and writable for this user",
                retryable=False,
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise held_by(self.path, holder) from error
        self._locked = descriptor
        with suppress(
            OSError
        ):  # who holds it is good to know; a full disk must not keep the file from opening
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def unlock(self) -> None:
        self.log.marks.close()
        self.checkpoints.close()
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    # --- opening ------------------------------------------------------------------------------------

    def open(self) -> duckdb.DuckDBPyConnection:
        """The database, migrated; a torn or ignored write-ahead log is mended and said aloud.

        :raises StorageError: it cannot be used; the message names the file and the remedy.
        """
        try:
            shutil.rmtree(copying_folder(self.path), ignore_errors=True)  # what a kill left of a backup
            if not self.path.exists():
                self._create()
            self.checkpoints.restore()
            self.log.keep()
            connection = self.log.replay()
            if schema_version(self.path, connection):
                connection = self.log.compare(connection)
            migrate(self.path, connection, self.checkpoints.run)
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror or error}; {_LOOK_AT_THE_DISK}") from error
        return connection

    def size_bytes(self) -> int | None:
        try:
            return self.path.stat().st_size + self.log.size_bytes()
        except OSError:
            return None

    def belongings(self) -> list[str]:
        """The names of the files that make up the history, as far as they are there."""
        names = [self.path.name + suffix for suffix in ("", ".wal", ".seq", ".blocks")]
        return [name for name in names if self.path.with_name(name).is_file()]

    def unfinished(self) -> bool:
        """Whether a start would have something to replay or to put back."""
        return bool(self.log.size_bytes()) or self.path.with_name(self.path.name + ".blocks").exists()

    def error(self, cause: duckdb.Error) -> StorageError:
        return storage_error(self.path, cause)

    def _create(self) -> None:
        """Make the file aside and rename it: a kill on the way leaves nothing that looks like a database."""
        self.log.discard()
        for leftover in (self._new.with_name(self._new.name + ".wal"), self._new):
            if os.path.lexists(leftover):
                self.repairs.mend("history.half_made", kept_as=set_aside(leftover).name)
        try:
            connection = connect(self._new)
        except duckdb.Error as error:
            raise self.error(error) from error
        migrate(self.path, connection, plain_checkpoint)
        connection.close()
        sync(self._new)
        self._new.rename(self.path)
        sync(self.path.parent)


# --- the schema ---------------------------------------------------------------------------------------


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
        raise StorageError(
            f"{path}: written by a newer watchbill (schema {known}); upgrade watchbill, or give --storage another path",
            retryable=False,
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
