"""The DuckDB file itself: one process at a time, born whole, opened hardened, mended where it can be.

A second lock file is held beside DuckDB's own: POSIX locks are dropped when any descriptor of the file is closed in
the same process, so the database file is never opened here by its path while it is in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import structlog

from watchbill.domain.errors import StorageError, StorageLockedError

STORAGE_VERSION = "v1.4.0"  # unpinned, DuckDB 2.0 writes files that only the newest version reads
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "storage_compatibility_version": STORAGE_VERSION,
    "threads": 2,
    "memory_limit": "512MB",
    "max_temp_directory_size": "1GB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_SETTINGS = (
    "SET TimeZone = 'UTC'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_TORN_AT = re.compile(r"entry at byte position (\d+)")
_REPLAY = "replaying WAL"
_LOOK_AT_THE_DISK = "see that the disk has room and this user may write there"
_HEADER_WITHIN = range(
    16, 96
)  # seen: 39 to 52 bytes; its numbers are of variable length and it ends in ff ff

log = structlog.get_logger()


class DuckDbFile:
    """A history file and what lies beside it: ``.lock``, ``.wal``, ``.seq`` (the newest batch known to be in it)."""

    def __init__(self, location: str) -> None:
        self.path = path = Path(location).expanduser().absolute()
        self.wal = path.with_name(path.name + ".wal")
        self._kept_wal = path.with_name(path.name + ".wal.prev")
        self._sequences = path.with_name(path.name + ".seq")
        self._lock = path.with_name(path.name + ".lock")
        self._new = path.with_name(path.name + ".new")
        self._locked: int | None = None
        self._refused = False  # the log could not be read at all and was set aside

    # --- one process at a time ----------------------------------------------------------------------

    def lock(self) -> None:
        """:raises StorageLockedError: another process holds the file."""
        if self._locked is not None:
            return
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StorageError(
                f"{self.path}: {error.strerror}; make the folder {self._lock.parent} exist and writable for this user",
                retryable=False,
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise self._held(holder) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._locked = descriptor

    def unlock(self) -> None:
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def _held(self, pid: str) -> StorageLockedError:
        return StorageLockedError(
            f"{self.path}: in use by process {pid}; stop that process, or give this one another file with --storage"
        )

    # --- opening ------------------------------------------------------------------------------------

    def open(self) -> duckdb.DuckDBPyConnection:
        """The database, migrated; a torn or ignored write-ahead log is mended and said aloud.

        :raises StorageError: it cannot be used; the message names the file and the remedy.
        """
        try:
            if not self.path.exists():
                self._create()
            elif self.wal.exists():
                self._keep_log()
            return self._open()
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror or error}; {_LOOK_AT_THE_DISK}") from error

    def _keep_log(self) -> None:
        """A copy for the case that the log turns out damaged; a disk that is full must not keep it from opening."""
        self._kept_wal.unlink(missing_ok=True)
        try:
            shutil.copyfile(self.wal, self._kept_wal)
        except OSError:
            self._kept_wal.unlink(missing_ok=True)

    def _open(self) -> duckdb.DuckDBPyConnection:
        self._refused = False
        connection = self._open_mending()
        try:
            self._schema_version(connection)
            # Before anything is written, since a write would take the place of what the log still holds.
            connection = self._compare(connection)
        except StorageError:
            connection.close()
            raise
        self._migrate(connection)
        return connection

    def _create(self) -> None:
        """Make the file aside and rename it: a kill on the way leaves nothing that looks like a database."""
        if self.wal.exists():
            self._set_aside(self.wal)
        self._sequences.unlink(missing_ok=True)
        for leftover in (self._new, self._new.with_name(self._new.name + ".wal")):
            leftover.unlink(missing_ok=True)
        try:
            connection = connect(self._new)
            self._migrate(connection)
            connection.close()
        except duckdb.Error as error:
            raise self.error(error) from error
        _sync(self._new)
        self._new.rename(self.path)
        _sync(self.path.parent)

    def _migrate(self, connection: duckdb.DuckDBPyConnection) -> None:
        try:
            known = self._schema_version(connection)
            for number, text in migrations()[known:]:
                _apply(connection, number, text)
        except duckdb.Error as error:
            connection.close()
            raise self.error(error) from error
        except StorageError:
            connection.close()
            raise

    def _schema_version(self, connection: duckdb.DuckDBPyConnection) -> int:
        """How many migrations it has had; 0 for an empty database."""
        tables = {name for (name,) in self._ask(connection, "SELECT table_name FROM duckdb_tables()")}
        if not tables:
            return 0
        if "schema_migration" not in tables:
            raise StorageError(
                f"{self.path}: a DuckDB database, but not a history of watchbill; give --storage another path",
                retryable=False,
            )
        [(version,)] = self._ask(connection, "SELECT max(version) FROM schema_migration")
        known = int(version or 0)
        if known > len(migrations()):
            raise StorageError(
                f"{self.path}: written by a newer watchbill (schema {known}); upgrade watchbill, or give --storage another path",
                retryable=False,
            )
        return known

    def _ask(self, connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
        try:
            return connection.execute(query).fetchall()
        except duckdb.Error as error:
            raise self.error(error) from error

    # --- mending ------------------------------------------------------------------------------------

    def _open_mending(self) -> duckdb.DuckDBPyConnection:
        try:
            return connect(self.path)
        except duckdb.Error as error:
            if not self.wal.exists() or not self.wal.stat().st_size:
                raise self.error(error) from error
            if torn := _TORN_AT.search(str(error)):
                return self._cut(int(torn[1]), error)
            if _REPLAY in str(error) or "WAL does not match" in str(error):
                self._set_aside(self.wal)
                self._refused = True
                log.exception("history.log_unreadable", path=str(self.path))
                return self._connect()
            raise self.error(error) from error

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            return connect(self.path)
        except duckdb.Error as error:
            raise self.error(error) from error

    def _cut(self, position: int, cause: duckdb.Error) -> duckdb.DuckDBPyConnection:
        """Drop a torn tail: everything before it was acknowledged, nothing after it can be trusted."""
        kept = self._set_aside(self.wal, copy=True)
        with self.wal.open("r+b") as file:
            file.truncate(position)
            os.fsync(file.fileno())
        log.error(
            "history.log_cut", path=str(self.path), position=position, kept_as=kept.name, error=str(cause)
        )
        return self._connect()

    def _compare(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """A log with a damaged head is passed over in silence and overwritten: the sequence tells."""
        missing = self._missing(connection)
        if not missing:
            return connection
        if self._kept_wal.exists():
            connection = self._rebuild(connection)
            still = self._missing(connection)
            if still < missing:
                log.error("history.log_rebuilt", path=str(self.path), batches=missing - still)
            missing = still
        if missing:
            log.error(
                "history.batches_lost",
                path=str(self.path),
                batches=missing,
                hint="the file is older than its .seq says: a damaged log, or a restored copy",
            )
        return connection

    def _missing(self, connection: duckdb.DuckDBPyConnection) -> int:
        promised = self.sequences()
        if not promised:
            return 0
        found = dict(self._ask(connection, "SELECT location, batch_sequence FROM writer_state"))
        return sum(max(0, sequence - found.get(location, 0)) for location, sequence in promised.items())

    def _rebuild(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """Put a fresh head on the damaged log: the same database writes the same head again.

        A copy of the log was kept before the file was opened; what was damaged is set aside, never deleted.
        """
        connection.close()
        damaged = self._kept_wal.read_bytes()
        if self.wal.exists() and self.wal.read_bytes() == damaged:
            self._set_aside(self.wal)
        elif not self._refused:
            # It was replayed as far as it went, and closing put that into the file: it may not be replayed again.
            return self._connect()
        fresh = self._fresh_log()
        for length in _HEADER_WITHIN:
            if fresh[length - 2 : length] != b"\xff\xff":
                continue
            self.wal.write_bytes(fresh[:length] + damaged[length:])
            with contextlib.suppress(duckdb.Error, StorageError):
                if self._holds_all():
                    return self._connect()
        self.wal.unlink(missing_ok=True)
        return self._connect()

    def _fresh_log(self) -> bytes:
        """What the database at its last checkpoint begins a log with."""
        with duckdb.connect(str(self.path), config=_CONFIG) as plain:
            plain.execute("PRAGMA disable_checkpoint_on_shutdown")
            plain.execute("CREATE TABLE log_head (number INTEGER)")
        fresh = self.wal.read_bytes()
        self.wal.unlink()
        return fresh

    def _holds_all(self) -> bool:
        """Whether the database with the log as it lies there has every batch that was promised."""
        with duckdb.connect(str(self.path), config=_CONFIG) as plain:
            plain.execute("PRAGMA disable_checkpoint_on_shutdown")
            return not self._missing(plain)

    def _set_aside(self, file: Path, *, copy: bool = False) -> Path:
        number = 1
        while (aside := file.with_name(f"{file.name}.corrupt-{number}")).exists():
            number += 1
        if copy:
            shutil.copyfile(file, aside)
        else:
            file.rename(aside)
        return aside

    # --- the high-water mark ------------------------------------------------------------------------

    def sequences(self) -> Mapping[str, int]:
        """The newest batch of each location that was known to be in the file when the mark was last set."""
        try:
            marks = json.loads(self._sequences.read_text())
            return {str(location): int(number) for location, number in marks.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def mark(self, location: str, sequence: int) -> None:
        """Remember durably that this batch is in the file. A disk that is full forgets it until later."""
        marks = {**self.sequences(), location: sequence}
        aside = self._sequences.with_name(self._sequences.name + ".new")
        with contextlib.suppress(OSError), aside.open("w") as file:
            json.dump(marks, file)
            file.flush()
            os.fsync(file.fileno())
            aside.rename(self._sequences)

    def size_bytes(self) -> int | None:
        try:
            size = self.path.stat().st_size
            return size + (self.wal.stat().st_size if self.wal.exists() else 0)
        except OSError:
            return None

    # --- what went wrong ----------------------------------------------------------------------------

    def error(self, cause: duckdb.Error) -> StorageError:
        """What DuckDB said as one line with the file and the remedy."""
        text = " ".join(str(cause).split())
        if "Could not set lock" in text:
            pid = re.search(r"PID (\d+)", text)
            return self._held(pid[1] if pid else "unknown")
        for sign, remedy in _REMEDIES:
            if sign in text:
                return StorageError(f"{self.path}: {remedy} ({text[:200]})", retryable=False)
        if "No space left" in text or "File too large" in text:
            return StorageError(f"{self.path}: the disk is full; free some space ({text[:200]})")
        refused = isinstance(cause, duckdb.DataError | duckdb.IntegrityError | duckdb.ProgrammingError)
        return StorageError(f"{self.path}: {text[:400]}", retryable=not refused)


_REMEDIES = (
    (
        "not a valid DuckDB database file",
        "not a DuckDB database; move it away, or give --storage another path",
    ),
    (
        "newer version of DuckDB",
        "written by a newer DuckDB; upgrade watchbill, or give --storage another path",
    ),
    (
        "Could not read enough bytes",
        "the file is cut short; restore it from a backup, or move it away to start anew",
    ),
    ("Corrupt database file", "the file is damaged; restore it from a backup, or move it away to start anew"),
    ("Permission denied", "no permission; make the file and its folder writable for this user"),
    (
        "sqlite_scanner",
        "not a DuckDB database; move it away, or give --storage another path",
    ),
)


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path), config=_CONFIG)
    try:
        for statement in _SETTINGS:
            connection.execute(statement)
    except duckdb.Error:
        connection.close()
        raise
    return connection


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


def _apply(connection: duckdb.DuckDBPyConnection, number: int, text: str) -> None:
    """One migration in one transaction, then a checkpoint: no schema change is ever replayed from the log."""
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
    connection.checkpoint()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
