"""Files of targets on disk: which there are, what state they are in, and their bytes; always off the event loop."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

import anyio.to_thread

from watchbill.config.files import UnreadableError, read_regular, real_path
from watchbill.ports import FilesError

MOST_FILES = 10_000
_GONE = (errno.ENOENT, errno.ENOTDIR)


class DiskFiles:
    """A :class:`~watchbill.ports.Files`. A folder is looked at, not a file: what is renamed over, or linked anew, is seen."""

    async def look(self, patterns: Sequence[str]) -> Mapping[str, str]:
        return await anyio.to_thread.run_sync(look, patterns)

    async def read(self, path: str, most: int) -> bytes:
        return await anyio.to_thread.run_sync(read, path, most)


def look(patterns: Sequence[str]) -> Mapping[str, str]:
    """:raises FilesError: see :class:`~watchbill.ports.Files`."""
    found: dict[str, str] = {}
    for pattern in patterns:
        for path in _fitting(pattern):
            if state := _state(path):
                found[path] = state
    if len(found) > MOST_FILES:
        raise FilesError(f"more than {MOST_FILES:,} files of targets")
    return dict(sorted(found.items()))


def read(path: str, most: int) -> bytes:
    """:raises FilesError: see :class:`~watchbill.ports.Files`."""
    try:
        return read_regular(path, most)
    except UnreadableError as error:
        raise FilesError(f"{path} {error}") from None


def _fitting(pattern: str) -> list[str]:
    folder, name = os.path.split(pattern)
    if "*" not in name:
        return [pattern]
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise FilesError(f"{folder} cannot be read: {error.strerror}") from None
    hidden = name.startswith(".")
    return [
        os.path.join(folder, each)  # noqa: PTH118 - text in, text out
        for each in sorted(names)
        if fnmatch(each, name) and (hidden or not each.startswith("."))
    ]


def _state(path: str) -> str:
    """Empty where it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 - many files, each second
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise FilesError(f"{path} cannot be looked at: {error.strerror}") from None
    return f"{real_path(path)} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
