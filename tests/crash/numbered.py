"""Numbered groups of events, so that a look at a store says exactly which of them are there.

Group ``n`` holds the ``n``-th slot of each check, one flip, now and then a ping, a changed declaration or a gap. A
store is right when it holds whole groups only, each once, without a hole, from the oldest that is kept to the newest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import duckdb

from tests.storage.events import START, check, failure, missed, success
from watchbill.domain.messages import CheckRegistered, CheckStatusChanged, Event, HeartbeatReceived
from watchbill.domain.results import GapReason
from watchbill.domain.schedule import first_slot_after, offset_of
from watchbill.domain.status import Flip, Status
from watchbill.domain.units import SECOND, Instant

CHECKS = tuple(f"shop-{number}" for number in range(8))
FIRST = {name: first_slot_after(START, interval=SECOND, offset=offset_of(name, SECOND)) for name in CHECKS}
FAILS_EVERY, CHANGES_EVERY, GAP_EVERY, FACTS_FOR = 7, 20, 25, 5

RESULTS = """
    SELECT n.check_id, epoch_us(r.slot), r.outcome, r.message, r.status_code, f.facts
    FROM result r JOIN check_name n USING (check_key) LEFT JOIN facts f USING (facts_key)"""
FLIPS = "SELECT epoch_us(flipped_at), count(*) FROM flip GROUP BY ALL"
KEPT = "SELECT epoch_us(kept_since) FROM store_state"
ACCOUNTED = "SELECT epoch_us(accounted_until) FROM writer_state"
PINGED = "SELECT max(epoch_us(received_at)) FROM heartbeat"
SPANS = "SELECT count(*) FROM span WHERE closed_at IS NULL"


def instant(number: int) -> Instant:
    """Group ``number`` begins here: its slots lie in the second after."""
    return START + number * SECOND


def number_at(at: Instant) -> int:
    return (at - START) // SECOND


def registrations(at: Instant, number: int) -> list[Event]:
    """What a process declares when it starts, as group ``number`` would have it."""
    return [CheckRegistered(_declared(name, number), at, "") for name in CHECKS]


def group(number: int) -> list[Event]:
    at = instant(number)
    events: list[Event] = []
    if number and number % CHANGES_EVERY == 0:
        events += registrations(at, number)
    if number % GAP_EVERY == 3:
        events.append(missed(at, at + 1, GapReason.STALL))
    for name in CHECKS:
        slot = FIRST[name] + number * SECOND
        if number % FAILS_EVERY == 0:
            events.append(failure(name, slot, message=_message(number)))
        else:
            facts = {"number": number // FACTS_FOR}
            events.append(success(name, slot, facts=facts, status_code=200 + number % 90))
    status = (Status.DOWN, Status.UP) if number % 2 else (Status.UP, Status.DOWN)
    events.append(CheckStatusChanged(Flip(CHECKS[number % len(CHECKS)], at, *status)))
    events.append(HeartbeatReceived(CHECKS[0], at))
    return events


def numbers(events: Iterable[Event]) -> tuple[int, int] | None:
    """The first and the last group among them."""
    found = [number_at(event.flip.at) for event in events if isinstance(event, CheckStatusChanged)]
    return (min(found), max(found)) if found else None


@dataclass
class Seen:
    """The groups that a store held when it was looked at; ``newest`` is -1 where there were none."""

    newest: int = -1
    oldest: int = 0
    problems: list[str] = field(default_factory=list)


def look(cursor: duckdb.DuckDBPyConnection) -> Seen:
    """Compare all that a store holds with what was written into it."""
    [(kept,)] = cursor.execute(KEPT).fetchall()
    oldest = max(0, number_at(kept))
    seen = Seen(oldest=oldest)
    rows = cursor.execute(RESULTS).fetchall()
    times = Counter((check_id, slot) for check_id, slot, *_ in rows)
    seen.problems += [f"{row} is there {count} times" for row, count in times.items() if count > 1]
    seen.problems += [f"a row is not as it was written: {row}" for row in rows if not _as_written(row)]
    groups = Counter(_number(check_id, slot) for check_id, slot in times)
    seen.newest = max(groups, default=-1)
    expected = {number: len(CHECKS) for number in range(oldest, seen.newest + 1)}
    torn = {
        number for number in expected.keys() | groups.keys() if expected.get(number) != groups.get(number)
    }
    if torn:
        seen.problems.append(f"groups lost or torn: {_some(torn)}, where {oldest} to {seen.newest} are kept")
    _look_beside(cursor, seen)
    return seen


def _look_beside(cursor: duckdb.DuckDBPyConnection, seen: Seen) -> None:
    """What is committed together must have come together: each table says the same newest group."""
    if seen.newest < 0:
        return
    flips = dict(cursor.execute(FLIPS).fetchall())
    wanted = {instant(number) for number in range(seen.oldest, seen.newest + 1)}
    odd = [at for at, count in flips.items() if count > 1 or at > max(wanted)] + sorted(wanted - flips.keys())
    if odd:
        seen.problems.append(f"flips lost, torn or doubled: {_some(map(number_at, odd))}")
    for what, query in (("accounting", ACCOUNTED), ("the last ping", PINGED)):
        [(at,)] = cursor.execute(query).fetchall()
        reached = number_at(at) - (query is ACCOUNTED)
        if reached != seen.newest:
            seen.problems.append(f"{what} is of group {reached}, rows go up to {seen.newest}")
    [(spans,)] = cursor.execute(SPANS).fetchall()
    if spans != len(CHECKS):
        seen.problems.append(f"{spans} open spans, where {len(CHECKS)} checks are declared")


def _as_written(row: tuple[Any, ...]) -> bool:
    check_id, slot, outcome, message, code, facts = row
    number = _number(check_id, slot)
    if number % FAILS_EVERY == 0:
        return (outcome, message, code, facts) == ("failure", _message(number), 500, None)
    found = None if facts is None else json.loads(facts)
    return (outcome, message, code, found) == (
        "success", "", 200 + number % 90, {"number": number // FACTS_FOR},
    )  # fmt: skip


def _declared(name: str, number: int) -> Any:
    return check(name, interval="1s", url=f"https://shop.example/{number // CHANGES_EVERY}")


def _number(check_id: str, slot: Instant) -> int:
    return (slot - FIRST[check_id]) // SECOND


def _message(number: int) -> str:
    return f"expected 200, got 500 in group {number} " + "x" * 150


def _some(found: Iterable[int]) -> str:
    listed = sorted(found)
    return ", ".join(map(str, listed[:5])) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
