"""Which files a configuration is made of, and their bytes, read so that nothing can hang or flood us.

A folder that holds a Kubernetes ConfigMap (``checks.yaml -> ..data/checks.yaml``, ``..data -> ..2026_x``) is read
from the one generation that ``..data`` named when reading began; :meth:`Reading.torn` says whether it has moved
since, and whether a file was written to after it was read.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from watchbill.config.nodes import BREAK, Source
from watchbill.domain.errors import Problem

MOST_BYTES = 10 << 20
MOST_BYTES_IN_ALL = 50 << 20
MOST_FILES = 10_000
MOST_SECRET_BYTES = 64 << 10
GENERATION_LINK = "..data"
STILL_SECONDS = 0.05
"""Who writes a file in several steps rarely pauses for so long."""
MOST_WAITED_SECONDS = 1.0
"""For all files of one reading together: a folder in which somebody writes without end is read all the same."""
FOLDER_DEFAULTS = ("watchbill.yaml", "watchbill.yml")
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class UnreadableError(Exception):
    """A file cannot be read; its text says why and does not name the file."""


@dataclass(slots=True)
class Reading:
    """One pass over the files under ``root``, all of one generation."""

    root: str
    problems: list[Problem] = field(default_factory=list)
    patient: bool = False
    """A file that was written to just now is waited for, lest a part of it is taken for the whole."""
    _generations: dict[Path, str] = field(default_factory=dict)
    _real_root: str = ""
    _states: dict[str, os.stat_result] = field(default_factory=dict)
    """Of each file when its reading began."""
    _patience_seconds: float = MOST_WAITED_SECONDS

    def __post_init__(self) -> None:
        self._real_root = real_path(self.root)

    def paths(self) -> list[str]:
        """Every file, folders' own before those of the folders in them, by name."""
        return [shown for shown, _ in self._found()]

    def sources(self) -> Iterator[tuple[Source, str]]:
        """Every file with its text, in the same order."""
        found = self._found()
        if not found:
            self._problem(self.root, "the folder holds no *.yaml file")
        if len(found) > MOST_FILES:
            self._problem(self.root, f"more than {MOST_FILES:,} files; split the folder")
        left = MOST_BYTES_IN_ALL
        for shown, depth in found[:MOST_FILES]:
            raw = self._read(shown)
            left -= len(raw or b"")
            if left < 0:
                self._problem(shown, f"all files together are larger than {MOST_BYTES_IN_ALL >> 20} MB")
                return
            text = None if raw is None else self._decode(shown, raw)
            if text is not None:
                yield Source(shown, os.path.dirname(os.path.abspath(shown)), depth), text  # noqa: PTH100, PTH120 - a Path would keep its `..`

    def _found(self) -> list[tuple[str, tuple[str, ...]]]:
        if os.path.isdir(self.root):  # noqa: PTH112 - the path stays as the user wrote it
            return list(islice(self._walk(self.root, (), frozenset()), MOST_FILES + 1))
        return [(self.root, ())]

    def torn(self) -> bool:
        """Whether a generation, or a root that is a link, was replaced while it was read, or a file written to.

        A file that was renamed over is not torn: what was read is the whole of the one before.
        """
        if real_path(self.root) != self._real_root:
            return True
        moved = any(
            real_path(folder / GENERATION_LINK) != generation
            for folder, generation in self._generations.items()
        )
        return moved or any(_written_to(path, state) for path, state in self._states.items())

    def real(self, path: str) -> str:
        """The same file in the generation that is being read."""
        folder = Path(path).parent
        data = folder / GENERATION_LINK
        if folder not in self._generations and os.path.islink(data):  # noqa: PTH114 - a name too long is no link
            self._generations[folder] = real_path(data)
        generation = self._generations.get(folder)
        if generation is None:
            return path
        try:
            link = Path(path).readlink()
        except OSError:
            return path
        inside = link.parts[:1] == (GENERATION_LINK,)
        return str(Path(generation, *link.parts[1:])) if inside else path

    def _walk(
        self, folder: str, depth: tuple[str, ...], above: frozenset[str]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        real = real_path(self.real(folder))
        if real in above or len(above) > 50:
            return
        try:
            names = sorted(child.name for child in Path(real).iterdir())
        except OSError as error:
            self._problem(folder, f"cannot be read: {error.strerror}")
            return
        folders = []
        for name in names:
            shown = os.path.join(folder, name)  # noqa: PTH118 - a Path would drop the `./` that the user wrote
            if name.startswith("."):
                continue
            if os.path.isdir(self.real(shown)):  # noqa: PTH112 - a name too long is no folder
                folders.append((name, shown))
            elif name.endswith((".yaml", ".yml")):
                yield shown, depth
        for name, shown in folders:
            yield from self._walk(shown, (*depth, name), above | {real})

    def _read(self, shown: str) -> bytes | None:
        real = self.real(shown)
        try:
            return read_regular(real, MOST_BYTES, note=partial(self._note, real))
        except UnreadableError as error:
            self._problem(shown, str(error))
            return None

    def _note(self, real: str, descriptor: int) -> None:
        if self.patient:
            self._patience_seconds = _wait_until_still(descriptor, self._patience_seconds)
        self._states[real] = os.fstat(descriptor)

    def _decode(self, shown: str, raw: bytes) -> str | None:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
            place = (1, 1) if wide else _place(raw[: error.start].decode("utf-8-sig"))
            self._problem(shown, f"not UTF-8{' but UTF-16' if wide else ''}; save the file as UTF-8", *place)
            return None
        found = _UNREADABLE.search(text)
        if found is None:
            return text
        message = f"the control character U+{ord(found[0]):04X} cannot stand in a file"
        self._problem(shown, message, *_place(text[: found.start()]))
        return None

    def _problem(self, shown: str, message: str, line: int = 1, column: int = 1) -> None:
        self.problems.append(Problem(shown, line, column, message))


def real_path(path: str | Path) -> str:
    """Where it leads. A link that becomes something else meanwhile leads nowhere else."""
    try:
        return os.path.realpath(path)
    except OSError:
        return str(path)


def _wait_until_still(descriptor: int, patience_seconds: float) -> float:
    """What is left of the patience. Whatever happens to its name meanwhile: what is read afterwards is this very file.

    A time of writing that is yet to come is some other clock's, and says nothing of when it was.
    """
    while patience_seconds > 0:
        left = os.fstat(descriptor).st_mtime + STILL_SECONDS - time.time()
        if not 0 < left < 2 * STILL_SECONDS:
            break
        wait = min(left, STILL_SECONDS)
        time.sleep(wait)
        patience_seconds -= wait
    return patience_seconds


def _written_to(path: str, before: os.stat_result) -> bool:
    try:
        now = Path(path).stat()
    except OSError:
        return False
    same = (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino)
    return same and (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)


def read_regular(path: str, most: int, *, note: Callable[[int], object] = lambda _: None) -> bytes:
    """The bytes of a regular file; never waits for a pipe or a device. ``note`` is handed its descriptor before it is read.

    :raises UnreadableError: anything else, or more than ``most`` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise UnreadableError(_why(error)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError("is not a regular file")
    note(descriptor)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        try:
            raw = file.read(most + 1)
        except OSError as error:
            raise UnreadableError(_why(error)) from None
    if raw is None:  # as the kernel's log is: a regular file, yet one to wait for
        raise UnreadableError("cannot be read: it holds nothing yet")
    if len(raw) > most:
        size = f"{most >> 20} MB" if most >= 1 << 20 else f"{most >> 10} KiB"
        raise UnreadableError(f"is larger than {size}")
    return raw


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be read: {error.strerror if isinstance(error, OSError) else 'not a path'}"


def _place(before: str) -> tuple[int, int]:
    lines = BREAK.split(before)
    return len(lines), len(lines[-1]) + 1
