"""The Git commit of the work tree that holds a path, read from Git's own files.

No process is started and nothing but ``HEAD``, the reference it names and ``packed-refs`` is read, so a
work tree that belongs to somebody else is as good as our own.
"""

from __future__ import annotations

import re
from pathlib import Path

from watchbill.config.files import real_path

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REFERENCE = re.compile(r"refs/[^\s\\:?*\[~^]+")
_MOST_BYTES = 16 << 20


def revision_of(path: Path) -> str:
    """The full commit id, or ``""`` where the path lies in no work tree or the tree has no commit."""
    # Not by Path.resolve, which raises where links lead in a circle.
    for start in (path.absolute(), Path(real_path(str(path)))):
        for folder in (start, *start.parents):
            git = _git_folder(folder / ".git")
            if git is not None:
                return _head(git)
    return ""


def _git_folder(dot_git: Path) -> Path | None:
    try:
        if dot_git.is_dir():
            return dot_git
    except OSError:  # below a folder that may not be entered, as where a process was started by somebody else
        return None
    pointer = _text(dot_git)  # a linked work tree or a submodule has a file that names the folder
    if not pointer.startswith("gitdir: "):
        return None
    return dot_git.parent / pointer.removeprefix("gitdir: ")


def _head(git: Path) -> str:
    common = git / (_text(git / "commondir") or ".")
    value = _text(git / "HEAD")
    for _ in range(5):  # a symbolic reference may name another
        if not value.startswith("ref: "):
            break
        name = value.removeprefix("ref: ")
        if not _REFERENCE.fullmatch(name) or ".." in name:
            return ""
        value = _text(git / name) or _text(common / name) or _packed(common, name)
    return value if _COMMIT.fullmatch(value) else ""


def _packed(common: Path, name: str) -> str:
    for line in _text(common / "packed-refs").splitlines():
        commit, _, packed = line.partition(" ")
        if packed == name:
            return commit
    return ""


def _text(file: Path) -> str:
    try:
        if not file.is_file():
            return ""
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES).decode("utf-8", "replace").strip(" \r\n")
    except OSError:
        return ""
