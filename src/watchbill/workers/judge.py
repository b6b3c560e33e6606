"""The worker that judges: one body after the other, each within bounds of time and memory."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import BinaryIO

from watchbill import judgement  # noqa: F401 - so that the first body need not wait for it
from watchbill.workers.frames import read, read_bytes, write

MOST_SECONDS = 15
"""Whoever asked ends a worker long before; this is for one whose exporter was killed meanwhile."""
MOST_MEMORY_BYTES = 2 << 30
"""JSON of 64 MiB can mean ten gigabytes of objects."""
MOST_KEPT_BYTES = 160 << 20
"""A worker that holds more when it is done is replaced: what it has taken it does not give back."""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MOST_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, MOST_MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    while True:
        function, arguments = read(requests)
        content = read_bytes(requests)
        signal.alarm(
            MOST_SECONDS
        )  # its default action ends the process, also within a call that lets nobody run
        answer, problem = None, ""
        try:
            answer = function(content, *arguments)
        except MemoryError:
            problem = "it takes too much memory"
        except Exception as error:  # noqa: BLE001 - the border: it is told to whoever asked
            problem = f"judging failed with {type(error).__name__}"
        signal.alarm(0)
        del content
        write(answers, (answer, problem, _resident_bytes() > MOST_KEPT_BYTES))


def _resident_bytes() -> int:
    # Not from getrusage, which begins with what the exporter had when it started us.
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()
