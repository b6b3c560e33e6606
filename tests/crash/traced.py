"""What a process did to the files of one folder, in order, as strace saw it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

_CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,fsync,fdatasync,"
    "sync_file_range,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,"
    "sendfile,copy_file_range"
)
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_BEGUN = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_ENDED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_FILE = re.compile(r"^(\d+)<([^>]*)>(\(deleted\))?$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True)
class Opened:
    name: str
    create: bool
    truncate: bool
    append: bool


@dataclass(frozen=True)
class Written:
    """``at`` is ``None`` where the file's own position counts."""

    name: str
    data: bytes
    at: int | None


@dataclass(frozen=True)
class Copied:
    """``source_at`` is ``None`` where the source's own position counts."""

    name: str
    source: str
    source_at: int | None
    length: int


@dataclass(frozen=True)
class Cut:
    name: str
    length: int


@dataclass(frozen=True)
class Synced:
    """A file, or the folder itself where ``name`` is empty."""

    name: str


@dataclass(frozen=True)
class NotSynced:
    """The disk failed to take what was written to a file. The kernel forgets that it has not."""

    name: str


@dataclass(frozen=True)
class Renamed:
    name: str
    to: str


@dataclass(frozen=True)
class Linked:
    name: str
    to: str


@dataclass(frozen=True)
class Removed:
    name: str


@dataclass(frozen=True)
class Said:
    """A line on the process's own output."""

    line: str


Deed: TypeAlias = Opened | Written | Copied | Cut | Synced | NotSynced | Renamed | Linked | Removed | Said


class UnknownCallError(Exception):
    """The process did something to the folder that the model of the disk does not know."""


def unavailable() -> str | None:
    """Why nothing can be traced here, if so."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True)
    return f"strace may not trace: {done.stderr.decode().strip()}" if done.returncode else None


def run(command: Sequence[str], folder: Path, trace: Path, *, inject: str | None = None) -> list[Deed]:
    """Run it to its end and tell what it did to the files of ``folder``, and what it said.

    ``inject``: calls that fail, in strace's words.
    """
    line = [
        "strace",
        "-f",
        "-y",
        "-xx",
        "-s",
        "16777216",
        "--seccomp-bpf",
        "-e",
        f"trace={_CALLS}",
        "-o",
        str(trace),
    ]
    if inject is not None:
        line += ["-e", f"inject={inject}"]
    subprocess.run([*line, *command], check=False, stdout=subprocess.DEVNULL, timeout=120)
    with trace.open(encoding="ascii") as lines:
        deeds = list(_deeds(lines, os.path.realpath(folder)))
    trace.unlink()
    return deeds


def _deeds(lines: Iterable[str], folder: str) -> Iterator[Deed]:
    begun: dict[str, str] = {}
    for line in lines:
        text = line.rstrip("\n")
        if found := _BEGUN.match(text):
            begun[found[1]] = found[2]
            continue
        if found := _ENDED.match(text):
            text = f"{found[1]} {begun.pop(found[1])}{found[2]}"
        found = _LINE.match(text)
        if found and int(found[4]) < 0 and found[2] in ("fsync", "fdatasync"):
            if name := _file(found[3], folder):
                yield NotSynced(name)
        elif found and int(found[4]) >= 0:
            yield from _deed(found[2], found[3].split(", "), int(found[4]), folder)


def _deed(call: str, given: Sequence[str], returned: int, folder: str) -> Iterator[Deed]:
    match call:
        case "openat" | "open" | "creat":
            path, flags = (given[1], given[2]) if call == "openat" else (given[0], given[1])
            if (name := _inside(_text(path), folder)) and ("O_CREAT" in flags or "O_TRUNC" in flags):
                yield Opened(name, "O_CREAT" in flags, "O_TRUNC" in flags, "O_APPEND" in flags)
            elif name and ("O_WRONLY" in flags or "O_RDWR" in flags):
                yield Opened(name, False, False, "O_APPEND" in flags)
        case "write" | "pwrite64":
            if given[0].startswith("1<") and call == "write":
                yield from (Said(line) for line in _bytes(given[1]).decode().splitlines())
            elif name := _file(given[0], folder):
                at = int(given[3]) if call == "pwrite64" else None
                yield Written(name, _bytes(given[1])[:returned], at)
        case "ftruncate" | "truncate":
            name = _file(given[0], folder) if call == "ftruncate" else _inside(_text(given[0]), folder)
            if name:
                yield Cut(name, int(given[1]))
        case "fsync" | "fdatasync":
            name = _file(given[0], folder)
            if name is not None:
                yield Synced(name)
        case "rename" | "renameat" | "renameat2":
            texts = [_text(one) for one in given if _TEXT.match(one)]
            names = [_inside(text, folder) for text in texts]
            if all(names):
                yield Renamed(str(names[0]), str(names[1]))
            elif any(names):
                raise UnknownCallError(f"{call} out of the folder: {texts}")
        case "link" | "linkat":
            name, to = (_inside(_text(one), folder) for one in given if _TEXT.match(one))
            if name and to:
                yield Linked(name, to)
            elif name or to:
                raise UnknownCallError(f"{call} out of the folder: {given}")
        case "unlink" | "unlinkat":
            if name := _inside(_text(next(one for one in given if _TEXT.match(one))), folder):
                yield Removed(name)
        case "sendfile":
            name, source = _file(given[0], folder), _file(given[1], folder)
            if name and source:
                at = None if given[2] == "NULL" else int(given[2].split("]")[0].strip("["))
                yield Copied(name, source, at, returned)
            elif name:
                raise UnknownCallError("sendfile from outside of the folder")
        case _:
            if any(_file(one, folder) or _inside(_text(one), folder) for one in given):
                raise UnknownCallError(f"{call}({', '.join(given)[:200]})")


def _file(argument: str, folder: str) -> str | None:
    """The name of an open file of the folder; empty for the folder, ``None`` for all others and what has no name."""
    found = _FILE.match(argument)
    if found is None or found[3]:
        return None
    path = _hex(found[2])
    return "" if path == folder else _inside(path, folder)


def _inside(path: str, folder: str) -> str | None:
    if not path.startswith(f"{folder}/"):
        return None
    name = path[len(folder) + 1 :]
    if "/" in name:
        raise UnknownCallError(f"a folder in the folder: {name}")
    return name


def _text(argument: str) -> str:
    found = _TEXT.match(argument)
    return _hex(found[1]) if found else ""


def _hex(text: str) -> str:
    return _unhex(text).decode(errors="replace") if text.startswith("\\x") else ""


def _bytes(argument: str) -> bytes:
    found = _TEXT.match(argument)
    return _unhex(found[1]) if found else b""


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
