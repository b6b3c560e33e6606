"""How often is looked at what is due, and how many probes are started before the loop turns."""

from __future__ import annotations

import pytest

from watchbill.pacing import LONGEST_TICK, MOST_STARTS_A_TURN, SHORTEST_TICK, starts_a_turn, tick_length


@pytest.mark.parametrize(
    ("slots_per_second", "microseconds"),
    [
        (0, LONGEST_TICK),
        (500, LONGEST_TICK),
        (800, LONGEST_TICK),
        (1_000, 40_000),
        (4_000, 10_000),
        (8_000, SHORTEST_TICK),
        (100_000, SHORTEST_TICK),
    ],
)
def test_a_tick_gathers_forty_slots_within_its_bounds(slots_per_second: float, microseconds: int) -> None:
    assert tick_length(slots_per_second) == microseconds


@pytest.mark.parametrize(
    ("slots_per_second", "starts"),
    [
        (0, MOST_STARTS_A_TURN),
        (160, MOST_STARTS_A_TURN),  # a tick has no more
        (161, 1),
        (499, 1),
        (500, 2),
        (3_499, 7),
        (3_500, MOST_STARTS_A_TURN),
        (100_000, MOST_STARTS_A_TURN),
    ],
)
def test_with_more_slots_a_second_more_probes_are_started_a_turn(
    slots_per_second: float, starts: int
) -> None:
    assert starts_a_turn(slots_per_second) == starts
