"""Whether a history file is what it should be, and what exactly is wrong: for ``watchbill doctor``.

The file is only read. Where a log lies beside it, which the next start would replay, a copy is opened by the same code
as a start would use, so that what it says is what would happen.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from watchbill.domain.errors import (
    StorageError,
    StorageLockedError,
    StorageOutOfReachError,
    StorageStarvedError,
)
from watchbill.domain.units import Instant, isoformat
from watchbill.storage.duckdb_connection import connect, storage_error
from watchbill.storage.duckdb_damage import Unreadable, tables_of, unreadable
from watchbill.storage.duckdb_file import DuckDbFile
from watchbill.storage.duckdb_marks import Loss, losses_between, marks_in
from watchbill.storage.duckdb_repairs import Told
from watchbill.storage.duckdb_rules import broken
from watchbill.storage.duckdb_salvage import Salvaged, salvage
from watchbill.storage.duckdb_schema import schema_version

EXPECTED = frozenset({"checkpoint_undone"})
"""What a start says of a file that a kill left as kills leave them."""
MENDED = frozenset(
    {"log_cut", "log_rebuilt", "log_unreadable", "log_of_another_file", "half_made", "batches_lost"}
)
INTERRUPTED = "Query interrupted"
"""What DuckDB makes of a Ctrl-C, as a RuntimeError."""
FIRST_ROWS = "SELECT count(*), epoch_us(min(slot)), epoch_us(max(slot)) FROM result"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``lost``: something that had been acknowledged is gone."""

    kind: str
    message: str
    lost: bool = False


@dataclass(slots=True)
class Examination:
    """``findings`` is empty for a healthy file; ``mended`` is what was wrong and is right now.

    ``notes`` are no fault of the file, or none that was not told before; ``unexamined`` is what memory or the disk did not
    suffice to look at, or to save.
    """

    path: Path
    size_bytes: int = 0
    schema: int = 0
    rows: int = 0
    first_slot: Instant | None = None
    last_slot: Instant | None = None
    checks: int = 0
    batches: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    unexamined: list[Finding] = field(default_factory=list)
    salvaged: Salvaged | None = None

    @property
    def healthy(self) -> bool:
        return not self.findings


def examine(location: str, *, repair: bool = False) -> Examination:
    """Look at a whole history file; with ``repair``, mend its log in place and save the rest into a file beside.

    :raises StorageLockedError: a process has it open.
    :raises StorageError: it cannot be examined at all (no such file, no permission, a newer version, no room for the copy).
    """
    file = DuckDbFile(location, quiet=True)
    try:
        return _examined(file, repair)
    except OSError as error:
        remedy = (
            "make it readable for this user" if isinstance(error, PermissionError) else "look at the disk"
        )
        raise StorageError(f"{file.path}: {error.strerror}; {remedy}") from error
    except RuntimeError as error:
        if str(error) == INTERRUPTED:
            raise KeyboardInterrupt from None
        raise


def _examined(file: DuckDbFile, repair: bool) -> Examination:
    if not file.path.exists():
        raise StorageError(f"{file.path}: no such file", retryable=False)
    found = Examination(file.path)
    with _held(file, needed=repair):
        found.size_bytes = file.size_bytes() or 0
        found.notes += [_earlier(loss) for loss in file.log.marks.losses()]
        if repair:
            _repair(file, found)
        elif file.unfinished():
            with _copy_of(file) as copy:
                _look(copy, found, replay=True)
        else:
            _look(file, found, replay=False)
    return found


@contextmanager
def _held(file: DuckDbFile, *, needed: bool) -> Iterator[None]:
    """A folder that takes no lock file can be read all the same; DuckDB refuses then what is open elsewhere."""
    try:
        file.lock()
    except StorageError as error:
        if needed or not isinstance(error.__cause__, OSError) or isinstance(error.__cause__, BlockingIOError):
            raise
    try:
        file.see_unused()
        yield
    finally:
        file.unlock()


@contextmanager
def _copy_of(file: DuckDbFile) -> Iterator[DuckDbFile]:
    folder = file.path.with_name(file.path.name + ".doctor")
    try:
        shutil.rmtree(folder, ignore_errors=True)  # what a kill left
        folder.mkdir(mode=0o700)
        for name in file.belongings():
            shutil.copyfile(file.path.with_name(name), folder / name)
        yield DuckDbFile(str(folder / file.path.name), quiet=True)
    except OSError as error:
        raise StorageError(
            f"{file.path}: cannot be copied to look at what a start would do ({error.strerror}); make room in its folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- looking ------------------------------------------------------------------------------------------


def _look(file: DuckDbFile, found: Examination, *, replay: bool) -> None:
    """``replay``: the file is a copy, or is to be mended."""
    try:
        try:
            if replay:
                file.open().close()
        finally:
            said = list(_told(file.repairs.told))
            found.notes += [finding for finding in said if finding.kind in EXPECTED]
            found.findings += [finding for finding in said if finding.kind not in EXPECTED]
        with _reading(file.path) as connection:
            _read(file, connection, found)
    except (StorageLockedError, StorageOutOfReachError):
        raise
    except StorageStarvedError as error:
        found.unexamined.append(Finding("not_examined", _of(str(error), file.path)))
    except StorageError as error:
        found.findings.append(Finding("unusable", _of(str(error), file.path), lost=True))


@contextmanager
def _reading(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        connection = connect(path, read_only=True)
    except duckdb.Error as error:
        raise storage_error(path, error) from error
    try:
        yield connection
    except duckdb.Error as error:
        raise storage_error(path, error) from error
    finally:
        connection.close()


def _read(file: DuckDbFile, connection: duckdb.DuckDBPyConnection, found: Examination) -> None:
    found.schema = schema_version(file.path, connection)
    if not found.schema:
        found.findings.append(Finding("empty", "a database without a table: nothing was ever stored in it"))
        return
    [(database,)] = connection.execute("SELECT current_database()").fetchall()
    damage = [
        part for table in tables_of(connection, database) for part in unreadable(connection, table, database)
    ]
    found.findings += [Finding("damaged", _place(part), lost=True) for part in damage]
    if all(part.table != "writer_state" for part in damage):
        marks = marks_in(connection)
        found.batches = {location: mark.sequence for location, mark in marks.items()}
        gone = losses_between(file.log.marks.read(), marks)
        found.findings += [Finding("lost", _gone(loss), lost=True) for loss in gone]
    if damage:
        return
    [(found.rows, found.first_slot, found.last_slot)] = connection.execute(FIRST_ROWS).fetchall()
    [(found.checks,)] = connection.execute("SELECT count(DISTINCT check_id) FROM check_name").fetchall()
    found.findings += [
        Finding(rule.kind, f"{number:,} {rule.meaning}") for rule, number in broken(connection)
    ]


def _place(part: Unreadable) -> str:
    return f"{part.table}.{part.column}: rows {part.first:,} to {part.last:,} cannot be read ({part.error})"


def _gone(loss: Loss) -> str:
    slots = ""
    if loss.since is not None and loss.until is not None:
        slots = f", of slots from {isoformat(loss.since)} to {isoformat(loss.until)}"
    at = f" of {loss.location}" if loss.location else ""
    return f"batches {loss.first:,} to {loss.last:,}{at} had been acknowledged and are gone{slots}"


def _earlier(loss: Loss) -> Finding:
    return Finding("lost_earlier", f"an earlier start found that {_gone(loss)}", lost=True)


def _told(told: Iterable[Told]) -> Iterator[Finding]:
    """What a start says while it mends."""
    for event, facts in told:
        lost = event == "history.batches_lost"
        said = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "hint")
        yield Finding(event.removeprefix("history."), said, lost=lost)


def _of(message: str, path: Path) -> str:
    """What is said of a file without its name, which stands above."""
    return message.removeprefix(f"{path}: ")


# --- mending ------------------------------------------------------------------------------------------


def _repair(file: DuckDbFile, found: Examination) -> None:
    _look(file, found, replay=True)
    found.mended = [finding for finding in found.findings if finding.kind in MENDED]
    found.findings = [finding for finding in found.findings if finding.kind not in MENDED]
    if not found.findings or any(finding.kind in {"unusable", "empty"} for finding in found.findings):
        return
    target = file.path.with_name(file.path.name + ".salvaged")
    try:
        found.salvaged = salvage(file.path, target, file.log.marks.read())
    except StorageError as error:  # what was found, and mended, has to be told all the same
        found.unexamined.append(Finding("not_saved", str(error)))
