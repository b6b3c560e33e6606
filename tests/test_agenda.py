"""What is due when, by itself."""

from __future__ import annotations

from watchbill.agenda import STALE_KEPT, Agenda
from watchbill.domain.results import Trigger
from watchbill.domain.units import SECOND
from watchbill.testing import START

HOUR = 3_600 * SECOND


def test_many_reloads_pile_nothing_up_and_lose_nothing() -> None:
    agenda = Agenda()
    agenda.add("kept", interval=HOUR, at=START)
    for number in range(5 * STALE_KEPT):
        at = START + number
        agenda.change_grid(agenda.entries["kept"], interval=(number % 3 + 1) * HOUR, at=at)
        agenda.remove(agenda.add("gone", interval=HOUR, at=at))
    assert agenda.size() <= STALE_KEPT + 10
    due = agenda.entries["kept"].next_slot
    found = []
    while (popped := agenda.pop_due(due)) is not None:
        found.append((popped[0].check_id, popped[1]))
    assert found == [("kept", Trigger.REGISTERED), ("kept", Trigger.SCHEDULE)]
