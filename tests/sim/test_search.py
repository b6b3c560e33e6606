"""Seeds in several processes."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

import psutil
import pytest

from tests.sim.search import run_seeds
from tests.sim.world import Size


def test_a_process_that_is_killed_ends_the_search() -> None:
    others = set(psutil.Process().children())
    told = run_seeds(range(1000), size=Size(checks=5, seconds=600), mixed=False, jobs=2)
    assert next(told).seed == 0
    for child in set(psutil.Process().children()) - others:
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    with pytest.raises(BrokenProcessPool):
        list(told)
