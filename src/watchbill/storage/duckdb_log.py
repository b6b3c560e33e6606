"""DuckDB's write-ahead log at start: kept, replayed, mended, and compared with what had been promised.

Replaying alone is not enough. A torn tail keeps the database from opening at all, and a log with a damaged head is
passed over in silence and overwritten by the next commit. So the newest batch that was acknowledged is marked in a
file beside it (:mod:`~watchbill.storage.duckdb_marks`), and the log is copied before anyone touches it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import duckdb

from watchbill.storage.duckdb_connection import CONFIG, connect, storage_error
from watchbill.storage.duckdb_marks import Loss, Mark, Marks
from watchbill.storage.duckdb_queries import WRITER_STATE
from watchbill.storage.duckdb_repairs import Repairs

MOST_MENDINGS = 3
MOST_BYTES_CHANGED = 4
_TORN_AT = re.compile(r"entry at byte position (\d+)")
_OTHER_DATABASE = "WAL does not match"
_OTHER_CHECKPOINT = "checkpoint iteration does not match"
_REPLAY = "replaying WAL"
# Seen: 33 to 52 bytes. It holds the database's name and the number of its checkpoint, and ends in ff ff.
_HEAD_WITHIN = range(16, 96)
_HEAD_END = b"\xff\xff"
_CHECKPOINT_BYTES = 5


class WriteAheadLog:
    """What lies beside the database at ``path``: ``.wal``, its copy ``.wal.prev``, and the mark ``.seq``."""

    def __init__(self, path: Path, repairs: Repairs | None = None) -> None:
        self._database = path
        self._path = path.with_name(path.name + ".wal")
        self._copy = path.with_name(path.name + ".wal.prev")
        self.marks = Marks(path.with_name(path.name + ".seq"))
        self._repairs = repairs or Repairs(path)
        self._kept: Path | None = None  # where what was wrong with it can be looked at
        self._unread = False  # nothing of it has come into the database yet
        self._entered: tuple[int, int] | None = None

    # --- before, during and after opening -----------------------------------------------------------

    def discard(self) -> None:
        """There is no database any more: its log is set aside, what was promised is said to be gone."""
        if self._path.exists():
            self._kept = set_aside(self._path)
            self._repairs.mend("history.log_without_file", kept_as=self._kept.name)
        self._repairs.lose(losses_between(self.marks.read(), {}), self._kept)
        self.marks.forget()

    def keep(self) -> None:
        """A copy for the case that the log turns out damaged; a disk that is full must not keep it from opening."""
        if self.size_bytes():
            self._copy.unlink(missing_ok=True)
            try:
                shutil.copyfile(self._path, self._copy)
            except OSError:
                self._copy.unlink(missing_ok=True)

    def replay(self) -> duckdb.DuckDBPyConnection:
        """The database with its log; what of the log cannot be read is set aside and said aloud."""
        self._kept, self._unread = None, False
        for _ in range(MOST_MENDINGS):
            try:
                return connect(self._database)
            except duckdb.Error as error:
                self._mend(error)
        return self._connect()

    def _mend(self, error: duckdb.Error) -> None:
        """Make the log one that the database opens with. :raises StorageError: it is not the log that is wrong."""
        said = str(error)
        if not self.size_bytes():
            raise storage_error(self._database, error) from error
        if torn := _TORN_AT.search(said):
            self._cut(int(torn[1]), error)
        elif _OTHER_DATABASE in said or _OTHER_CHECKPOINT in said:
            self._disown(error, damaged=_OTHER_DATABASE in said)
        elif _REPLAY in said:
            self._kept, self._unread = set_aside(self._path), True
            self._repairs.mend("history.log_unreadable", kept_as=self._kept.name, error=said)
        else:
            raise storage_error(self._database, error) from error

    def compare(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """The database with all that was promised, as far as it can be had; what is gone is said aloud.

        Call it before anything is written, since a write would take the place of what the log still holds.
        """
        passed_over = self._kept is None and bool(self.size_bytes()) and not _was_replayed(connection)
        if (passed_over or self._losses(connection)) and self._copy.exists():
            before = self._found(connection)
            connection.close()
            connection = self._rebuilt()
            gained = _batches(losses_between(self._found(connection), before))
            if gained:
                self._repairs.mend("history.log_rebuilt", batches=gained)
            elif passed_over and self._kept is not None:
                self._repairs.mend(
                    "history.log_unreadable", kept_as=self._kept.name, error="DuckDB passed over it"
                )
        losses = self._losses(connection)
        if losses:
            self._repairs.lose(losses, self._kept)
            self.marks.settle(self._found(connection), losses)
        return connection

    def size_bytes(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    # --- after a commit -----------------------------------------------------------------------------

    def acknowledge(self, location: str, mark: Mark) -> None:
        """What was committed is about to be acknowledged: see that neither a kill nor a power cut can undo it unseen.

        :raises OSError: the log's name may not outlive a power cut.
        """
        self._enter()
        self.marks.set(location, mark)

    def checkpointed(self) -> None:
        """The log is gone; the next one will be a new file."""
        self._entered = None

    def _enter(self) -> None:
        """DuckDB syncs a new log, but not the folder that its name stands in."""
        try:
            seen = self._path.stat()
        except FileNotFoundError:
            self._entered = None
            return
        entered, self._entered = self._entered, None
        if entered is None or entered[0] != seen.st_ino or entered[1] > seen.st_size:
            sync(self._path.parent)
        self._entered = seen.st_ino, seen.st_size

    # --- inside -------------------------------------------------------------------------------------

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            return connect(self._database)
        except duckdb.Error as error:
            raise storage_error(self._database, error) from error

    def _found(self, connection: duckdb.DuckDBPyConnection) -> Mapping[str, Mark]:
        """How far each location has come in the file. The connection is closed where it cannot tell."""
        try:
            return marks_in(connection)
        except duckdb.Error as error:
            connection.close()
            raise storage_error(self._database, error) from error

    def _losses(self, connection: duckdb.DuckDBPyConnection) -> list[Loss]:
        """What was promised and is not there. The connection is closed where it cannot tell."""
        promised = self.marks.read()
        return losses_between(promised, self._found(connection)) if promised else []

    def _cut(self, position: int, cause: duckdb.Error) -> None:
        """Drop a torn tail: everything before it was acknowledged, nothing after it can be trusted."""
        self._kept = kept = set_aside(self._path, copy=True)
        sync(kept)
        with self._path.open("r+b") as file:
            file.truncate(position)
            os.fsync(file.fileno())
        self._repairs.mend("history.log_cut", position=position, kept_as=kept.name, error=str(cause))

    def _disown(self, cause: duckdb.Error, *, damaged: bool) -> None:
        """Of another database, or of this one at a later time, as when an older copy was restored under it.

        A few changed bits in the name of the database look the same; then it is ours.
        """
        content = self._path.read_bytes()
        self._kept = kept = set_aside(self._path)
        fresh = self._fresh()
        for length in _head_lengths(fresh):
            if damaged and _resembles(content[:length], fresh[:length]):
                self._path.write_bytes(fresh[:length] + content[length:])
                self._repairs.mend("history.log_rebuilt", kept_as=kept.name, error=str(cause))
                return
        self._copy.unlink(missing_ok=True)
        self._repairs.mend("history.log_of_another_file", kept_as=kept.name, error=str(cause))

    def _rebuilt(self) -> duckdb.DuckDBPyConnection:
        """Put a fresh head on the damaged log: the same database writes the same head again.

        A copy of the log was kept before the file was opened; what was damaged is set aside, never deleted.
        """
        damaged = self._copy.read_bytes()
        if self._path.exists() and self._path.read_bytes() == damaged:
            self._kept, self._unread = set_aside(self._path), True
        self._kept = self._kept or set_aside(self._copy)
        if self._unread:
            self._put_head(self._fresh(), damaged)
        # Else it was replayed as far as it went, and closing put that into the file: it may not be replayed again.
        return self._connect()

    def _put_head(self, fresh: bytes, damaged: bytes) -> None:
        """Leave the damaged log with the head that brings back the most, or no log."""
        best, most = None, self._batches_now()
        for length in _head_lengths(fresh):
            self._path.write_bytes(fresh[:length] + damaged[length:])
            batches = self._batches_now()
            if batches > most:
                best, most = self._path.read_bytes(), batches
        if best is None:
            self._path.unlink(missing_ok=True)
        else:
            self._path.write_bytes(best)

    def _fresh(self) -> bytes:
        """What the database at its last checkpoint begins a log with."""
        with duckdb.connect(str(self._database), config=CONFIG) as plain:
            plain.execute("PRAGMA disable_checkpoint_on_shutdown")
            plain.execute("CREATE TABLE log_head (number INTEGER)")
        fresh = self._path.read_bytes()
        self._path.unlink()
        return fresh

    def _batches_now(self) -> int:
        """How many batches the database has with the log as it lies there, cut where it is torn."""
        for _ in range(2):
            try:
                with duckdb.connect(str(self._database), config=CONFIG) as plain:
                    plain.execute("PRAGMA disable_checkpoint_on_shutdown")
                    return sum(mark.sequence for mark in marks_in(plain).values())
            except duckdb.Error as error:
                torn = _TORN_AT.search(str(error))
                if torn is None:
                    break
                os.truncate(self._path, int(torn[1]))
        return -1


def marks_in(connection: duckdb.DuckDBPyConnection) -> Mapping[str, Mark]:
    """How far each location has come in a database. :raises duckdb.Error: it cannot tell."""
    states = connection.execute(WRITER_STATE).fetchall()
    return {location: Mark(sequence, accounted) for location, sequence, accounted in states}


def losses_between(promised: Mapping[str, Mark], found: Mapping[str, Mark]) -> list[Loss]:
    """What is promised beyond what is there."""
    losses = []
    for location, mark in promised.items():
        there = found.get(location, Mark(0))
        if there.sequence < mark.sequence:
            last = mark.accounted_until
            losses.append(Loss(location, there.sequence + 1, mark.sequence, there.accounted_until, last))
    return losses


def _was_replayed(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether DuckDB has taken the log for one."""
    [(size,)] = connection.execute("SELECT wal_size FROM pragma_database_size()").fetchall()
    return str(size) != "0 bytes"


def _head_lengths(fresh: bytes) -> list[int]:
    """Where the head of a log may end: its numbers are of variable length."""
    return [length for length in _HEAD_WITHIN if fresh[length - len(_HEAD_END) : length] == _HEAD_END]


def _resembles(head: bytes, fresh: bytes) -> bool:
    """Whether it differs by a few bytes of the database's name, and in no other; another name differs in nearly all."""
    differing = (
        sum(one != other for one, other in zip(head, fresh, strict=True)) if len(head) == len(fresh) else 99
    )
    return differing <= MOST_BYTES_CHANGED and head[-_CHECKPOINT_BYTES:] == fresh[-_CHECKPOINT_BYTES:]


def _batches(losses: list[Loss]) -> int:
    return sum(loss.last - loss.first + 1 for loss in losses)


def set_aside(path: Path, *, copy: bool = False) -> Path:
    """Rename a file to the first free ``.corrupt-N`` of its name, or copy it there; where it lies now."""
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    if copy:
        shutil.copyfile(path, aside)
    else:
        path.rename(aside)
    return aside


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
