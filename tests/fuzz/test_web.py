"""Some thousand malformed requests, crowds, storms and texts; `python -m tests.fuzz web` sends a hundred thousand."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.exporter import Answer, Exporter, free_port
from tests.fuzz.echoes import same
from tests.fuzz.storms import UNCHANGED, Storm, look_at_slots
from tests.fuzz.web import held_places, prove
from watchbill.domain.units import SECOND


@pytest.mark.e2e
@pytest.mark.slow
def test_nothing_that_clients_or_targets_send_breaks_the_web(tmp_path: Path) -> None:
    claims = prove(tmp_path, full=False)
    assert [claim for claim in claims if not claim.holds] == []
    assert len(claims) == 5


@pytest.mark.parametrize(
    ("seconds", "missed", "problems"),
    [((9, 10, 11, 12), 3, 0), ((9, 10, 12), 4, 0), ((9, 10, 12), 3, 1), ((9, 11, 12), 3, 1), ((9, 10, 10, 11), 3, 1)],
)  # fmt: skip
def test_only_what_was_missed_in_a_storm_excuses_a_slot_of_the_storm(
    seconds: tuple[int, ...], missed: int, problems: int
) -> None:
    def request(path: str) -> Answer:
        rows = [
            {"slot": datetime.fromtimestamp(second, UTC).isoformat(), "trigger": "schedule"}
            for second in seconds
        ]
        of_it = {"check_id": UNCHANGED, "missed": missed, "unaccounted": 0}
        told: dict[str, Any] = {"checks": [of_it]} if path.endswith("/report") else {"results": rows}
        return Answer(200, {}, json.dumps(told).encode())

    running, found = cast("Exporter", type("Running", (), {"request": staticmethod(request)})), Storm()
    look_at_slots(running, found, begun=10 * SECOND, missed=3)
    assert len(found.problems) == problems
    assert found.slots == sum(second >= 10 for second in seconds)


def test_a_crowd_that_nobody_lets_in_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fuzz.web.CONNECTED_WITHIN_SECONDS", 0.0)
    (tmp_path / "log").touch()
    process = cast("Any", SimpleNamespace(pid=os.getpid(), poll=lambda: None))
    nobody = Exporter(process, f"http://127.0.0.1:{free_port()}", tmp_path, tmp_path / "log")
    found, people = held_places(nobody, slow=2, stuck=1, seconds=0)
    assert found.problems == ["0 of 3 clients could connect"]
    assert people.connected == 0


@pytest.mark.parametrize(
    ("said", "shown", "alike"),
    [("a\tb", "a\tb", True), ("a\tb", "a\ufffdb", True), ("abc", "a\ufffdc", False), ("abc", "ab", False)],
)
def test_only_what_is_no_text_may_be_shown_as_a_replacement(said: str, shown: str, alike: bool) -> None:
    assert same(shown, said) is alike
