"""How often the scheduler looks at what is due, and how many probes it starts before the loop turns.

Both follow from how many slots fall due a second. What they are for is in docs/concurrency.md.
"""

from __future__ import annotations

from watchbill.domain.units import SECOND, Micros

SHORTEST_TICK: Micros = 5_000
LONGEST_TICK: Micros = 50_000
SLOTS_A_TICK = 40
"""Slots due within one tick are started together, since waking up costs as much as several starts: as many as this,
but for no longer than the longest tick."""
LATE: Micros = 10_000
"""A slot that is due for a tick and this much longer should have been started by now."""
MOST_STARTS_A_TURN = 8
SLOTS_A_SECOND_A_START = 500
"""So many are started before the loop turns where a tick has no more than that, or slots are late, or very many: a turn with
many events costs less of each (a third at 3,000 a second). Between, fewer: a probe's `connect` holds what its siblings' starts
took, and their answers come at once (1.4 ms of latency at 500 a second)."""


def tick_length(slots_per_second: float) -> Micros:
    """From one look at what is due to the next."""
    gathered = SLOTS_A_TICK * SECOND / max(slots_per_second, 1.0)
    return int(min(max(SHORTEST_TICK, gathered), LONGEST_TICK))


def starts_a_turn(slots_per_second: float) -> int:
    """How many probes are started before the loop turns, where no slot is late."""
    if slots_per_second * LONGEST_TICK <= MOST_STARTS_A_TURN * SECOND:
        return MOST_STARTS_A_TURN
    return min(MOST_STARTS_A_TURN, 1 + int(slots_per_second / SLOTS_A_SECOND_A_START))
