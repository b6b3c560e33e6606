"""``python -m tests.sim --seeds 1000``: that many simulated hours; ``--plant NAME``: with a bug in them, or one after the other.

A failing seed is made small, and printed with the command that runs it again.
"""

from __future__ import annotations

import argparse
import os
import sys


def main() -> int:
    """1 where a seed broke a promise, or a planted bug was not found."""
    from tests.sim import command_line  # noqa: PLC0415 - not before the order of hashes is settled

    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    return command_line.main(parser)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts is this process's own; here it is the same each time.
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.sim", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
