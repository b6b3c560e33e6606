"""Files beside a history as a kill or a power cut may find them: old or new, never half."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put(path: Path, content: bytes) -> None:
    """Let ``path`` have this content at once.

    :raises OSError: there is no room for it; what was there is there still.
    """
    aside = path.with_name(path.name + ".new")
    try:
        aside.write_bytes(content)
        sync(aside)
        aside.replace(path)
    except OSError:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def set_aside(path: Path) -> Path:
    """Rename a file to the first free ``.corrupt-N`` of its name; where it lies now."""
    aside = _free(path)
    path.rename(aside)
    sync(path.parent)
    return aside


def keep_aside(path: Path) -> Path:
    """Have what is about to be replaced under a ``.corrupt-N`` of its name too, once, however often that is begun.

    :raises OSError: there is no room for it; nothing is left of it.
    """
    for kept in path.parent.glob(f"{_escaped(path.name)}.corrupt-*"):
        if kept.is_file() and kept.samefile(path):
            return kept
    aside = _free(path)
    linked(path, aside)
    sync(path.parent)
    return aside


def linked(path: Path, name: Path) -> None:
    """Give a file a second name; where the file system knows no such thing, copy it.

    :raises OSError: there is no room for a copy; nothing is left of it.
    """
    try:
        name.hardlink_to(path)
    except OSError:
        copied(path, name)


def copied(path: Path, name: Path) -> None:
    """:raises OSError: there is no room for a copy; nothing is left of it."""
    aside = name.with_name(name.name + ".part")
    try:
        shutil.copyfile(path, aside)
        sync(aside)
        aside.rename(name)
    except OSError:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def _free(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    return aside


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
