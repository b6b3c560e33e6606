"""A copy of the whole history while it is being written: one moment of it, in a file of its own.

It is made in a folder beside the file, the only place that the hardened connection may reach, and deleted from there
as soon as it is open: whatever ends this process, nothing stays behind that a start would not remove.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import anyio.to_thread
import duckdb

from watchbill.domain.errors import StorageError
from watchbill.ports import HistoryCopy
from watchbill.storage.duckdb_connection import MOST_INTERRUPTIONS, STORAGE_VERSION, copying_folder, roll_back
from watchbill.storage.duckdb_names import identifier, literal

ALIAS = identifier("/copy")
"""DuckDB names a database after its file, so that no history can have this name."""
CHUNK_BYTES = 256 << 10
LONGEST_COPY_SECONDS = 3_600.0
SPARE_BYTES = 64 << 20


def make_copy(cursor: duckdb.DuckDBPyConnection, path: Path, closing: ExitStack) -> HistoryCopy:
    """Copy what was committed until now, to be read once; ``closing`` closes it, and with that it is deleted.

    Whoever asked may have given up when it is done, so that nobody sees what is returned.

    :raises OSError: there is no room for it.
    """
    folder = copying_folder(path)
    _see_room(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        target = folder / "copy.duckdb"
        rows = _filled(cursor, target)
        descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        closing.callback(os.close, descriptor)
        return HistoryCopy(os.fstat(descriptor).st_size, rows, _chunks(descriptor))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _see_room(path: Path) -> None:
    needed = path.stat().st_size + SPARE_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise StorageError(
            f"{path}: a copy needs {needed >> 20} MB beside it for a while, and {free >> 20} MB are free; make room"
        )


def _filled(cursor: duckdb.DuckDBPyConnection, target: Path) -> int:
    cursor.rollback()  # of the reader's transaction, which may not write anywhere
    [(source,)] = cursor.execute("SELECT current_database()").fetchall()
    try:
        cursor.execute(f"ATTACH {literal(target)} AS {ALIAS} (STORAGE_VERSION '{STORAGE_VERSION}')")
        cursor.begin()
        cursor.execute(f"COPY FROM DATABASE {identifier(source)} TO {ALIAS}")
        [(rows,)] = cursor.execute(f"SELECT count(*) FROM {ALIAS}.result").fetchall()  # noqa: S608 - a constant
        cursor.commit()
        cursor.execute(f"CHECKPOINT {ALIAS}")
    finally:
        roll_back(cursor)
        _detach(cursor)
    return int(rows)


def _detach(cursor: duckdb.DuckDBPyConnection) -> None:
    """Left attached it would keep its room, and every later copy from being made."""
    for _ in range(MOST_INTERRUPTIONS):
        with suppress(duckdb.InterruptException):
            cursor.execute(f"DETACH DATABASE IF EXISTS {ALIAS}")
            return


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    read: Callable[[], bytes] = partial(os.read, descriptor, CHUNK_BYTES)
    while chunk := await anyio.to_thread.run_sync(read):
        yield chunk
