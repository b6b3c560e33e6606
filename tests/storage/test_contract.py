"""What every store promises, whatever it is made of."""

from __future__ import annotations

import pytest

from tests.storage.events import (
    DAY,
    START,
    batch,
    check,
    deleted,
    failure,
    flipped,
    missed,
    registered,
    reloaded,
    result,
    skipped,
    slots,
    success,
)
from watchbill.domain.discovery import TargetGroup
from watchbill.domain.history import Coverage, StoredResult
from watchbill.domain.messages import CheckErrored, Event, HeartbeatReceived, SlotSkipped, TargetsFound
from watchbill.domain.opening import Opening
from watchbill.domain.results import Failure, Outcome, Reason, Result, SkipReason, Trigger
from watchbill.domain.schedule import Span, offset_of
from watchbill.domain.stalls import STALLED
from watchbill.domain.status import Status
from watchbill.domain.units import SECOND, Instant
from watchbill.ports import Storage

pytestmark = pytest.mark.anyio

EVER: Instant = START + 1_000 * DAY
HOUR = 3_600 * SECOND


async def rows(store: Storage, check_id: str, limit: int = 1_000) -> list[StoredResult]:
    return list(await store.results(check_id, since=0, until=EVER, limit=limit))


async def covered(store: Storage, since: Instant = 0, until: Instant = EVER) -> dict[str, Coverage]:
    return {one.check_id: one for one in await store.coverage(since=since, until=until)}


# --- the opening --------------------------------------------------------------------------------------


async def test_a_new_store_remembers_nothing(store: Storage) -> None:
    assert await store.opening("") == Opening()


async def test_the_opening_tells_how_far_accounting_came_and_which_spans_are_open(store: Storage) -> None:
    await store.commit(batch(registered("shop"), registered(check("cart", interval="5s")), until=START + 7))
    opening = await store.opening("")
    assert opening.accounted_until == START + 7
    assert opening.spans == {
        "shop": Span("shop", "", 10 * SECOND, offset_of("shop", 10 * SECOND), START),
        "cart": Span("cart", "", 5 * SECOND, offset_of("cart", 5 * SECOND), START),
    }
    assert opening.registered_at == {"shop": START, "cart": START}


async def test_accounting_never_goes_back(store: Storage) -> None:
    await store.commit(batch(registered("shop"), until=START + 9))
    await store.commit(batch(until=START + 3))
    assert (await store.opening("")).accounted_until == START + 9


async def test_the_latest_result_comes_back_whole(store: Storage) -> None:
    first, second = slots("shop", 2)
    found = Result(
        check_id="shop",
        location="",
        slot=second,
        trigger=Trigger.SCHEDULE,
        started_at=second + 2_345,
        duration_seconds=0.123456,
        outcome=Outcome.FAILURE,
        failures=(
            Failure(Reason.STATUS, "expected 200, got 503; retry"),
            Failure(Reason.CERTIFICATE, "expires in 3 days"),
        ),
        phases={"resolve": 0.000001, "connect": 0.023455, "tls": 0.1},
        status_code=503,
        facts={"ip": "192.0.2.1", "chain": [{"subject": "CN=ö"}], "version": 1.1, "redirects": 0},
        verdict=None,
    )
    await store.commit(batch(registered("shop"), success("shop", first), until=first))
    await store.commit(batch(CheckErrored(found), until=second))
    assert (await store.opening("")).latest == {"shop": found}


async def test_a_skipped_slot_is_no_latest_result(store: Storage) -> None:
    first, second = slots("shop", 2)
    await store.commit(
        batch(registered("shop"), success("shop", first), skipped("shop", second), until=second)
    )
    assert (await store.opening("")).latest["shop"].slot == first


async def test_a_result_older_than_anything_shows_is_not_looked_for(store: Storage) -> None:
    first, later = slots("shop", 1)[0], START + 2 * HOUR
    await store.commit(batch(registered("shop"), success("shop", first), until=later))
    assert (await store.opening("")).latest == {}


async def test_a_slow_check_keeps_its_latest_result_longer(store: Storage) -> None:
    daily = check("daily", interval="1d")
    [slot] = slots("daily", 1, interval=DAY)
    await store.commit(batch(registered(daily), success("daily", slot), until=slot + DAY + HOUR))
    assert (await store.opening("")).latest["daily"].slot == slot


async def test_probes_outside_the_slots_count_as_latest_but_not_as_rows(store: Storage) -> None:
    [first] = slots("shop", 1)
    asked = success("shop", first + 1, trigger=Trigger.MANUAL)
    await store.commit(batch(registered("shop"), success("shop", first), asked, until=first))
    opening = await store.opening("")
    assert opening.latest["shop"].trigger is Trigger.MANUAL
    assert opening.rows_since == {"shop": 1}


async def test_rows_since_counts_what_lies_at_or_after_the_earliest_open_slot(store: Storage) -> None:
    first, second, third = slots("shop", 3)
    events = [registered("shop"), success("shop", first), success("shop", second), skipped("shop", third)]
    await store.commit(batch(*events, until=second))
    assert (await store.opening("")).rows_since == {"shop": 2}


async def test_the_newest_instant_is_that_of_any_slot_or_end_of_a_span(store: Storage) -> None:
    first, second = slots("shop", 2)
    await store.commit(
        batch(registered("shop"), success("shop", first), skipped("shop", second), until=first)
    )
    assert (await store.opening("")).newest == second
    await store.commit(batch(deleted("shop", second + HOUR), until=first))
    assert (await store.opening("")).newest == second + HOUR


async def test_the_last_flip_is_the_status(store: Storage) -> None:
    up_then_down = [
        flipped("shop", START + 1, Status.UNKNOWN, Status.UP),
        flipped("shop", START + 2, Status.UP, Status.DOWN),
    ]
    await store.commit(batch(registered("shop"), *up_then_down))
    assert (await store.opening("")).statuses == {"shop": Status.DOWN}


async def test_the_last_heartbeat_is_remembered_and_follows_a_rename(store: Storage) -> None:
    await store.commit(batch(registered("job"), HeartbeatReceived("job", START + 1)))
    await store.commit(batch(HeartbeatReceived("job", START + 5)))
    assert (await store.opening("")).heartbeats == {"job": START + 5}
    await store.commit(
        batch(registered("backup", START + 9, moved_from="job"), deleted("job", START + 9, moved_to="backup"))
    )
    assert (await store.opening("")).heartbeats == {"backup": START + 5}


def group(source: str, *addresses: str, **labels: str) -> TargetGroup:
    return TargetGroup(source, tuple({"__address__": address} for address in addresses), labels)


async def test_what_sources_had_last_is_remembered_by_block_and_group(store: Storage) -> None:
    first = (group("a.json:0", "a:1", "a:2", env='pröd "x"'), group("a.json:1", "a:3"), group("a.json:10"))
    await store.commit(
        batch(TargetsFound("pods", first, (), START), TargetsFound("vms", first[:1], (), START))
    )
    assert (await store.opening("")).targets == {"pods": first, "vms": first[:1]}
    changed = group("a.json:1", "a:4")
    await store.commit(
        batch(
            TargetsFound("pods", (group("a.json:1", "a:9"),), ("a.json:0",), START),
            TargetsFound("pods", (changed,), ("nobody",), START + 1),
            TargetsFound("vms", (), ("a.json:0",), START + 1),
        )
    )
    assert (await store.opening("")).targets == {"pods": (changed, first[2])}


async def test_targets_committed_twice_stand_there_once(store: Storage) -> None:
    again = batch(TargetsFound("pods", (group("a.json:0", "a:1"),), (), START))
    await store.commit(again)
    await store.commit(again)
    assert (await store.opening("")).targets == {"pods": (group("a.json:0", "a:1"),)}


async def test_another_location_is_another_memory(store: Storage) -> None:
    await store.commit(batch(registered("shop")))
    assert await store.opening("elsewhere") == Opening()


# --- results ------------------------------------------------------------------------------------------


async def test_results_come_newest_first_within_the_period_and_the_limit(store: Storage) -> None:
    five = slots("shop", 5)
    await store.commit(batch(registered("shop"), *(success("shop", slot) for slot in five)))
    found = await store.results("shop", since=five[1], until=five[4], limit=2)
    assert [one.slot for one in found] == [five[3], five[2]]


async def test_a_row_says_what_the_result_said_in_whole_microseconds(store: Storage) -> None:
    [slot] = slots("shop", 1)
    event = success("shop", slot, duration_seconds=0.1234567, phases={"connect": 0.1234564})
    await store.commit(batch(registered("shop"), event))
    assert await rows(store, "shop") == [
        StoredResult(
            check_id="shop",
            location="",
            slot=slot,
            trigger=Trigger.SCHEDULE,
            started_at=slot + 1_500,
            duration_seconds=0.123457,
            outcome="success",
            reason=None,
            message="",
            status_code=200,
            phases={"connect": 0.123456},
        )
    ]


async def test_a_result_over_a_stall_of_our_own_is_marked_in_history_and_after_a_restart(
    store: Storage,
) -> None:
    first, second = slots("shop", 2)
    await store.commit(batch(registered("shop"), success("shop", first, facts={"ssl": True}), until=second))
    stalled = success("shop", second, facts={"ssl": True, STALLED: 0.08})
    await store.commit(batch(stalled, until=second + 1))
    assert [row.stalled_seconds for row in await rows(store, "shop")] == [0.08, None]
    assert (await store.opening("")).latest["shop"].facts == {"ssl": True, STALLED: 0.08}


async def test_a_skipped_slot_is_a_row_with_its_reason(store: Storage) -> None:
    [slot] = slots("shop", 1)
    await store.commit(batch(registered("shop"), SlotSkipped("shop", "", slot, SkipReason.OVERLOAD)))
    [row] = await rows(store, "shop")
    assert (row.outcome, row.reason, row.started_at, row.duration_seconds) == (
        "skipped",
        "overload",
        None,
        None,
    )


async def test_text_that_is_no_utf8_is_stored_escaped(store: Storage) -> None:
    [slot] = slots("shop", 1)
    odd = failure("shop", slot, message="got \ud800\x00 and é")
    await store.commit(batch(registered("shop"), odd))
    assert [row.message for row in await rows(store, "shop")] == ["got \\ud800\x00 and é"]


async def test_an_unknown_check_has_no_rows_no_spans_and_no_error(store: Storage) -> None:
    assert await rows(store, "nobody") == []
    assert await store.spans("nobody") == []


# --- committing twice ---------------------------------------------------------------------------------


async def test_the_same_batch_committed_again_is_there_once(store: Storage) -> None:
    [slot] = slots("shop", 1)
    again = batch(registered("shop"), success("shop", slot), missed(START, START + 5))
    await store.commit(again)
    await store.commit(again)
    assert len(await rows(store, "shop")) == 1
    assert len(await store.spans("shop")) == 1


async def test_a_batch_whose_answer_was_lost_is_there_once_after_reopening(store: Storage) -> None:
    [slot] = slots("shop", 1)
    again = batch(registered("shop"), success("shop", slot))
    await store.commit(again)
    await store.reopen()
    await store.commit(again)
    assert len(await rows(store, "shop")) == 1


async def test_equal_batches_are_two(store: Storage) -> None:
    [slot] = slots("shop", 1)
    await store.commit(batch(registered("shop")))
    await store.commit(batch(success("shop", slot)))
    await store.commit(batch(success("shop", slot)))
    assert len(await rows(store, "shop")) == 2


# --- who a check is over time -------------------------------------------------------------------------


async def test_registering_the_same_check_again_keeps_its_span(store: Storage) -> None:
    await store.commit(batch(registered("shop")))
    await store.commit(batch(registered(check("shop", url="https://other.example/"), START + HOUR)))
    assert [span.opened_at for span in await store.spans("shop")] == [START]


async def test_a_new_interval_closes_the_span_and_opens_the_next(store: Storage) -> None:
    await store.commit(batch(registered("shop")))
    await store.commit(batch(registered(check("shop", interval="30s"), START + HOUR)))
    assert [(span.interval, span.opened_at, span.closed_at) for span in await store.spans("shop")] == [
        (10 * SECOND, START, START + HOUR),
        (30 * SECOND, START + HOUR, None),
    ]


async def test_a_parked_check_expects_nothing_until_it_is_enabled(store: Storage) -> None:
    await store.commit(batch(registered("shop")))
    await store.commit(batch(registered(check("shop", enabled=False), START + HOUR)))
    assert (await store.opening("")).spans == {}
    assert (await store.opening("")).registered_at == {"shop": START}
    await store.commit(batch(registered("shop", START + 2 * HOUR)))
    assert [(span.opened_at, span.closed_at) for span in await store.spans("shop")] == [
        (START, START + HOUR),
        (START + 2 * HOUR, None),
    ]


async def test_a_deleted_check_leaves_the_opening_but_keeps_its_rows(store: Storage) -> None:
    [slot] = slots("shop", 1)
    await store.commit(batch(registered("shop"), success("shop", slot)))
    await store.commit(batch(deleted("shop", START + HOUR)))
    opening = await store.opening("")
    assert (opening.spans, opening.latest, opening.registered_at, opening.rows_since) == ({}, {}, {}, {})
    assert [row.slot for row in await rows(store, "shop")] == [slot]
    assert [span.closed_at for span in await store.spans("shop")] == [START + HOUR]


async def test_a_check_that_comes_back_continues_its_history_from_a_new_registration(store: Storage) -> None:
    [before] = slots("shop", 1)
    [after] = slots("shop", 1, after=START + 2 * HOUR)
    await store.commit(batch(registered("shop"), success("shop", before), deleted("shop", START + HOUR)))
    await store.commit(batch(registered("shop", START + 2 * HOUR), success("shop", after)))
    assert [row.slot for row in await rows(store, "shop")] == [after, before]
    assert (await store.opening("")).registered_at == {"shop": START + 2 * HOUR}


@pytest.mark.parametrize("deleted_first", [True, False])
async def test_a_renamed_check_keeps_its_history_under_a_new_span(
    store: Storage, deleted_first: bool
) -> None:
    moved = START + HOUR
    [before] = slots("shop", 1)
    [after] = slots("store", 1, after=moved)
    pair = [deleted("shop", moved, moved_to="store"), registered("store", moved, moved_from="shop")]
    await store.commit(batch(registered("shop"), success("shop", before)))
    await store.commit(batch(*(pair if deleted_first else reversed(pair)), success("store", after)))
    assert [row.slot for row in await rows(store, "store")] == [after, before]
    assert [(span.offset, span.opened_at, span.closed_at) for span in await store.spans("store")] == [
        (offset_of("shop", 10 * SECOND), START, moved),
        (offset_of("store", 10 * SECOND), moved, None),
    ]
    assert await rows(store, "shop") == []
    assert (await store.opening("")).spans.keys() == {"store"}


async def test_a_result_that_comes_after_the_rename_lands_on_the_same_history(store: Storage) -> None:
    first, second = slots("shop", 2)
    moved = second + 1
    await store.commit(batch(registered("shop"), success("shop", first)))
    await store.commit(
        batch(
            deleted("shop", moved, moved_to="store"),
            registered("store", moved, moved_from="shop"),
            registered("shop", moved + 1),
            success("shop", second),
        )
    )
    assert [row.slot for row in await rows(store, "store")] == [second, first]
    assert await rows(store, "shop") == []


async def test_a_result_that_comes_after_the_deletion_lands_on_the_deleted_check(store: Storage) -> None:
    [slot] = slots("shop", 1)
    await store.commit(batch(registered("shop"), deleted("shop", slot + 1)))
    await store.commit(batch(skipped("shop", slot, SkipReason.DELETED)))
    assert [row.reason for row in await rows(store, "shop")] == ["deleted"]
    assert (await covered(store))["shop"].unaccounted == 0


async def test_a_check_renamed_back_and_forth_is_one_history(store: Storage) -> None:
    [first] = slots("a", 1)
    await store.commit(batch(registered("a"), success("a", first)))
    await store.commit(batch(deleted("a", START + HOUR), registered("b", START + HOUR, moved_from="a")))
    await store.commit(
        batch(deleted("b", START + 2 * HOUR), registered("a", START + 2 * HOUR, moved_from="b"))
    )
    assert [row.slot for row in await rows(store, "a")] == [first]
    assert [span.closed_at for span in await store.spans("a")] == [START + HOUR, START + 2 * HOUR, None]
    assert await store.spans("b") == []


async def test_a_name_given_anew_after_a_rename_starts_a_history_of_its_own(store: Storage) -> None:
    [first] = slots("a", 1)
    await store.commit(batch(registered("a"), success("a", first)))
    await store.commit(batch(deleted("a", START + HOUR), registered("b", START + HOUR, moved_from="a")))
    await store.commit(batch(registered("a", START + 2 * HOUR)))
    assert await rows(store, "a") == []
    assert [span.opened_at for span in await store.spans("a")] == [START + 2 * HOUR]
    assert [row.slot for row in await rows(store, "b")] == [first]


async def test_a_rename_that_stays_in_the_file_is_followed_once(store: Storage) -> None:
    await store.commit(batch(registered("a")))
    await store.commit(batch(deleted("a", START + HOUR), registered("b", START + HOUR, moved_from="a")))
    [slot] = slots("a", 1, after=START + 2 * HOUR)
    another = [registered("a", START + 2 * HOUR), success("a", slot), deleted("a", START + 3 * HOUR)]
    await store.commit(batch(*another))
    await store.commit(batch(registered("b", START + 4 * HOUR, moved_from="a")))
    assert [span.closed_at for span in await store.spans("b")] == [START + HOUR, None]
    assert [row.slot for row in await rows(store, "a")] == [slot]


async def test_a_check_that_left_the_file_while_nobody_ran_is_closed_by_the_next_load(store: Storage) -> None:
    await store.commit(batch(registered("shop"), registered("cart")))
    await store.commit(batch(registered("shop", START + HOUR), reloaded(START + HOUR, "shop")))
    assert (await store.opening("")).spans.keys() == {"shop"}
    assert [span.closed_at for span in await store.spans("cart")] == [START + HOUR]


# --- coverage -----------------------------------------------------------------------------------------


async def test_every_expected_slot_is_told_by_how_it_ended(store: Storage) -> None:
    ten = slots("shop", 10)
    events: list[Event] = [
        success("shop", ten[0], duration_seconds=0.1),
        success("shop", ten[1], duration_seconds=0.2),
        failure("shop", ten[2]),
        CheckErrored(
            result("shop", ten[3], outcome=Outcome.ERROR, failures=(Failure(Reason.STALL, "stalled"),))
        ),
        skipped("shop", ten[4]),
        success("shop", ten[5], outcome=Outcome.EXCUSED, verdict=Outcome.FAILURE),
        missed(ten[6], ten[8]),
    ]
    await store.commit(batch(registered(check("shop", service="web")), *events, until=ten[9]))
    assert await store.coverage(since=0, until=EVER) == [
        Coverage(
            check_id="shop",
            location="",
            service="web",
            type="http",
            expected=9,
            success=2,
            failure=1,
            error=1,
            skipped=1,
            excused=1,
            missed=2,
            unaccounted=1,
            latency_p50=0.15000000000000002,
            latency_p95=0.195,
            latency_p99=0.199,
        )
    ]


async def test_a_slot_in_a_gap_that_has_a_row_was_not_missed(store: Storage) -> None:
    three = slots("shop", 3)
    gap = missed(three[0], three[2] + 1)
    await store.commit(batch(registered("shop"), success("shop", three[1]), gap, until=three[2] + 1))
    found = (await covered(store))["shop"]
    assert (found.expected, found.success, found.missed, found.unaccounted) == (3, 1, 2, 0)


async def test_gaps_that_overlap_or_touch_miss_a_slot_once(store: Storage) -> None:
    six = slots("shop", 6)
    gaps = [
        missed(six[0], six[3]),
        missed(six[1], six[2]),
        missed(six[3], six[4]),
        missed(six[3] + 1, six[5]),
    ]
    await store.commit(batch(registered("shop"), *gaps, until=six[5]))
    found = (await covered(store))["shop"]
    assert (found.expected, found.missed, found.unaccounted) == (5, 5, 0)


async def test_a_gap_of_another_location_covers_nothing_here(store: Storage) -> None:
    two = slots("shop", 2)
    await store.commit(batch(registered("shop"), missed(two[0], two[1], location="moon"), until=two[1]))
    assert (await covered(store))["shop"].unaccounted == 1


async def test_slots_that_are_still_open_are_not_expected_yet(store: Storage) -> None:
    three = slots("shop", 3)
    await store.commit(
        batch(registered("shop"), success("shop", three[0]), success("shop", three[2]), until=three[1])
    )
    found = (await covered(store))["shop"]
    assert (found.expected, found.success) == (1, 1)


async def test_probes_outside_the_slots_do_not_count(store: Storage) -> None:
    [slot] = slots("shop", 1)
    asked: list[Event] = [success("shop", slot - 5, trigger=Trigger.REGISTERED), failure("shop", slot)]
    await store.commit(batch(registered("shop"), *asked, until=slot + 1))
    found = (await covered(store))["shop"]
    assert (found.expected, found.success, found.failure, found.latency_p50) == (1, 0, 1, None)


async def test_coverage_is_of_the_period_asked_for_and_names_are_sorted(store: Storage) -> None:
    shop, cart = slots("shop", 4), slots("cart", 4)
    events = [success("shop", slot) for slot in shop] + [success("cart", slot) for slot in cart]
    await store.commit(batch(registered("shop"), registered("cart"), *events, until=START + 45 * SECOND))
    found = await store.coverage(since=shop[1], until=shop[3])
    assert [one.check_id for one in found] == ["cart", "shop"]
    assert [one.expected for one in found] == [2, 2]
    assert all(one.success == one.expected for one in found)


async def test_coverage_spans_a_rename(store: Storage) -> None:
    old = slots("shop", 2)
    moved = old[1] + 1
    new = slots("store", 2, after=moved)
    await store.commit(batch(registered("shop"), *(success("shop", slot) for slot in old)))
    rename = [deleted("shop", moved, moved_to="store"), registered("store", moved, moved_from="shop")]
    await store.commit(batch(*rename, *(success("store", slot) for slot in new), until=new[1] + 1))
    found = await covered(store)
    assert found.keys() == {"store"}


# --- deleting by age ----------------------------------------------------------------------------------


async def test_pruning_deletes_old_rows_and_counts_them(store: Storage) -> None:
    ten = slots("shop", 10)
    await store.commit(batch(registered("shop"), *(success("shop", slot) for slot in ten), until=ten[9] + 1))
    assert await store.prune(ten[4]) == 4
    assert [row.slot for row in await rows(store, "shop")] == ten[:3:-1]
    assert await store.prune(ten[4]) == 0


async def test_what_was_pruned_is_not_expected_any_more(store: Storage) -> None:
    ten = slots("shop", 10)
    events = [success("shop", slot) for slot in ten[:8]]
    await store.commit(batch(registered("shop"), *events, missed(ten[8], ten[9] + 1), until=ten[9] + 1))
    await store.prune(ten[4])
    found = (await covered(store))["shop"]
    assert (found.expected, found.success, found.missed, found.unaccounted) == (6, 4, 2, 0)


async def test_pruning_many_hours_deletes_all_of_them(store: Storage) -> None:
    hourly = check("shop", interval="1h")
    fifty = slots("shop", 50, interval=HOUR)
    await store.commit(batch(registered(hourly), *(success("shop", slot) for slot in fifty), until=fifty[-1]))
    assert await store.prune(fifty[40]) == 40
    assert len(await rows(store, "shop")) == 10


async def test_pruning_keeps_the_status_of_a_check_that_has_not_flipped_since(store: Storage) -> None:
    await store.commit(
        batch(
            registered("shop"),
            flipped("shop", START + 1, Status.UNKNOWN, Status.DOWN),
            flipped("shop", START + 2, Status.DOWN, Status.UP),
        )
    )
    await store.prune(START + 10 * DAY)
    opening = await store.opening("")
    assert opening.statuses == {"shop": Status.UP}
    assert opening.spans.keys() == {"shop"}


async def test_a_check_deleted_long_ago_goes_with_its_last_row_and_may_come_back(store: Storage) -> None:
    [slot] = slots("shop", 1)
    await store.commit(batch(registered("shop"), success("shop", slot), deleted("shop", START + HOUR)))
    assert await store.prune(START + 10 * DAY) == 1
    assert await store.spans("shop") == []
    again = START + 11 * DAY
    [new] = slots("shop", 1, after=again)
    await store.commit(batch(registered("shop", again), success("shop", new), until=new + 1))
    assert [row.slot for row in await rows(store, "shop")] == [new]
    found = (await covered(store))["shop"]
    assert (found.expected, found.success, found.unaccounted) == (1, 1, 0)


# --- the rest -----------------------------------------------------------------------------------------


async def test_reopening_loses_nothing(store: Storage) -> None:
    [slot] = slots("shop", 1)
    await store.commit(batch(registered("shop"), success("shop", slot)))
    await store.reopen()
    await store.commit(batch(registered("shop")))
    assert len(await rows(store, "shop")) == 1
    assert len(await store.spans("shop")) == 1


async def test_statistics_name_the_store(store: Storage, url: str) -> None:
    assert store.statistics().url == url
