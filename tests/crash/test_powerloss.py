"""Some images of a power cut; `make prove` makes fourteen hundred."""

import random
from pathlib import Path

import pytest

from tests.crash import powerloss, traced
from tests.crash.disk import MANNERS, Disk
from tests.crash.traced import Cut, Deed, Opened, Removed, Renamed, Synced, Written

MADE: list[Deed] = [Opened("a", create=True, truncate=False, append=True), Written("a", b"one", None)]


def left(deeds: list[Deed], manner: str = "dropped", seed: int = 0) -> dict[str, bytes]:
    disk = Disk({"old": b"x"})
    for deed in deeds:
        disk.do(deed)
    return disk.image(manner, random.Random(seed))


@pytest.mark.parametrize(
    ("deeds", "expected"),
    [
        (MADE, {"old": b"x"}),
        ([*MADE, Synced("a")], {"old": b"x"}),
        ([*MADE, Synced("")], {"old": b"x", "a": b""}),
        ([*MADE, Synced("a"), Synced("")], {"old": b"x", "a": b"one"}),
        ([*MADE, Synced("a"), Synced(""), Written("a", b"two", None)], {"old": b"x", "a": b"one"}),
        ([*MADE, Synced("a"), Renamed("a", "old")], {"old": b"x"}),
        ([*MADE, Synced("a"), Renamed("a", "old"), Synced("")], {"old": b"one"}),
        ([Removed("old")], {"old": b"x"}),
        ([Removed("old"), Synced("")], {}),
        ([Cut("old", 0)], {"old": b"x"}),
        ([Cut("old", 0), Synced("old")], {"old": b""}),
    ],
)
def test_what_was_not_synced_is_gone_with_the_power(deeds: list[Deed], expected: dict[str, bytes]) -> None:
    assert left(deeds) == expected


@pytest.mark.parametrize("manner", MANNERS)
def test_what_was_synced_survives_in_every_manner(manner: str) -> None:
    written = Written("a", bytes(range(256)) * 64, 3)
    for seed in range(20):
        found = left([*MADE, Synced("a"), Synced(""), written, Synced("a")], manner, seed)
        assert found["a"] == b"one" + written.data


def test_a_write_is_torn_at_sectors() -> None:
    torn = [*MADE, Synced("a"), Synced(""), Written("a", b"y" * 4096, 0)]
    images = {left(torn, "torn 512", seed)["a"] for seed in range(50)}
    sectors = {image[at : at + 512] for image in images for at in range(0, len(image), 512)}
    assert len(images) > 20
    assert sectors == {b"y" * 512, bytes(512), b"one".ljust(512, b"\0"), b"one"}


@pytest.mark.e2e
@pytest.mark.slow
def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    if reason := traced.unavailable():
        pytest.skip(reason)
    assert [claim for claim in powerloss.prove(tmp_path, full=False) if not claim.holds] == []
