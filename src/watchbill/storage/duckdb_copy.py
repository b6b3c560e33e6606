"""A copy of the whole history while it is being written: one moment of it, in a file of its own.

It is made in a folder beside the file, the only place that the hardened connection may reach, and deleted from there
as soon as it is open: whatever ends this process, nothing stays behind that a start would not remove.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
import duckdb

from watchbill.domain.errors import StorageError
from watchbill.ports import HistoryCopy
from watchbill.storage.duckdb_connection import STORAGE_VERSION, copying_folder
from watchbill.storage.duckdb_names import identifier, literal

T = TypeVar("T")

ALIAS = "watchbill_copy"
CHUNK_BYTES = 256 << 10
LONGEST_COPY_SECONDS = 3_600.0
SPARE_BYTES = 64 << 20


def make_copy(cursor: duckdb.DuckDBPyConnection, path: Path) -> tuple[int, int]:
    """Copy what was committed until now; an open descriptor of the copy, and how many rows of results it holds.

    :raises OSError: there is no room for it.
    """
    folder = copying_folder(path)
    _see_room(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        target = folder / "copy.duckdb"
        rows = _filled(cursor, target)
        return os.open(target, os.O_RDONLY | os.O_CLOEXEC), rows
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
    cursor.execute(f"ATTACH {literal(target)} AS {ALIAS} (STORAGE_VERSION '{STORAGE_VERSION}')")
    try:
        cursor.begin()
        cursor.execute(f"COPY FROM DATABASE {identifier(source)} TO {ALIAS}")
        [(rows,)] = cursor.execute(f"SELECT count(*) FROM {ALIAS}.result").fetchall()  # noqa: S608 - a constant
        cursor.commit()
        cursor.execute(f"CHECKPOINT {ALIAS}")
    finally:
        with suppress(duckdb.Error):
            cursor.rollback()
        cursor.execute(f"DETACH {ALIAS}")
    return int(rows)


@asynccontextmanager
async def opened(descriptor: int, rows: int) -> AsyncIterator[HistoryCopy]:
    """The copy, to be read once; closed, and with that deleted, at the end."""
    try:
        yield HistoryCopy(os.fstat(descriptor).st_size, rows, _chunks(descriptor))
    finally:
        os.close(descriptor)


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    read: Callable[[], bytes] = partial(os.read, descriptor, CHUNK_BYTES)
    while chunk := await anyio.to_thread.run_sync(read):
        yield chunk
