"""What a stall of our own does to results of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from watchbill.domain.checks import parse_check
from watchbill.domain.results import Failure, Outcome, Reason, Result, Trigger, outcome_of
from watchbill.domain.stalls import STALLED, Stall, judge
from watchbill.domain.units import SECOND, Instant

START: Instant = 1_800_000_000 * SECOND
CHECK = parse_check(
    {
        "id": "shop",
        "type": "http",
        "url": "http://shop.test/",
        "timeout": "1s",
        "expect": {"latency": "300ms"},
    }
)


def a_result(seconds: float, *reasons: Reason, **facts: Any) -> Result:
    failures = tuple(Failure(reason, f"{reason} it was") for reason in reasons)
    return Result(
        check_id="shop",
        location="",
        slot=START,
        trigger=Trigger.SCHEDULE,
        started_at=START,
        duration_seconds=seconds,
        outcome=outcome_of(failures),
        failures=failures,
        facts=facts,
    )


def stalls(*pieces: tuple[float, float]) -> Sequence[Stall]:
    return [Stall(START + round(begin * SECOND), START + round(end * SECOND)) for begin, end in pieces]


def test_a_probe_that_began_when_a_long_stall_was_over_has_its_verdict() -> None:
    result = judge(a_result(0.4, Reason.STATUS), CHECK, stalls((-30.0, 0.001)))
    assert (result.outcome, result.facts[STALLED]) == (Outcome.FAILURE, 0.001)


@pytest.mark.parametrize("piece", [(-1.0, 0.0), (0.4, 0.6)])
def test_a_stall_before_or_after_the_probe_is_not_its_own(piece: tuple[float, float]) -> None:
    result = a_result(0.4)
    assert judge(result, CHECK, stalls(piece)) is result


@pytest.mark.parametrize(
    ("pieces", "lost"),
    [([(0.1, 0.2)], 0.1), ([(-1.0, 0.05)], 0.05), ([(0.3, 0.9)], 0.1), ([(0.0, 0.06), (0.1, 0.2)], 0.16)],
)
def test_a_success_is_marked_with_the_time_that_was_lost_in_it(
    pieces: list[tuple[float, float]], lost: float
) -> None:
    judged = judge(a_result(0.4, address="192.0.2.1"), CHECK, stalls(*pieces))
    assert judged.outcome is Outcome.SUCCESS
    assert judged.facts == {"address": "192.0.2.1", STALLED: lost}


@pytest.mark.parametrize(
    ("why", "seconds", "reasons", "piece", "outcome"),
    [
        ("a stall of over two seconds spoils all", 3.0, (), (0.1, 2.2), Outcome.ERROR),
        ("also what failed otherwise", 3.0, (Reason.STATUS,), (0.1, 2.2), Outcome.ERROR),
        ("a wrong answer is wrong", 0.4, (Reason.STATUS,), (0.1, 0.2), Outcome.FAILURE),
        ("also beside a timeout", 1.0, (Reason.TIMEOUT, Reason.STATUS), (0.9, 1.0), Outcome.FAILURE),
        ("a deadline within a stall", 1.06, (Reason.TIMEOUT,), (1.0, 1.06), Outcome.ERROR),
        ("a deadline heard just after it", 1.06, (Reason.CONNECT_TIMEOUT,), (0.99, 1.055), Outcome.ERROR),
        ("silence for the rest of the time", 1.0, (Reason.TIMEOUT,), (0.3, 0.36), Outcome.FAILURE),
        ("a tenth of the time lost", 1.0, (Reason.TIMEOUT,), (0.3, 0.4), Outcome.ERROR),
        ("loss while nobody read", 0.95, (Reason.LOSS,), (0.5, 0.96), Outcome.ERROR),
        ("too slow, perhaps by the stall", 0.35, (Reason.LATENCY,), (0.1, 0.16), Outcome.ERROR),
        ("too slow in any case", 0.55, (Reason.LATENCY,), (0.1, 0.16), Outcome.FAILURE),
        ("too slow in any case, to the end", 0.5, (Reason.LATENCY,), (0.44, 0.5), Outcome.FAILURE),
    ],
)
def test_only_where_time_alone_spoke_against_the_target_is_there_no_verdict(
    why: str, seconds: float, reasons: tuple[Reason, ...], piece: tuple[float, float], outcome: Outcome
) -> None:
    judged = judge(a_result(seconds, *reasons), CHECK, stalls(piece))
    assert judged.outcome is outcome, why
    assert STALLED in judged.facts
    if outcome is Outcome.ERROR:
        assert judged.reason is Reason.STALL
        assert all(f"{reason} it was" in judged.message for reason in reasons)


def test_echoes_are_judged_by_their_round_trip() -> None:
    echo = parse_check({"id": "gw", "type": "icmp", "host": "192.0.2.1", "expect": {"latency": "10ms"}})
    slow = a_result(3.0, Reason.LATENCY, rtt_avg=0.07)
    assert judge(slow, echo, stalls((1.0, 1.06))).outcome is Outcome.ERROR
    assert judge(slow, echo, stalls((1.0, 1.01))).outcome is Outcome.FAILURE
