"""DuckDB's write-ahead log at start: kept, replayed, mended, and compared with what had been promised.

Replaying alone is not enough. A torn tail keeps the database from opening at all, and a log with a damaged head is
passed over in silence and overwritten by the next commit. So the newest batch that was acknowledged is marked in a
file beside it (:mod:`~watchbill.storage.duckdb_marks`), and the log is copied before anyone touches it.

What is mended is put in the log's place at once, so that a kill on the way leaves the log as it was, or mended.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import duckdb

from watchbill.storage.duckdb_connection import connect, starved, storage_error
from watchbill.storage.duckdb_disk import keep_aside, put, set_aside, sync
from watchbill.storage.duckdb_marks import Mark, Marks, losses_between, marks_in
from watchbill.storage.duckdb_repairs import Repairs
from watchbill.storage.duckdb_trials import TORN_AT, forget_trials, trials

MOST_MENDINGS = 3
_OTHER_DATABASE = "WAL does not match"
_OTHER_CHECKPOINT = "checkpoint iteration does not match"
_REPLAY = "replaying WAL"


class WriteAheadLog:
    """What lies beside the database at ``path``: ``.wal``, its copy ``.wal.prev``, and the mark ``.seq``."""

    def __init__(self, path: Path, repairs: Repairs | None = None) -> None:
        self._database = path
        self._path = path.with_name(path.name + ".wal")
        self._copy = path.with_name(path.name + ".wal.prev")
        self.marks = Marks(path.with_name(path.name + ".seq"))
        self._repairs = repairs or Repairs(path)
        self._kept: Path | None = None  # where what was wrong with it can be looked at
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
        forget_trials(self._database)
        if self.size_bytes():
            self._copy.unlink(missing_ok=True)
            try:
                shutil.copyfile(self._path, self._copy)
            except OSError:
                self._copy.unlink(missing_ok=True)

    def replay(self) -> duckdb.DuckDBPyConnection:
        """The database with its log; what of the log cannot be read is set aside and said aloud."""
        self._kept = None
        for _ in range(MOST_MENDINGS):
            try:
                return connect(self._database)
            except duckdb.Error as error:
                self._mend(error)
        return self._connect()

    def compare(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """The database with all that was promised, as far as it can be had; what is gone is said aloud.

        Call it before anything is written, since a write would take the place of what the log still holds.
        """
        if self._kept is None and self.size_bytes() and not _was_replayed(connection):
            connection.close()
            self._give_head("DuckDB passed over it")
            connection = self._connect()
        found = self._found(connection)
        losses = losses_between(self.marks.read(), found)
        if losses:
            if self._kept is None and self._copy.exists():
                self._kept = set_aside(self._copy)
            self._repairs.lose(losses, self._kept)
            self.marks.settle(found, losses, counted=not self._repairs.quiet)
        if not self._repairs.quiet and (found_by_doctor := self.marks.uncounted()):
            self._repairs.lose(found_by_doctor)
            self.marks.settle(found, [], counted=True)
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

    # --- mending ------------------------------------------------------------------------------------

    def _mend(self, error: duckdb.Error) -> None:
        """Make the log one that the database opens with. :raises StorageError: it is not the log that is wrong."""
        said = str(error)
        if not self.size_bytes() or starved(error):  # with more memory, or room, it may well be whole
            raise storage_error(self._database, error) from error
        if torn := TORN_AT.search(said):
            self._cut(int(torn[1]), said)
        elif _OTHER_DATABASE in said or _OTHER_CHECKPOINT in said:
            self._disown(said, damaged=_OTHER_DATABASE in said)
        elif _REPLAY in said:
            self._give_head(said)
        else:
            raise storage_error(self._database, error) from error

    def _cut(self, position: int, said: str) -> None:
        """Drop a torn tail: everything before it was acknowledged, nothing after it can be trusted."""
        kept = self._replace(self._path.read_bytes()[:position])
        self._repairs.mend("history.log_cut", position=position, kept_as=kept.name, error=said)

    def _disown(self, said: str, *, damaged: bool) -> None:
        """Of another database, or of this one at a later time, as when an older copy was restored under it.

        A few changed bits in the name of the database look the same; then it is ours.
        """
        if damaged and (mended := self._with_its_head()) is not None:
            kept = self._replace(mended)
            self._repairs.mend("history.log_rebuilt", kept_as=kept.name, error=said)
            return
        self._copy.unlink(missing_ok=True)  # nobody shall take it for ours
        sync(self._path.parent)
        self._kept = set_aside(self._path)
        self._repairs.mend("history.log_of_another_file", kept_as=self._kept.name, error=said)

    def _give_head(self, said: str) -> None:
        """Put a fresh head on a log of which nothing can be read, or set it aside where that helps nothing."""
        mended, batches = self._with_best_head()
        if mended is None:
            self._kept = set_aside(self._path)
            self._repairs.mend("history.log_unreadable", kept_as=self._kept.name, error=said)
        else:
            kept = self._replace(mended)
            self._repairs.mend("history.log_rebuilt", batches=batches, kept_as=kept.name, error=said)

    def _with_its_head(self) -> bytes | None:
        try:
            with trials(self._database) as tried:
                return tried.with_its_head(self._path.read_bytes())
        except duckdb.Error as error:
            raise storage_error(self._database, error) from error

    def _with_best_head(self) -> tuple[bytes | None, int]:
        try:
            with trials(self._database) as tried:
                return tried.with_best_head(self._path.read_bytes())
        except duckdb.Error as error:
            raise storage_error(self._database, error) from error

    def _replace(self, mended: bytes) -> Path:
        """Put a mended log in the place of the damaged one; where that lies now."""
        self._kept = keep_aside(self._path)
        put(self._path, mended)
        return self._kept

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


def _was_replayed(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether DuckDB has taken the log for one."""
    [(size,)] = connection.execute("SELECT wal_size FROM pragma_database_size()").fetchall()
    return str(size) != "0 bytes"
