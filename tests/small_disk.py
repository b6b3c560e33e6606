"""A disk that is really full: a small one of its own, mounted under the history of a real exporter."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.exporter import Exporter

SMALL_DISK = 'mount -t tmpfs -o size=6m tmpfs "$0" && exec "$@"'


def unavailable() -> str | None:
    """Why none can be mounted here, if so: a container or a changed root may forbid it even to root."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return "mounting a small disk takes root and unshare"
    done = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True)
    return "mounting a small disk takes a mount namespace of our own" if done.returncode else None


def under(folder: Path) -> list[str]:
    """What to put before a command so that it alone sees a disk of 6 MB at ``folder``."""
    return ["unshare", "--mount", "sh", "-c", SMALL_DISK, str(folder)]


def filler(running: Exporter) -> Path:
    """A file on the exporter's own disk, as only its mount namespace sees it."""
    return Path(f"/proc/{running.process.pid}/root{running.storage.parent}/filler")


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as disk:
        while disk.write(bytes(4096)):
            pass
