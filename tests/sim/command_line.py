"""What ``python -m tests.sim`` takes, and what it prints."""

from __future__ import annotations

import argparse
import time

from tests.sim.faults import KINDS
from tests.sim.planted import PLANTED
from tests.sim.search import Tally, find, run_seeds, shrunk
from tests.sim.shrink import described
from tests.sim.world import Size

SHRUNK_AT_MOST = 3


def main(parser: argparse.ArgumentParser) -> int:
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--checks", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3600, help="simulated, of each seed")
    parser.add_argument("--backend", choices=["asyncio", "trio", "mixed"], default="mixed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--without", default="", help=f"faults to leave out, of: {', '.join(sorted(KINDS))}")
    parser.add_argument("--dense", action="store_true", help="checks every few seconds")
    parser.add_argument("--plant", choices=[*PLANTED, "all"], help="put this bug in")
    parser.add_argument("--digest", action="store_true", help="print what each seed's story hashes to")
    asked = parser.parse_args()
    mixed = asked.backend == "mixed"
    size = Size(
        checks=asked.checks,
        seconds=asked.seconds,
        backend="asyncio" if mixed else asked.backend,
        without=frozenset(filter(None, asked.without.split(","))),
        dense=asked.dense,
    )
    seeds = range(asked.first, asked.first + asked.seeds)
    if asked.plant is not None:
        return search_planted(
            list(PLANTED) if asked.plant == "all" else [asked.plant], seeds, size, mixed=mixed
        )
    return search(seeds, size, mixed=mixed, jobs=asked.jobs, digest=asked.digest)


def search(seeds: range, size: Size, *, mixed: bool, jobs: int, digest: bool) -> int:
    """1 where a promise was broken, or nothing was tried: how many there were would be 0 for an exit code of 256."""
    tally = Tally()
    for told in run_seeds(seeds, size=size, mixed=mixed, jobs=jobs):
        tally.add(told)
        if digest:
            print(told.seed, told.size.backend, told.digest, flush=True)
        if told.broken is not None:
            small = shrunk(told) if len(tally.broken) <= SHRUNK_AT_MOST else told
            print(described(small), flush=True)
    print(tally)
    return 1 if tally.broken or not tally.seeds else 0


def search_planted(names: list[str], seeds: range, size: Size, *, mixed: bool) -> int:
    """1 where one was not found."""
    missing = 0
    for name in names:
        begun = time.perf_counter()
        found = find(name, seeds, size, mixed=mixed)
        took = time.perf_counter() - begun
        missing += found is None
        if found is None:
            print(f"{name:32} not found in {len(seeds)} seeds ({took:.0f} s)", flush=True)
        elif len(names) > 1:
            print(f"{name:32} seed {found.seed:3} ({took:.1f} s): {str(found.broken)[:120]}", flush=True)
        else:
            print(described(shrunk(found, plant=name), plant=name))
    return 1 if missing else 0
