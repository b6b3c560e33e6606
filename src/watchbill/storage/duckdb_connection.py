"""How the DuckDB file is opened, hardened, and what its refusals mean."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from watchbill.domain.errors import (
    StorageError,
    StorageLockedError,
    StorageOutOfReachError,
    StorageStarvedError,
)
from watchbill.storage.duckdb_names import literal

STORAGE_VERSION = "v1.4.0"  # unpinned, DuckDB 2.0 writes files that only the newest version reads
CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "storage_compatibility_version": STORAGE_VERSION,
    "threads": 1,  # a commit is cheaper without handing parts of it over, and a question leaves a core to probing
    "memory_limit": "512MB",
    "max_temp_directory_size": "1GB",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "checkpoint_threshold": "1TB",  # never by itself: see duckdb_checkpoint
}
_SETTINGS = (
    "PRAGMA disable_checkpoint_on_shutdown",
    "SET TimeZone = 'UTC'",
    "SET allowed_directories = [{copying}]",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_MOVE_AWAY = "not a DuckDB database; move it away, or give --storage another path"
_REMEDIES = (
    ("not a valid DuckDB database file", _MOVE_AWAY),
    ("sqlite_scanner", _MOVE_AWAY),
    (
        "Could not read enough bytes",
        "the file is cut short; restore a backup, or move it away to start anew",
    ),
    (
        "Corrupt database file",
        "the file is damaged; save what can be read with watchbill doctor --repair, restore a backup, or move it away to start anew",
    ),
)
_OUT_OF_REACH = (
    (
        "newer version of DuckDB",
        "written by a newer DuckDB; upgrade watchbill, or give --storage another path",
    ),
    ("Permission denied", "no permission; make the file and its folder writable for this user"),
)

MOST_INTERRUPTIONS = 100
"""Of one statement: who gives a question up interrupts it again and again, whatever it is doing."""

_STARVED = (
    "Out of Memory",
    "failed to pin block",
    "could not allocate",
    "failed to offload",
    "Cannot allocate memory",
    "max_temp_directory_size",
    "No space left",
    "File too large",
    "Disk quota exceeded",
    "Too many open files",
    "Input/output error",
)


def starved(cause: duckdb.Error) -> bool:
    """Whether memory, room or the disk itself failed it, which says nothing of the file."""
    return isinstance(cause, duckdb.OutOfMemoryException) or any(sign in str(cause) for sign in _STARVED)


def connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """:raises duckdb.Error: it cannot be opened; :func:`storage_error` says what that means."""
    connection = duckdb.connect(str(path), read_only=read_only, config=CONFIG)
    try:
        copying = literal(f"{copying_folder(path)}/")
        for statement in _SETTINGS:
            connection.execute(statement.format(copying=copying))
    except duckdb.Error:
        connection.close()
        raise
    return connection


def roll_back(cursor: duckdb.DuckDBPyConnection) -> None:
    """End the transaction, if there is one, even while the cursor is being interrupted."""
    for _ in range(MOST_INTERRUPTIONS):
        try:
            cursor.rollback()
        except duckdb.InterruptException:
            continue
        except duckdb.Error:
            pass  # there is none, or it has ended
        return


def copying_folder(path: Path) -> Path:
    """Where a copy of the database at ``path`` is made: the only place beside it that statements may reach."""
    return path.with_name(path.name + ".copying")


def storage_error(path: Path, cause: duckdb.Error) -> StorageError:
    """What DuckDB said as one line with the file and the remedy."""
    text = " ".join(str(cause).split())
    if "Could not set lock" in text:
        pid = re.search(r"PID (\d+)", text)
        return held_by(path, pid[1] if pid else "unknown")
    for sign, remedy in _REMEDIES:
        if sign in text:
            return StorageError(f"{path}: {remedy} ({text[:200]})", retryable=False)
    for sign, remedy in _OUT_OF_REACH:
        if sign in text:
            return StorageOutOfReachError(f"{path}: {remedy} ({text[:200]})")
    if starved(cause):
        return StorageStarvedError(f"{path}: {_starved_by(cause, text)}")
    refused = isinstance(cause, duckdb.DataError | duckdb.IntegrityError | duckdb.ProgrammingError)
    return StorageError(f"{path}: {text[:400]}", retryable=not refused)


def _starved_by(cause: duckdb.Error, text: str) -> str:
    if "No space left" in text or "File too large" in text:
        return f"the disk is full; free some space ({text[:200]})"
    if "replaying WAL" in text:
        return f"its log cannot be replayed now; free memory or space ({text[:200]})"
    if isinstance(cause, duckdb.OutOfMemoryException):
        return (
            f"a question needs more than the {CONFIG['memory_limit']} of memory that history may use; "
            f"ask for a shorter period ({text[:100]})"
        )
    return f"{text[:300]}; free memory or space, or mend the disk"


def held_by(path: Path, pid: str) -> StorageLockedError:
    return StorageLockedError(
        f"{path}: in use by process {pid}; stop that process, or give this one another file with --storage",
        pid,
    )
