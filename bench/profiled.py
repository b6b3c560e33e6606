"""A program under a profile: ``python -m bench.profiled FILE python -m MODULE ARGUMENT...``.

SIGUSR1 begins it, SIGUSR2 writes the file.
The profile counts the CPU time of the event loop's thread. What it does not see called from Python is the loop itself.
"""

from __future__ import annotations

import cProfile
import marshal
import pstats
import runpy
import signal
import sys
import time
from pathlib import Path


class Profile:
    """One, from the first signal to the second."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._profile = cProfile.Profile(time.thread_time)
        self._begun = (0.0, 0.0)

    def begin(self, *_: object) -> None:
        self._begun = time.thread_time(), time.process_time()
        self._profile.enable()

    def end(self, *_: object) -> None:
        self._profile.disable()
        thread, process = time.thread_time() - self._begun[0], time.process_time() - self._begun[1]
        stats = vars(pstats.Stats(self._profile))["stats"]
        aside = self._file.with_suffix(".new")
        aside.write_bytes(marshal.dumps((thread, process, stats)))
        aside.replace(self._file)


if __name__ == "__main__":
    file, module = Path(sys.argv[1]), sys.argv[4]
    del sys.argv[1:5]
    profile = Profile(file)
    signal.signal(signal.SIGUSR1, profile.begin)
    signal.signal(signal.SIGUSR2, profile.end)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
