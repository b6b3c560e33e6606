"""What results say of a check and of its service."""

from itertools import product

import pytest

from watchbill.domain.results import (
    OWN_SIDE,
    TARGET_REASONS,
    Failure,
    Outcome,
    Reason,
    by_precedence,
    outcome_of,
    primary,
)
from watchbill.domain.status import Status, fold, roll_up


@pytest.mark.parametrize(("before", "outcome"), list(product(Status, Outcome)))
def test_only_a_success_or_a_failure_moves_a_status(before: Status, outcome: Outcome) -> None:
    moved = {Outcome.SUCCESS: Status.UP, Outcome.FAILURE: Status.DOWN}
    assert fold(before, outcome) is moved.get(outcome, before)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([], Status.UNKNOWN),
        ([Status.UNKNOWN], Status.UNKNOWN),
        ([Status.UP, Status.UNKNOWN], Status.UP),
        ([Status.UP, Status.UP], Status.UP),
        ([Status.DOWN, Status.DOWN], Status.DOWN),
        ([Status.UP, Status.DOWN], Status.DEGRADED),
        ([Status.DOWN, Status.UNKNOWN], Status.DOWN),
    ],
)
def test_a_service_is_what_its_known_members_agree_on(members: list[Status], expected: Status) -> None:
    assert roll_up(members) is expected


def test_the_first_reason_in_the_documented_order_is_the_label() -> None:
    found = tuple(Failure(reason, reason.value) for reason in (Reason.LATENCY, Reason.STATUS, Reason.BODY))
    assert primary(found) is Reason.STATUS
    assert [failure.reason for failure in by_precedence(found)] == [
        Reason.STATUS,
        Reason.BODY,
        Reason.LATENCY,
    ]
    assert [reason.value for reason in Reason] == (
        "dns refused unreachable connect_timeout tls certificate timeout reset protocol too_large redirect status "
        "header body json schema answer loss latency missing descriptors network resolver permission stall internal"
    ).split()
    assert set(TARGET_REASONS) | OWN_SIDE == set(Reason)


def test_a_fault_of_our_own_side_is_never_a_failure_of_the_target() -> None:
    for reason in OWN_SIDE:
        assert outcome_of((Failure(reason, ""), Failure(Reason.STATUS, ""))) is Outcome.ERROR
    assert outcome_of((Failure(Reason.STATUS, ""),)) is Outcome.FAILURE
    assert outcome_of(()) is Outcome.SUCCESS
