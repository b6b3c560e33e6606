"""Noticing that the configuration's content changed, however it was changed.

Polling sees what notification misses: a network file system, a symbolic link swapped two folders up, a mount. It is
cheap: once a second the names, inodes, sizes and times of the files; their content only where those changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread

from watchbill.config.files import MOST_BYTES, Reading, UnreadableError, read_regular, real_path
from watchbill.config.revision import revision_of

Signature: TypeAlias = tuple[tuple[str, ...], ...]
Named: TypeAlias = Callable[[], Iterable[str]]
"""Further files to look at: those that the configuration names (``LoadedConfig.files``)."""

INTERVAL_SECONDS = 0.8
"""Two polls, one that sees a change and one that sees it settled, take less than two seconds."""


async def watch(
    path: str | Path,
    on_change: Callable[[], Awaitable[object]],
    *,
    also: Named = tuple,
    interval: float = INTERVAL_SECONDS,
    sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    started: Callable[[], object] = lambda: None,
) -> None:
    """Call ``on_change`` once for each changed content, once it stands still; runs until cancelled.

    ``started`` is called when the content of now is known, so that no change from then on is overlooked.
    """
    watcher = await anyio.to_thread.run_sync(Watcher, str(path), also)
    started()
    while True:
        await sleep(interval)
        if await anyio.to_thread.run_sync(watcher.changed):
            await on_change()


class Watcher:
    """What was last seen of the files under a path. Its methods read files: call them off the event loop."""

    def __init__(self, path: str, also: Named = tuple) -> None:
        self._path = path
        self._also = also
        self._signature = self._look()
        self._pending: Signature | None = None
        self._content = self._digest()

    def changed(self) -> bool:
        """Whether content has changed, and the files have stood still since the last call."""
        signature = self._look()
        if signature == self._signature:
            self._pending = None
            return False
        if signature != self._pending:
            self._pending = signature
            return False
        content = self._digest()
        if self._look() != signature:  # written to while it was read
            return False
        self._signature, self._pending = signature, None
        if content == self._content:
            return False
        self._content = content
        return True

    def _files(self) -> list[str]:
        return list(dict.fromkeys((*Reading(self._path).paths(), *self._also())))

    def _look(self) -> Signature:
        commit = ("", revision_of(Path(self._path)))
        return (commit, *((file, *_signed(file)) for file in self._files()))

    def _digest(self) -> bytes:
        # A commit that only makes a change official moves the revision, which is told with the configuration.
        digest = hashlib.sha256(revision_of(Path(self._path)).encode())
        for file in self._files():
            digest.update(b"%d %s" % (len(file), os.fsencode(file)))
            try:
                content = read_regular(file, MOST_BYTES)
            except UnreadableError as error:
                content = str(error).encode()
            digest.update(b"%d %s" % (len(content), content))
        return digest.digest()


def _signed(file: str) -> tuple[str, ...]:
    try:
        found = os.stat(file)  # noqa: PTH116 - many files, each second
    except (OSError, ValueError) as error:
        return (type(error).__name__,)
    return (real_path(file), *map(str, (found.st_ino, found.st_size, found.st_mtime_ns)))
