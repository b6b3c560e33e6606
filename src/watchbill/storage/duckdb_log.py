"""DuckDB's write-ahead log at start: kept, replayed, mended, and compared with what had been promised.

Replaying alone is not enough. A torn tail keeps the database from opening at all, and a log with a damaged head is
passed over in silence and overwritten by the next commit. So the newest batch that is known to be durable is
marked in a file beside it, ``.seq``, and the log is copied before anyone touches it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import duckdb
import structlog

from watchbill.domain.errors import StorageError
from watchbill.storage.duckdb_connection import CONFIG, connect, storage_error

_TORN_AT = re.compile(r"entry at byte position (\d+)")
_FOREIGN = ("WAL does not match", "checkpoint iteration does not match")
_REPLAY = "replaying WAL"
# Seen: 39 to 52 bytes; its numbers are of variable length and it ends in ff ff.
_HEAD_WITHIN = range(16, 96)
_HEAD_END = b"\xff\xff"

log = structlog.get_logger()


class WriteAheadLog:
    """What lies beside the database at ``path``: ``.wal``, its copy ``.wal.prev``, and the mark ``.seq``."""

    def __init__(self, path: Path) -> None:
        self._database = path
        self._path = path.with_name(path.name + ".wal")
        self._copy = path.with_name(path.name + ".wal.prev")
        self._marks = path.with_name(path.name + ".seq")
        self._marks_aside = path.with_name(path.name + ".seq.new")
        self._marked: dict[str, int] | None = None
        self._refused = False  # it could not be read at all and was set aside

    # --- before, during and after opening -----------------------------------------------------------

    def discard(self) -> None:
        """There is no database any more: its log is set aside, and nothing is promised."""
        if self._path.exists():
            log.error("history.log_without_file", path=str(self._database), kept_as=self._set_aside().name)
        self._marks.unlink(missing_ok=True)
        self._marked = None

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
        self._refused = False
        try:
            return connect(self._database)
        except duckdb.Error as error:
            said = str(error)
            if not self.size_bytes():
                raise storage_error(self._database, error) from error
            if torn := _TORN_AT.search(said):
                self._cut(int(torn[1]), error)
            elif any(sign in said for sign in _FOREIGN):
                # Of another file, or of this one at a later time, as when an older copy was restored under it.
                self._copy.unlink(missing_ok=True)
                self._refuse("history.log_of_another_file", error)
            elif _REPLAY in said:
                self._refuse("history.log_unreadable", error)
                self._refused = True
            else:
                raise storage_error(self._database, error) from error
            return self._connect()

    def compare(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """The database with all that was promised, as far as it can be had; what is gone is said aloud.

        Call it before anything is written, since a write would take the place of what the log still holds.
        """
        missing = self._missing(connection)
        if missing and self._copy.exists():
            connection.close()
            connection = self._rebuilt()
            still = self._missing(connection)
            if still < missing:
                log.error("history.log_rebuilt", path=str(self._database), batches=missing - still)
            missing = still
        if missing:
            log.error(
                "history.batches_lost",
                path=str(self._database),
                batches=missing,
                hint="the file is older than its .seq says: a damaged log, or a restored copy",
            )
        return connection

    def size_bytes(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    # --- the mark -----------------------------------------------------------------------------------

    def marks(self) -> Mapping[str, int]:
        """The newest batch of each location that was known to be in the file when the mark was last set."""
        try:
            marks = json.loads(self._marks.read_text())
            return {location: number for location, number in marks.items() if isinstance(number, int)}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def mark(self, location: str, sequence: int) -> None:
        """Remember durably that this batch is in the file. A disk that is full forgets it until later."""
        if self._marked is None:  # nobody else writes it while the file is ours
            self._marked = dict(self.marks())
        self._marked[location] = sequence
        with contextlib.suppress(OSError):
            text = json.dumps(self._marked).encode()
            aside = os.open(self._marks_aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                if os.write(aside, text) < len(text):
                    return  # the disk took a part: half a mark would promise nothing
                os.fsync(aside)
            finally:
                os.close(aside)
            self._marks_aside.rename(self._marks)

    # --- inside -------------------------------------------------------------------------------------

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            return connect(self._database)
        except duckdb.Error as error:
            raise storage_error(self._database, error) from error

    def _missing(self, connection: duckdb.DuckDBPyConnection) -> int:
        """How many batches were promised and are not there. The connection is closed where it cannot tell."""
        promised = self.marks()
        try:
            states = connection.execute("SELECT location, batch_sequence FROM writer_state").fetchall()
        except duckdb.Error as error:
            connection.close()
            raise storage_error(self._database, error) from error
        found: dict[str, int] = dict(states)
        return sum(max(0, sequence - found.get(location, 0)) for location, sequence in promised.items())

    def _cut(self, position: int, cause: duckdb.Error) -> None:
        """Drop a torn tail: everything before it was acknowledged, nothing after it can be trusted."""
        kept = self._set_aside(copy=True)
        with self._path.open("r+b") as file:
            file.truncate(position)
            os.fsync(file.fileno())
        log.error(
            "history.log_cut",
            path=str(self._database),
            position=position,
            kept_as=kept.name,
            error=str(cause),
        )

    def _refuse(self, event: str, cause: duckdb.Error) -> None:
        log.error(event, path=str(self._database), kept_as=self._set_aside().name, error=str(cause))

    def _rebuilt(self) -> duckdb.DuckDBPyConnection:
        """Put a fresh head on the damaged log: the same database writes the same head again.

        A copy of the log was kept before the file was opened; what was damaged is set aside, never deleted.
        """
        damaged = self._copy.read_bytes()
        if self._path.exists() and self._path.read_bytes() == damaged:
            self._set_aside()
        elif not self._refused:
            # It was replayed as far as it went, and closing put that into the file: it may not be replayed again.
            return self._connect()
        fresh = self._fresh()
        for length in _HEAD_WITHIN:
            if fresh[length - len(_HEAD_END) : length] != _HEAD_END:
                continue
            self._path.write_bytes(fresh[:length] + damaged[length:])
            with contextlib.suppress(duckdb.Error, StorageError):
                if self._holds_all():
                    return self._connect()
        self._path.unlink(missing_ok=True)
        return self._connect()

    def _fresh(self) -> bytes:
        """What the database at its last checkpoint begins a log with."""
        with duckdb.connect(str(self._database), config=CONFIG) as plain:
            plain.execute("PRAGMA disable_checkpoint_on_shutdown")
            plain.execute("CREATE TABLE log_head (number INTEGER)")
        fresh = self._path.read_bytes()
        self._path.unlink()
        return fresh

    def _holds_all(self) -> bool:
        """Whether the database with the log as it lies there has every batch that was promised."""
        with duckdb.connect(str(self._database), config=CONFIG) as plain:
            plain.execute("PRAGMA disable_checkpoint_on_shutdown")
            return not self._missing(plain)

    def _set_aside(self, *, copy: bool = False) -> Path:
        number = 1
        while (aside := self._path.with_name(f"{self._path.name}.corrupt-{number}")).exists():
            number += 1
        if copy:
            shutil.copyfile(self._path, aside)
        else:
            self._path.rename(aside)
        return aside
