"""Logs tried out under another name of the database, so that neither it nor its log is touched.

DuckDB looks for a log by the name that a database is opened by. Opened for reading only, it replays the log in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from watchbill.storage.duckdb_connection import CONFIG, starved, storage_error
from watchbill.storage.duckdb_disk import linked
from watchbill.storage.duckdb_marks import marks_in

TORN_AT = re.compile(r"entry at byte position (\d+)")
MOST_BYTES_CHANGED = 4
# Seen: 33 to 52 bytes. It holds the database's name and the number of its checkpoint, and ends in ff ff.
_HEAD_WITHIN = range(16, 96)
_HEAD_END = b"\xff\xff"
_CHECKPOINT_BYTES = 5


class Trials:
    """Of the database under the second name ``.mending``."""

    def __init__(self, database: Path) -> None:
        self._of = database
        self._database = database.with_name(database.name + ".mending")
        self._log = self._database.with_name(self._database.name + ".wal")

    def with_its_head(self, damaged: bytes) -> bytes | None:
        """The log with a fresh head in place of its own, which differs from that by a few changed bits; else nothing.

        The same database writes the same head again.
        """
        fresh = self._fresh()
        for length in _head_lengths(fresh):
            if _resembles(damaged[:length], fresh[:length]):
                return fresh[:length] + damaged[length:]
        return None

    def with_best_head(self, damaged: bytes) -> tuple[bytes | None, int]:
        """The log with the head that brings back the most, cut where it is torn, and how many batches that are.

        Nothing where no head brings back any.
        """
        without = self._batches(b"")[0]
        best, most = None, without
        fresh = self._fresh()
        for length in _head_lengths(fresh):
            batches, whole = self._batches(fresh[:length] + damaged[length:])
            if batches > most:
                best, most = whole, batches
        return best, most - without

    # --- inside -------------------------------------------------------------------------------------

    def _fresh(self) -> bytes:
        """What the database at its last checkpoint begins a log with."""
        with self._opened(b"", read_only=False) as connection:
            connection.execute("CREATE TABLE log_head (number INTEGER)")
        fresh = self._log.read_bytes()
        self._log.unlink()
        return fresh

    def _batches(self, log: bytes) -> tuple[int, bytes]:
        """How many batches the database has with this log, and as much of it as is whole. -1 where it does not open."""
        for _ in range(2):
            try:
                with self._opened(log, read_only=True) as connection:
                    return sum(mark.sequence for mark in marks_in(connection).values()), log
            except duckdb.Error as error:
                torn = TORN_AT.search(str(error))
                if starved(error):
                    raise storage_error(self._of, error) from error
                if torn is None:
                    break
                log = log[: int(torn[1])]
        return -1, b""

    @contextmanager
    def _opened(self, log: bytes, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        if log:
            self._log.write_bytes(log)
        else:
            self._log.unlink(missing_ok=True)
        with duckdb.connect(str(self._database), read_only=read_only, config=CONFIG) as connection:
            connection.execute("PRAGMA disable_checkpoint_on_shutdown")
            yield connection


@contextmanager
def trials(database: Path) -> Iterator[Trials]:
    """Nobody may have the database open.

    :raises OSError: there is no room for it.
    """
    forget_trials(database)
    linked(database, database.with_name(database.name + ".mending"))
    try:
        yield Trials(database)
    finally:
        forget_trials(database)


def forget_trials(database: Path) -> None:
    """Remove what is left of any."""
    for suffix in (".mending.wal", ".mending.part", ".mending"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _head_lengths(fresh: bytes) -> list[int]:
    """Where the head of a log may end: its numbers are of variable length."""
    return [length for length in _HEAD_WITHIN if fresh[length - len(_HEAD_END) : length] == _HEAD_END]


def _resembles(head: bytes, fresh: bytes) -> bool:
    """Whether it differs by a few bytes of the database's name, and in no other; another name differs in nearly all."""
    differing = (
        sum(one != other for one, other in zip(head, fresh, strict=True)) if len(head) == len(fresh) else 99
    )
    return differing <= MOST_BYTES_CHANGED and head[-_CHECKPOINT_BYTES:] == fresh[-_CHECKPOINT_BYTES:]
