"""The board: what stands in memory, and what follows from a result."""

from __future__ import annotations

from typing import Any

from watchbill.board import Board, Histogram
from watchbill.domain.checks import Check, parse_check
from watchbill.domain.messages import (
    CheckDeleted,
    CheckRegistered,
    CheckStatusChanged,
    CheckSucceeded,
    ConfigReloaded,
    HeartbeatReceived,
    ServiceStatusChanged,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.plan import Plan
from watchbill.domain.results import Failure, GapReason, Outcome, Reason, Result, SkipReason, Trigger
from watchbill.domain.stalls import STALLED
from watchbill.domain.status import Status
from watchbill.domain.units import SECOND
from watchbill.handlers import event_of
from watchbill.testing import START, check, config_of


def result(check_id: str, outcome: Outcome = Outcome.SUCCESS, **fields: Any) -> Result:
    failures = {
        Outcome.FAILURE: (Failure(Reason.STATUS, "status must be 2xx, got 500"),),
        Outcome.ERROR: (Failure(Reason.DESCRIPTORS, "no descriptors left"),),
    }
    facts = {"slot": START, "trigger": Trigger.SCHEDULE, "started_at": START, "duration_seconds": 0.02}
    return Result(
        check_id=check_id,
        location="",
        outcome=outcome,
        failures=failures.get(outcome, ()),
        **{**facts, **fields},
    )


def board_of(*checks: Check) -> Board:
    board = Board()
    for one in checks:
        board.registered(CheckRegistered(one, START, ""))
    return board


def test_killing_one_member_of_a_service_changes_its_status_once() -> None:
    board = board_of(check("a", service="shop"), check("b", service="shop"))
    for name in ("a", "b"):
        board.probed(event_of(result(name)))
    said = [
        event
        for _ in range(5)
        for event in board.probed(event_of(result("a", Outcome.FAILURE)))
        if isinstance(event, ServiceStatusChanged)
    ]
    assert said == [ServiceStatusChanged("shop", START, Status.UP, Status.DEGRADED)]
    assert board.services == {"shop": Status.DEGRADED}


def test_an_error_of_our_own_leaves_the_status() -> None:
    board = board_of(check("a"))
    board.probed(event_of(result("a")))
    assert board.probed(event_of(result("a", Outcome.ERROR))) == []
    state = board.checks["a"]
    assert state.status is Status.UP
    assert state.failing is None
    assert state.slots[Outcome.ERROR] == 1


def test_an_error_of_our_own_leaves_the_reason_of_the_failure_before_it() -> None:
    board = board_of(check("a"))
    board.probed(event_of(result("a", Outcome.FAILURE)))
    board.probed(event_of(result("a", Outcome.ERROR)))
    assert board.checks["a"].status is Status.DOWN
    assert board.checks["a"].failing is Reason.STATUS
    board.probed(event_of(result("a")))
    assert board.checks["a"].failing is None


def test_only_slots_are_counted_and_only_successes_are_fast() -> None:
    board = board_of(check("a"))
    board.probed(event_of(result("a")))
    board.probed(event_of(result("a", Outcome.FAILURE)))
    board.probed(event_of(result("a", trigger=Trigger.REGISTERED)))
    board.skipped_slot(SlotSkipped("a", "", START, SkipReason.OVERLAP))
    board.gap(SlotsMissed(START, START + 1, GapReason.STALL, "", counts={"a": 3, "gone": 2}))
    state = board.checks["a"]
    assert {outcome.value: count for outcome, count in state.slots.items()} == {
        "success": 1,
        "failure": 1,
        "error": 0,
        "skipped": 1,
        "excused": 0,
        "missed": 3,
    }
    assert sum(state.latency.counts) == 1
    assert board.skipped[SkipReason.OVERLAP] == 1
    assert board.failures["http", Reason.STATUS] == 1
    assert board.failures["http", Reason.DNS] == 0


def test_what_was_taken_over_a_stall_of_our_own_is_counted_apart_and_is_no_latency() -> None:
    board = board_of(check("a"))
    board.probed(event_of(result("a", facts={STALLED: 0.08})))
    state = board.checks["a"]
    assert state.slots[Outcome.SUCCESS] == 1
    assert sum(state.latency.counts) == 0
    assert board.stalled == 1


def test_a_changed_check_keeps_its_counts_and_a_deleted_one_is_gone() -> None:
    board = board_of(check("a", service="shop"))
    board.probed(event_of(result("a")))
    board.registered(
        CheckRegistered(check("a", timeout="1s"), START, "", previous=check("a", service="shop"))
    )
    assert board.checks["a"].slots[Outcome.SUCCESS] == 1
    assert board.checks["a"].status is Status.UP
    assert board.services == {}
    board.deleted(CheckDeleted(check("a"), START, ""))
    assert board.checks == {}
    assert board.probed(event_of(result("a"))) == []


def test_deleting_the_member_that_is_down_heals_the_service() -> None:
    board = board_of(check("a", service="shop"), check("b", service="shop"))
    board.probed(event_of(result("a")))
    board.probed(event_of(result("b", Outcome.FAILURE)))
    events = board.deleted(CheckDeleted(check("b", service="shop"), START, ""))
    assert events == [ServiceStatusChanged("shop", START, Status.DEGRADED, Status.UP)]


def test_a_renamed_check_keeps_its_status_and_its_last_heartbeat() -> None:
    old = heartbeat("old")
    board = board_of(old)
    board.probed(event_of(result("old", Outcome.FAILURE)))
    board.heartbeat(HeartbeatReceived("old", START + 5))
    board.deleted(CheckDeleted(old, START + 9, "", moved_to="new"))
    board.registered(CheckRegistered(heartbeat("new"), START + 9, "", moved_from="old"))
    assert board.checks["new"].status is Status.DOWN
    assert board.checks["new"].slots[Outcome.FAILURE] == 0
    assert board.last_seen("new") == START + 5


def test_a_renamed_check_keeps_its_latest_result_unless_it_became_another_type() -> None:
    for new, kept in ((check("new"), True), (heartbeat("new"), False)):
        board = board_of(check("old"))
        board.probed(event_of(result("old")))
        board.deleted(CheckDeleted(check("old"), START, "", moved_to="new"))
        board.registered(CheckRegistered(new, START, "", moved_from="old"))
        assert board.checks["new"].latest == (result("new") if kept else None)
        assert board.latest_at("new") == (START if kept else None)


def test_heartbeats_are_due_only_from_when_the_check_began_to_expect_them() -> None:
    day = 86_400 * SECOND
    for previous in (check("a"), heartbeat("a", enabled=False)):
        board = board_of(previous)
        board.registered(CheckRegistered(heartbeat("a"), START + day, "", previous=previous))
        assert board.last_seen("a") == START + day
    board = board_of(heartbeat("a"))
    board.registered(CheckRegistered(heartbeat("a", every="2h"), START + day, "", previous=heartbeat("a")))
    assert board.last_seen("a") == START


def heartbeat(check_id: str, **declared: Any) -> Check:
    return parse_check({"id": check_id, "type": "heartbeat", "every": "1h", **declared})


def test_history_restores_status_and_latest_but_no_counts() -> None:
    board = board_of(check("a", service="shop"), check("b", service="shop"))
    board.restore({"a": result("a")}, {"a": Status.UP, "b": Status.DOWN}, {"a": START - 7, "gone": 1})
    assert board.checks["a"].latest is not None
    assert board.checks["a"].slots[Outcome.SUCCESS] == 0
    assert board.services["shop"] is Status.DEGRADED
    assert board.last_seen("a") == START - 7


def test_other_buckets_start_new_histograms() -> None:
    board = board_of(check("a"))
    board.probed(event_of(result("a")))
    loaded = config_of(check("a"), metrics={"buckets": [0.1, 1], "phases": True})
    board.configured(ConfigReloaded(loaded, Plan(), START, "test"))
    assert board.checks["a"].latency.bounds == (0.1, 1.0)
    assert sum(board.checks["a"].latency.counts) == 0
    board.probed(event_of(result("a", phases={"connect": 0.001})))
    assert sum(board.checks["a"].phases["connect"].counts) == 1


def test_other_families_leave_the_counts_of_histograms() -> None:
    board = board_of(check("a"))
    board.probed(event_of(result("a")))
    board.configured(ConfigReloaded(config_of(metrics={"probe": False}), Plan(), START, "test"))
    assert sum(board.checks["a"].latency.counts) == 1


def test_a_bucket_holds_what_is_at_most_its_bound() -> None:
    histogram = Histogram.over((0.1, 1.0))
    for seconds in (0.1, 0.100001, 1.0, 9.0):
        histogram.observe(seconds)
    assert histogram.counts == [1, 2, 1]


def test_a_flip_is_said_once_a_change() -> None:
    board = board_of(check("a"))
    flips = [
        event.flip.after
        for outcome in (Outcome.SUCCESS, Outcome.SUCCESS, Outcome.FAILURE, Outcome.FAILURE, Outcome.SUCCESS)
        for event in board.probed(CheckSucceeded(result("a", outcome)))
        if isinstance(event, CheckStatusChanged)
    ]
    assert flips == [Status.UP, Status.DOWN, Status.UP]
