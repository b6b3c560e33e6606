"""A worker: ``python -m watchbill.workers parse|judge``, started by :mod:`watchbill.workers.process`."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

NICENESS = 10
LET_GO_FIRST = "800"
"""Where memory runs out, the kernel ends the worker before it ends the exporter (``oom_score_adj``)."""


def main(name: str) -> None:
    # Signals for the whole group or cgroup are for the exporter, which ends its workers when it has no more work.
    for received in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(received, signal.SIG_IGN)
    # Where a sandbox forbids it, it goes without.
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(LET_GO_FIRST, encoding="ascii")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    # The exporter may end at any moment.
    with suppress(EOFError, BrokenPipeError):
        import_module(f"watchbill.workers.{name}").serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main(sys.argv[1])
