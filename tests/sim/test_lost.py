"""What excuses a slot that nobody ran, and what does not."""

from __future__ import annotations

import pytest

from tests.sim.lost import LostTime
from watchbill.domain.units import SECOND

INTERVAL = 10 * SECOND
NAMES = ("shop",)


@pytest.mark.parametrize(
    ("stalls", "excused"),
    [
        ([], False),
        ([(100, 110)], True),
        ([(95, 130)], True),
        ([(100.3, 110)], True),
        ([(102, 110)], False),
        ([(100, 107)], False),
        ([(99, 104), (104, 112)], True),
        ([(99, 103), (107, 112)], False),
        ([(80, 100)], False),
    ],
)
def test_a_stall_excuses_a_slot_only_if_there_was_no_time_for_it_until_the_next(
    stalls: list[tuple[float, float]], excused: bool
) -> None:
    lost = LostTime()
    lost.born(0)
    lost.begins(0)
    for begin, end in stalls:
        lost.add(round(begin * SECOND), round(end * SECOND))
    assert lost.passed_over(NAMES, 100 * SECOND, INTERVAL) is excused


@pytest.mark.parametrize(
    ("slot", "excused"), [(80, False), (90, True), (105, True), (120, True), (121, False)]
)
def test_a_process_takes_with_it_what_was_open_and_what_fell_due_until_the_next(
    slot: int, excused: bool
) -> None:
    lost = LostTime()
    lost.born(0)
    lost.begins(0)
    lost.dies(100 * SECOND)
    lost.born(120 * SECOND)
    assert lost.went_with_a_process(NAMES, slot * SECOND, INTERVAL) is excused


def test_what_is_registered_late_is_not_blamed_for_the_time_before() -> None:
    lost = LostTime()
    lost.born(0)
    lost.begins(0)
    lost.registered("shop", 98 * SECOND, 108 * SECOND)
    lost.add(108 * SECOND, 111 * SECOND)
    assert lost.passed_over(NAMES, 100 * SECOND, INTERVAL)
    assert not lost.passed_over(("others",), 100 * SECOND, INTERVAL)


def test_a_timeline_that_begins_behind_the_last_forgets_what_lay_ahead() -> None:
    lost = LostTime()
    lost.born(0)
    lost.begins(0)
    lost.add(50 * SECOND, 90 * SECOND)
    lost.dies(90 * SECOND)
    lost.born(60 * SECOND)
    lost.begins(60 * SECOND)
    assert lost.awake(55 * SECOND, 100 * SECOND) == 40 * SECOND
