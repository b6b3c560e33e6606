"""Ways in which the files of a history are damaged, each under a name: what a disk, a kill or a hand may leave."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

BLOCK = 262_144
HEADS = 12_288
Break = Callable[["Files", random.Random], object]


@dataclass(frozen=True)
class Files:
    """A history in a folder of its own. ``older`` is a copy of the database as it was before; ``other`` another history's."""

    path: Path
    older: Path
    other: Path

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    @property
    def wal(self) -> Path:
        return self.beside(".wal")


@dataclass(frozen=True)
class Damage:
    """One that is not ``broken`` has lost nothing, so it may not be refused."""

    name: str
    inflict: Break
    broken: bool = True


def flip(path: Path, place: int, bits: int = 0xFF) -> None:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= bits
    path.write_bytes(content)


def zero(path: Path, start: int, length: int) -> None:
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(len(content[start : start + length]))
    path.write_bytes(content)


def _folder(path: Path) -> None:
    if path.exists():
        path.unlink()
    path.mkdir()


def _sqlite(files: Files, _: random.Random) -> None:
    files.path.unlink()
    with closing(sqlite3.connect(files.path)) as connection:
        connection.execute("CREATE TABLE somebody_elses (value)")


def _foreign(files: Files, _: random.Random) -> None:
    files.path.unlink()
    files.wal.unlink()
    with duckdb.connect(str(files.path)) as connection:
        connection.execute("CREATE TABLE somebody_elses (value INTEGER)")


def _newer_schema(files: Files, _: random.Random) -> None:
    with duckdb.connect(str(files.path)) as connection:
        connection.execute("INSERT INTO schema_migration VALUES (99, now())")


def _linked(files: Files, _: random.Random) -> None:
    real = files.path.with_name("real")
    real.mkdir()
    for file in list(files.path.parent.glob(files.path.name + "*")):
        file.rename(real / file.name)
    files.path.symlink_to(real / files.path.name)


def _link_loop(files: Files, _: random.Random) -> None:
    files.path.unlink()
    files.path.symlink_to(files.path)


def _pipe(files: Files, _: random.Random) -> None:
    files.path.unlink()
    os.mkfifo(files.path)


def _gone(*suffixes: str) -> Break:
    def remove(files: Files, _: random.Random) -> None:
        for suffix in suffixes:
            files.beside(suffix).unlink()

    return remove


def _block(number: int) -> Break:
    """A flipped bit in a block of data; 0 is the catalogue."""

    def damage(files: Files, chance: random.Random) -> None:
        blocks = (files.path.stat().st_size - HEADS) // BLOCK
        flip(files.path, HEADS + number % blocks * BLOCK + chance.randrange(BLOCK), 1 << chance.randrange(8))

    return damage


def _head_of_log(place: int) -> Damage:
    return Damage(
        f"a bit flipped in byte {place} of the log",
        lambda files, chance: flip(files.wal, place, 1 << chance.randrange(8)),
    )


def _unreadable(files: Files, _: random.Random) -> None:
    for file in files.path.parent.iterdir():
        file.chmod(0)
    files.path.parent.chmod(0o500)


DAMAGES: tuple[Damage, ...] = (
    Damage("nothing", lambda files, _: None, broken=False),
    Damage("an empty file", lambda files, _: files.path.write_bytes(b"")),
    Damage("a text file", lambda files, _: files.path.write_text("checks: {}\n" * 99)),
    Damage("a SQLite file", _sqlite),
    Damage("another program's DuckDB file", _foreign),
    Damage("a schema of a newer watchbill", _newer_schema),
    Damage("zeros all over", lambda files, _: zero(files.path, 0, files.path.stat().st_size)),
    Damage("zeros in its first page", lambda files, _: zero(files.path, 0, 4_096)),
    Damage("cut in the middle", lambda files, _: os.truncate(files.path, files.path.stat().st_size // 2)),
    Damage("cut after its heads", lambda files, _: os.truncate(files.path, HEADS)),
    Damage("cut by a page", lambda files, _: os.truncate(files.path, files.path.stat().st_size - 4_096)),
    Damage("its first head flipped", lambda files, _: flip(files.path, 9)),
    Damage("a storage version of the future", lambda files, _: flip(files.path, 13)),
    Damage("its second head flipped", lambda files, _: flip(files.path, 4_096 + 20)),
    Damage("its third head flipped", lambda files, _: flip(files.path, 8_192 + 20)),
    Damage("both of its later heads flipped", lambda files, _: zero(files.path, 4_096, 8_192)),
    Damage("garbage behind its end", lambda files, chance: _append(files.path, chance), broken=False),
    *(Damage(f"a bit flipped in block {number}", _block(number)) for number in range(8)),
    Damage("a page of zeros in its data", lambda files, _: zero(files.path, HEADS + 2 * BLOCK + 8_192, 4_096)),
    Damage("a folder in its place", lambda files, _: _folder(files.path)),
    Damage("a pipe in its place", _pipe),
    Damage("a link to it", _linked, broken=False),
    Damage("a link to itself", _link_loop),
    Damage("nobody may read it", _unreadable),
    Damage("it is gone, its log is not", _gone("")),
    Damage("it and its log are gone", _gone("", ".wal")),
    Damage("an older copy under a newer log", lambda files, _: shutil.copy(files.older, files.path)),
    Damage("another history above this log", lambda files, _: shutil.copy(files.other, files.path)),
    *(_head_of_log(place) for place in (0, 1, 2, 3, 4, 6, 8, 9, 11, 14, 18, 22, 26, 30, 34)),
    Damage("a bit flipped early in the log", lambda files, _: flip(files.wal, files.wal.stat().st_size // 8, 4)),
    Damage("a bit flipped late in the log", lambda files, _: flip(files.wal, files.wal.stat().st_size * 9 // 10, 4)),
    Damage("a torn end of the log", lambda files, chance: _tear(files.wal, chance)),
    Damage("a log of ten bytes", lambda files, _: os.truncate(files.wal, 10)),
    Damage("an empty log", lambda files, _: os.truncate(files.wal, 0)),
    Damage("zeros at the end of the log", lambda files, _: zero(files.wal, files.wal.stat().st_size - 4_096, 4_096)),
    Damage("zeros all over the log", lambda files, _: zero(files.wal, 0, files.wal.stat().st_size)),
    Damage("garbage behind the log", lambda files, chance: _append(files.wal, chance), broken=False),
    Damage("the log twice", lambda files, _: files.wal.write_bytes(files.wal.read_bytes() * 2), broken=False),
    Damage("the log is gone", _gone(".wal")),
    Damage("the log of another history", lambda files, _: shutil.copy(f"{files.other}.wal", files.wal)),
    Damage("a folder instead of the log", lambda files, _: _folder(files.wal)),
    Damage("a mark of garbage", lambda files, _: files.beside(".seq").write_bytes(b"\xff" * 9_000), broken=False),
    Damage("no mark", _gone(".seq"), broken=False),
    Damage("a folder instead of the mark", lambda files, _: _folder(files.beside(".seq")), broken=False),
    Damage("a half-made file beside", lambda files, _: files.beside(".new").write_bytes(b"half"), broken=False),
    Damage("half-made, and nothing else", lambda files, _: _half_made(files)),
    Damage("blocks saved by no checkpoint", lambda files, _: files.beside(".blocks").write_bytes(b"?" * 99), broken=False),
    Damage("a backup that was cut short", lambda files, _: files.beside(".copying").mkdir(), broken=False),
    Damage("a folder instead of the lock", lambda files, _: _folder(files.beside(".lock")), broken=False),
)  # fmt: skip


def _append(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.randbytes(5_000))


def _tear(wal: Path, chance: random.Random) -> None:
    os.truncate(wal, chance.randrange(wal.stat().st_size // 4, wal.stat().st_size - 1))


def _half_made(files: Files) -> None:
    files.path.rename(files.beside(".new"))
    os.truncate(files.beside(".new"), HEADS + 100)
