"""The DuckDB file itself: one process at a time, born whole, migrated before use.

A second lock file is held beside DuckDB's own: POSIX locks are dropped when any descriptor of the file is closed in
the same process, so the database file is never opened here by its path while it is in use.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from watchbill.domain.errors import StorageError, StorageStarvedError
from watchbill.storage.duckdb_checkpoint import Checkpoints
from watchbill.storage.duckdb_connection import connect, copying_folder, held_by, storage_error
from watchbill.storage.duckdb_disk import set_aside, sync
from watchbill.storage.duckdb_log import WriteAheadLog
from watchbill.storage.duckdb_repairs import Repairs
from watchbill.storage.duckdb_schema import migrate, plain_checkpoint, schema_version

_LOOK_AT_THE_DISK = "see that the disk has room and this user may write there"


class DuckDbFile:
    """A history file and its lock; what had been committed lately is in its :class:`WriteAheadLog`."""

    def __init__(self, location: str, *, quiet: bool = False) -> None:
        # Where a link leads, since what belongs to a file lies beside the file, whatever name it is opened by.
        # `expanduser` of a Path refuses a name like `~old.duckdb`.
        self.path = path = Path(os.path.realpath(os.path.expanduser(location)))  # noqa: PTH111 - see above
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
        if not _is_text(self.path):
            raise StorageError(
                f"{self.path}: a path that is not UTF-8; give it another name", retryable=False
            )
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

    def see_unused(self) -> None:
        """Ask for DuckDB's own lock, too: of another program, or of a user whose lock file is out of reach.

        Nobody in this process may have the database open, since closing it here drops the lock.

        :raises StorageLockedError: it is open elsewhere.
        """
        if not _open_elsewhere(self.path):
            return
        try:
            connect(self.path, read_only=True).close()
        except duckdb.Error as error:  # it knows which process that is
            raise self.error(error) from error

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
            self.see_unused()
            self.checkpoints.restore()
            self.log.keep()
            connection = self.log.replay()
            if schema_version(self.path, connection):
                connection = self.log.compare(connection)
            migrate(self.path, connection, self.checkpoints.run)
        except OSError as error:
            raise StorageStarvedError(
                f"{self.path}: {error.strerror or error}; {_LOOK_AT_THE_DISK}"
            ) from error
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

    @contextmanager
    def replaced(self) -> Iterator[None]:
        """Held while another file takes its place, whose mark is not the one that lies there.

        :raises StorageLockedError: a process holds it.
        :raises StorageError: what lies beside would be taken for the new file's.
        """
        held_before = self._lock.exists()
        self.lock()
        try:
            for beside in (".wal", ".blocks"):
                if (left := self.path.with_name(self.path.name + beside)).exists():
                    raise StorageError(
                        f"{left}: belongs to another history, and would be taken for this one's; name another file, or move it away"
                    )
            if self.path.exists():
                self.see_unused()
            yield
            self.log.marks.forget()
        finally:
            self.unlock()
            if not held_before:
                self._lock.unlink(missing_ok=True)

    def unfinished(self) -> bool:
        """Whether a start would have something to replay or to put back."""
        return bool(self.log.size_bytes()) or self.path.with_name(self.path.name + ".blocks").exists()

    def error(self, cause: duckdb.Error) -> StorageError:
        return storage_error(self.path, cause)

    def _create(self) -> None:
        """Make the file aside and rename it: a kill on the way leaves nothing that looks like a database."""
        self.log.discard()
        self._keep_half_made()
        try:
            with connect(self._new) as connection:
                migrate(self.path, connection, plain_checkpoint)
            sync(self._new)
            self._new.rename(self.path)
        except duckdb.Error as error:
            self._forget_half_made()
            raise self.error(error) from error
        except (StorageError, OSError):
            self._forget_half_made()
            raise
        sync(self.path.parent)

    def _half_made(self) -> list[Path]:
        names = (self._new.with_name(self._new.name + ".wal"), self._new)
        return [path for path in names if os.path.lexists(path)]

    def _keep_half_made(self) -> None:
        """What a kill left is kept once: a start that is killed again and again must not fill the folder."""
        for leftover in self._half_made():
            if leftover.with_name(leftover.name + ".corrupt-1").exists():
                leftover.unlink()
            else:
                self.repairs.mend("history.half_made", kept_as=set_aside(leftover).name)

    def _forget_half_made(self) -> None:
        """Of our own making, and nobody was promised anything of it."""
        for leftover in self._half_made():
            with suppress(OSError):
                leftover.unlink()


def _open_elsewhere(database: Path) -> bool:
    with database.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:
            pass  # a file system without locks
    return False


def _is_text(path: Path) -> bool:
    """Whether DuckDB, which takes UTF-8, can be told of it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
