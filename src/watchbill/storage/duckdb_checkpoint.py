"""Checkpoints that may be cut short at any instant.

DuckDB writes its metadata blocks where they are, 256 KB at a time. A process that is killed meanwhile, or a power cut,
leaves a block that is half new, whose checksum is wrong, and the whole database does not open any more. So every
checkpoint is made here: what it may overwrite is saved beside the database first, and put back at the next opening
unless the checkpoint was completed, which the database's own head says.
"""

from __future__ import annotations

import hashlib
import os
import struct
from contextlib import suppress
from pathlib import Path

import duckdb

from watchbill.storage.duckdb_disk import sync
from watchbill.storage.duckdb_repairs import Repairs

LOG_BYTES = 8 * 1024 * 1024
LOG_COMMITS = 200
"""So large the log may grow before it goes into the file. What a kill has left is to open within 250 ms, and replaying
takes 0.2 ms a commit and 10 ms a megabyte."""
_PUT_OFF_UNTIL = 1.25  # times as much, where a checkpoint failed: committing goes on meanwhile
_HEAD_BYTES = 3 * 4_096  # one that never changes, two that each checkpoint takes in turn and writes last
_BLOCK_BYTES = 262_144
_MAGIC = b"watchbill blocks 1\n"
_PLACE = struct.Struct("<QQ")  # where in the file, how many bytes
_METADATA_BLOCKS = "SELECT DISTINCT block_id FROM pragma_metadata_info()"


class Checkpoints:
    """Of the database at ``path``; ``.blocks`` beside it is what the checkpoint under way may overwrite."""

    def __init__(self, path: Path, repairs: Repairs) -> None:
        self._path = path
        self._repairs = repairs
        self._log = path.with_name(path.name + ".wal")
        self._saved = path.with_name(path.name + ".blocks")
        self._due_at = LOG_BYTES
        self._commits = LOG_COMMITS  # in the log; of one that another process has left nobody knows
        self._due_after = LOG_COMMITS
        self._in_doubt = False
        self._descriptor: int | None = None

    # --- while the database is open -----------------------------------------------------------------

    def committed(self) -> None:
        """There is one commit more in the log."""
        self._commits += 1

    def is_due(self) -> bool:
        return self._commits >= self._due_after or self._log_bytes() >= self._due_at

    def run(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Bring the log into the file.

        :raises OSError: there was no room to save what it overwrites; nothing was done.
        :raises duckdb.Error: the database has to be opened anew.
        """
        size = self._log_bytes()
        if not size:
            return
        self._due_at = max(LOG_BYTES, round(size * _PUT_OFF_UNTIL))
        self._due_after = max(LOG_COMMITS, round(self._commits * _PUT_OFF_UNTIL))
        self._save(cursor)
        self._in_doubt = True
        cursor.checkpoint()
        self._in_doubt = False
        self._due_at = LOG_BYTES
        self._commits, self._due_after = 0, LOG_COMMITS
        with suppress(OSError):
            self._saved.unlink(missing_ok=True)

    # --- before it is opened ------------------------------------------------------------------------

    def restore(self) -> None:
        """Undo the checkpoint that was cut short or failed, if one did. Nobody may have the database open.

        :raises OSError: the file could not be written.
        """
        self.close()
        if self._saved.exists():
            saved = _blocks(self._saved.read_bytes())
            # One that failed may have written its head all the same; whether the disk has it nobody knows.
            failed = self._in_doubt and self._log_bytes() > 0
            if saved and (undone := _put_back(self._path, saved, anyway=failed)):
                self._repairs.mend("history.checkpoint_undone", blocks=undone)
            self._saved.unlink()
        self._in_doubt = False
        if not self._log_bytes():
            self._commits = 0
        # Kept open: closed while DuckDB has the file open, it would take DuckDB's lock with it.
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the file. Nobody may have the database open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    # --- inside -------------------------------------------------------------------------------------

    def _log_bytes(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    def _save(self, cursor: duckdb.DuckDBPyConnection) -> None:
        numbers = [number for (number,) in cursor.execute(_METADATA_BLOCKS).fetchall()]
        descriptor = self._descriptor
        assert descriptor is not None  # noqa: S101 - nothing is opened before it was restored
        places = [(0, _HEAD_BYTES)]
        places += [(_HEAD_BYTES + number * _BLOCK_BYTES, _BLOCK_BYTES) for number in sorted(numbers)]
        content = b"".join(_PLACE.pack(*place) + os.pread(descriptor, place[1], place[0]) for place in places)
        aside = self._saved.with_name(self._saved.name + ".new")
        try:
            with aside.open("wb") as file:
                file.write(_MAGIC + hashlib.sha256(content).digest() + content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        aside.rename(self._saved)
        sync(self._path.parent)


def _blocks(content: bytes) -> list[tuple[int, bytes]]:
    """(place, bytes) of all that was saved, the head first; nothing where it was not saved whole."""
    start = len(_MAGIC) + hashlib.sha256().digest_size
    body = content[start:]
    if content[:start] != _MAGIC + hashlib.sha256(body).digest():
        return []
    blocks, at = [], 0
    while at < len(body):
        place, length = _PLACE.unpack_from(body, at)
        at += _PLACE.size
        blocks.append((place, body[at : at + length]))
        at += length
    return blocks


def _put_back(path: Path, saved: list[tuple[int, bytes]], *, anyway: bool) -> int:
    """How many places had been touched by a checkpoint that was not completed. ``anyway``: even if the head says it was."""
    head = saved[0][1]
    with path.open("r+b", buffering=0) as file:
        if not anyway and os.pread(file.fileno(), len(head), 0) != head:
            return 0  # the head is written last: since then a checkpoint was completed
        touched = [
            (place, block) for place, block in saved if os.pread(file.fileno(), len(block), place) != block
        ]
        for place, block in touched:
            os.pwrite(file.fileno(), block, place)
            os.fsync(file.fileno())  # the head before the others: once it is back, they are put back again
    return len(touched)
