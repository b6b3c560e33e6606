"""Where history is kept: one door, behind it a store for each kind of address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import anyio

from watchbill.domain.errors import StorageError
from watchbill.ports import Copies, Storage
from watchbill.storage.memory import MemoryStorage

MEMORY = "memory:"


class History(Storage, Copies, Protocol):
    """A store of this machine, which can be copied."""


@asynccontextmanager
async def open_storage(url: str, *, location: str = "") -> AsyncIterator[History]:
    """Open the store at ``url`` for the checks of ``location``, and close it at the end.

    ``memory:`` keeps everything in this process; a path, or ``duckdb:PATH``, is a DuckDB file, which is created
    where there is none.

    :raises StorageLockedError: another process has the file open.
    :raises StorageError: the file cannot be used; the message names it and says what to do.
    """
    store: History
    if url == MEMORY:
        store = MemoryStorage(location=location)
    else:
        # Imported here so that whoever keeps history in memory (a library's user, a simulation) loads no DuckDB.
        from watchbill.storage.duckdb import open_duckdb  # noqa: PLC0415 - see above

        store = await open_duckdb(_path(url), location=location)
    try:
        yield store
    finally:
        with anyio.CancelScope(shield=True):  # not closed, it would stay locked for the rest of the process
            await store.close()


def _path(url: str) -> str:
    scheme, separator, rest = url.partition(":")
    if not url or (separator and scheme == "duckdb" and not rest):
        raise StorageError("the history needs a file: give --storage a path", retryable=False)
    if separator and "//" in url[: len(scheme) + 3] and scheme != "duckdb":
        raise StorageError(
            f"{scheme}: is no kind of history store; use a file path, duckdb:PATH or {MEMORY}",
            retryable=False,
        )
    return rest if separator and scheme == "duckdb" else url
