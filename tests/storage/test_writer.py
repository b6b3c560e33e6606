"""The history writer on virtual time, over a store that fails when it is told to."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest
import trio.testing
from structlog.testing import capture_logs

from tests.storage.events import (
    DAY,
    START,
    check,
    deleted,
    failure,
    flipped,
    missed,
    registered,
    skipped,
    slots,
    success,
)
from tests.storage.fakes import FailingStorage
from watchbill.clock import Clock
from watchbill.domain.errors import StorageError
from watchbill.domain.history import Batch, Coverage
from watchbill.domain.messages import (
    CheckRegistered,
    CheckSucceeded,
    ConfigReloaded,
    Event,
    HeartbeatReceived,
    SlotsMissed,
)
from watchbill.domain.plan import Plan
from watchbill.domain.results import GapReason, Trigger
from watchbill.domain.status import Status
from watchbill.domain.units import SECOND, Instant
from watchbill.storage.buffer import Buffer
from watchbill.storage.writer import FLUSH_ROWS, GIVE_UP_ROWS_AFTER, LARGEST_BATCH, HistoryWriter
from watchbill.testing import config_of, virtual_clock

pytestmark = pytest.mark.anyio

FULL = "the disk is full"
Accounted = Callable[[], Instant]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
async def clock(anyio_backend: object) -> Clock:
    return virtual_clock(start=START)


@pytest.fixture
async def storage(clock: Clock) -> FailingStorage:
    return FailingStorage(now=clock.now)


def writer_over(storage: FailingStorage, clock: Clock, **options: Any) -> HistoryWriter:
    return HistoryWriter(storage, clock=clock, **{"accounted_until": clock.now, **options})


@asynccontextmanager
async def running(writer: HistoryWriter) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        await tasks.start(writer.run)
        yield
        tasks.cancel_scope.cancel()


def seconds(instant: Instant) -> float:
    return round((instant - START) / SECOND, 3)


def rows_of(batch: Batch) -> list[Instant]:
    return [event.result.slot for event in batch.events if isinstance(event, CheckSucceeded)]


async def covered(storage: FailingStorage) -> Coverage:
    [found] = await storage.coverage(since=0, until=START + DAY)
    return found


async def test_events_are_committed_together_within_a_second_of_the_first(
    storage: FailingStorage, clock: Clock
) -> None:
    writer = writer_over(storage, clock)
    first, second, third = slots("shop", 3)
    async with running(writer):
        await anyio.sleep(5)
        writer.accept(registered("shop"))
        writer.accept(success("shop", first))
        await anyio.sleep(0.5)
        writer.accept(success("shop", second))
        await anyio.sleep(1)
        writer.accept(success("shop", third))
        await anyio.sleep(10)
    assert [rows_of(batch) for _, batch in storage.committed] == [[first, second], [third]]
    assert [seconds(at) for at, _ in storage.committed] == [5.9, 7.4]
    assert writer.statistics().rows == 3
    assert writer.statistics().pending == 0


async def test_what_comes_during_a_commit_is_committed_within_a_second_too(
    storage: FailingStorage, clock: Clock
) -> None:
    storage.seconds_a_commit = 0.2
    writer = writer_over(storage, clock)
    came: dict[Instant, Instant] = {}
    async with running(writer):
        for slot in slots("shop", 200):
            came[slot] = clock.now()
            writer.accept(success("shop", slot))
            await anyio.sleep(0.05)
        await anyio.sleep(1)
    _, *later = storage.committed  # how long a commit takes is known once there was one
    took = [at - came[slot] for at, batch in later for slot in rows_of(batch)]
    assert len(took) > 100
    assert max(took) <= SECOND


async def test_many_rows_do_not_wait(storage: FailingStorage, clock: Clock) -> None:
    writer = writer_over(storage, clock)
    async with running(writer):
        for slot in slots("shop", FLUSH_ROWS):
            writer.accept(success("shop", slot))
        await anyio.sleep(0.1)
        assert [seconds(at) for at, _ in storage.committed] == [0.0]
    assert writer.statistics().rows == FLUSH_ROWS


async def test_nothing_is_committed_while_nothing_happens(storage: FailingStorage, clock: Clock) -> None:
    async with running(writer_over(storage, clock)):
        await anyio.sleep(30)
    assert storage.tried == []


async def test_accounting_is_asked_in_the_same_step_in_which_events_are_taken(
    storage: FailingStorage, clock: Clock
) -> None:
    open_slots = slots("shop", 3)
    writer = writer_over(storage, clock, accounted_until=lambda: open_slots[0])
    async with running(writer):
        for _ in range(3):
            writer.accept(success("shop", open_slots.pop(0)))
            open_slots.append(open_slots[-1] + 10 * SECOND)
            await anyio.sleep(2)
    for _, batch in storage.committed:
        [slot] = rows_of(batch)
        assert batch.accounted_until == slot + 10 * SECOND


async def test_a_failing_store_is_tried_again_with_growing_pauses_and_the_same_batch(
    storage: FailingStorage, clock: Clock
) -> None:
    storage.failures = [StorageError(FULL) for _ in range(7)]
    writer = writer_over(storage, clock)
    [slot] = slots("shop", 1)
    async with running(writer):
        writer.accept(success("shop", slot))
        await anyio.sleep(2)
        assert not writer.statistics().healthy
        await anyio.sleep(60)
    assert [seconds(at) for at, _ in storage.tried] == [0.9, 1.1, 1.5, 2.3, 3.9, 6.9, 9.9, 12.9]
    assert len({id(batch) for _, batch in storage.tried}) == 1
    assert [rows_of(batch) for _, batch in storage.committed] == [[slot]]
    statistics = writer.statistics()
    assert (statistics.healthy, statistics.failures, statistics.rows) == (True, 7, 1)


async def test_the_store_is_opened_anew_before_each_further_try(
    storage: FailingStorage, clock: Clock
) -> None:
    storage.failures = [StorageError(FULL), StorageError(FULL)]
    storage.reopen_failures = [StorageError("still full")]
    writer = writer_over(storage, clock)
    async with running(writer):
        writer.accept(registered("shop"))
        await anyio.sleep(60)
    assert [seconds(at) for at in storage.reopened] == [1.1, 1.5, 2.3]
    assert [seconds(at) for at, _ in storage.tried] == [0.9, 1.5, 2.3]


async def test_failing_and_recovering_are_each_said_once(storage: FailingStorage, clock: Clock) -> None:
    storage.failures = [StorageError(FULL) for _ in range(4)]
    writer = writer_over(storage, clock)
    with capture_logs() as logs:
        async with running(writer):
            writer.accept(registered("shop"))
            await anyio.sleep(50)
    said = [(line["event"], line.get("error")) for line in logs]
    assert said == [("history.store_failed", FULL), ("history.store_recovered", None)]


async def test_a_commit_of_unknown_outcome_is_not_doubled(storage: FailingStorage, clock: Clock) -> None:
    storage.failures, storage.after_the_fact = [StorageError("the answer was lost")], True
    writer = writer_over(storage, clock)
    [slot] = slots("shop", 1)
    async with running(writer):
        writer.accept(registered("shop"))
        writer.accept(success("shop", slot))
        await anyio.sleep(10)
    assert len(storage.tried) == 2
    rows = await storage.results("shop", since=0, until=START + DAY, limit=9)
    assert [row.slot for row in rows] == [slot]


async def test_events_that_come_while_the_store_fails_are_kept_in_order(
    storage: FailingStorage, clock: Clock
) -> None:
    storage.failures = [StorageError(FULL) for _ in range(5)]
    writer = writer_over(storage, clock)
    ten = slots("shop", 10)
    async with running(writer):
        writer.accept(registered("shop"))
        for slot in ten:
            writer.accept(success("shop", slot))
            await anyio.sleep(0.5)
        await anyio.sleep(20)
    assert [slot for _, batch in storage.committed for slot in rows_of(batch)] == ten
    assert writer.statistics().dropped_rows == 0


async def test_a_full_buffer_drops_the_oldest_rows_and_every_slot_stays_accounted_for(
    storage: FailingStorage, clock: Clock
) -> None:
    fifty = slots("shop", 50)
    writer = writer_over(storage, clock, capacity=10, accounted_until=lambda: fifty[-1] + 1)
    writer.accept(registered("shop"))
    for slot in fifty:
        writer.accept(success("shop", slot))
    assert await writer.drain(5)
    found = await covered(storage)
    # Nine rows fit beside the registration, which is never dropped.
    assert (found.expected, found.success, found.missed, found.unaccounted) == (50, 9, 41, 0)
    assert writer.statistics().dropped_rows == 41
    [(_, batch), *_] = storage.committed
    assert SlotsMissed(fifty[0], fifty[40] + 1, GapReason.DROPPED, "") in batch.events


async def test_drops_between_batches_leave_each_check_exact(storage: FailingStorage, clock: Clock) -> None:
    shop, cart = slots("shop", 30), slots("cart", 30)
    storage.failures = [StorageError(FULL) for _ in range(3)]
    writer = writer_over(storage, clock, capacity=12, accounted_until=lambda: START + 300 * SECOND)
    writer.accept(registered("shop"))
    writer.accept(registered("cart"))
    async with running(writer):
        for one, other in zip(shop, cart, strict=True):
            writer.accept(success("shop", one))
            writer.accept(skipped("cart", other))
            await anyio.sleep(0.05)
        await anyio.sleep(30)
    found = {one.check_id: one for one in await storage.coverage(since=0, until=START + DAY)}
    assert writer.statistics().dropped_rows > 0
    assert found["shop"].missed + found["cart"].missed == writer.statistics().dropped_rows
    assert [(one.expected, one.unaccounted) for one in found.values()] == [(30, 0), (30, 0)]


async def test_what_is_declared_is_never_dropped(storage: FailingStorage, clock: Clock) -> None:
    writer = writer_over(storage, clock, capacity=3)
    declared: list[Event] = [registered(f"shop-{index}") for index in range(20)]
    declared += [missed(START, START + 1), deleted("shop-3", START + 5)]
    for event in declared:
        writer.accept(event)
    writer.accept(success("shop-1", START + 10 * SECOND))
    assert await writer.drain(5)
    [(_, batch), *_] = storage.committed
    assert [event for event in batch.events if not isinstance(event, SlotsMissed)] == [
        event for event in declared if not isinstance(event, SlotsMissed)
    ]
    assert missed(START, START + 1) in batch.events


async def test_a_dropped_probe_outside_the_slots_leaves_no_gap(storage: FailingStorage, clock: Clock) -> None:
    writer = writer_over(storage, clock, capacity=1)
    writer.accept(success("shop", START + 1, trigger=Trigger.MANUAL))
    writer.accept(success("shop", START + 2, trigger=Trigger.MANUAL))
    assert await writer.drain(5)
    assert writer.statistics().dropped_rows == 1
    assert not [
        event for _, batch in storage.committed for event in batch.events if isinstance(event, SlotsMissed)
    ]


async def test_only_the_last_heartbeat_of_each_job_waits(storage: FailingStorage, clock: Clock) -> None:
    writer = writer_over(storage, clock)
    for second in range(100):
        writer.accept(HeartbeatReceived("backup", START + second * SECOND))
    assert writer.statistics().pending == 1
    assert await writer.drain(5)
    [(_, batch), *_] = storage.committed
    assert batch.events == (HeartbeatReceived("backup", START + 99 * SECOND),)


async def test_a_backlog_is_cut_into_batches_and_accounting_waits_for_what_is_left(
    storage: FailingStorage, clock: Clock
) -> None:
    count = LARGEST_BATCH + 500
    many = slots("shop", count)
    writer = writer_over(storage, clock, accounted_until=lambda: many[-1] + 1)
    writer.accept(registered("shop"))
    for slot in many:
        writer.accept(success("shop", slot))
    async with running(writer):
        await anyio.sleep(0.5)
    [(_, first), (_, second)] = storage.committed
    assert len(first.events) == LARGEST_BATCH
    assert first.accounted_until == rows_of(second)[0]
    assert rows_of(first) + rows_of(second) == many
    assert second.accounted_until == many[-1] + 1


async def test_rows_that_no_store_takes_are_given_up_and_accounted_for(
    storage: FailingStorage, clock: Clock
) -> None:
    good, bad, later = slots("shop", 3)
    storage.refuse = lambda event: isinstance(event, CheckSucceeded) and event.result.slot == bad
    writer = writer_over(storage, clock, accounted_until=lambda: later + 1)
    async with running(writer):
        for event in (registered("shop"), success("shop", good), success("shop", bad)):
            writer.accept(event)
        await anyio.sleep(20)
        writer.accept(success("shop", later))
        await anyio.sleep(20)
    found = await covered(storage)
    assert (found.success, found.missed, found.unaccounted) == (1, 2, 0)
    assert writer.statistics().dropped_rows == 2


async def test_rows_are_given_up_once_though_the_disk_is_full_afterwards(
    storage: FailingStorage, clock: Clock
) -> None:
    refusals = [StorageError("a value that no column takes", retryable=False)] * GIVE_UP_ROWS_AFTER
    storage.failures = [*refusals, *[StorageError(FULL) for _ in range(5)]]
    writer = writer_over(storage, clock)
    with capture_logs() as logs:
        async with running(writer):
            writer.accept(registered("shop"))
            await anyio.sleep(100)
    assert storage.failures == []
    assert [line["event"] for line in logs].count("history.rows_refused") == 1


async def test_draining_commits_all_that_is_left_and_how_far_accounting_came(
    storage: FailingStorage, clock: Clock
) -> None:
    three = slots("shop", 3)
    writer = writer_over(storage, clock, accounted_until=lambda: three[2] + 1)
    async with running(writer):
        writer.accept(registered("shop"))
        writer.accept(success("shop", three[0]))
        await anyio.sleep(0.3)
    writer.accept(success("shop", three[1]))
    assert await writer.drain(5)
    assert [slot for _, batch in storage.committed for slot in rows_of(batch)] == three[:2]
    assert (await storage.opening("")).accounted_until == three[2] + 1
    assert writer.statistics().pending == 0


async def test_draining_writes_the_last_accounting_though_nothing_is_left(
    storage: FailingStorage, clock: Clock
) -> None:
    writer = writer_over(storage, clock)
    await anyio.sleep(7)
    assert await writer.drain(5)
    assert [batch.accounted_until for _, batch in storage.committed] == [START + 7 * SECOND]


async def test_draining_resumes_the_batch_that_was_under_way(storage: FailingStorage, clock: Clock) -> None:
    storage.seconds_a_commit = 3
    writer = writer_over(storage, clock)
    [slot] = slots("shop", 1)
    async with running(writer):
        writer.accept(success("shop", slot))
        await anyio.sleep(2)
    assert storage.committed == []
    assert await writer.drain(20)
    assert [rows_of(batch) for _, batch in storage.committed] == [[slot], []]
    assert storage.tried[0][1] is storage.tried[1][1]


async def test_draining_gives_up_at_its_deadline_and_says_what_is_lost(
    storage: FailingStorage, clock: Clock
) -> None:
    storage.failures = [StorageError(FULL) for _ in range(99)]
    writer = writer_over(storage, clock)
    writer.accept(registered("shop"))
    with capture_logs() as logs:
        assert not await writer.drain(3)
    assert seconds(clock.now()) == 3.0
    assert [line["pending"] for line in logs if line["event"] == "history.not_drained"] == [1]


async def test_draining_is_not_stopped_by_a_cancelled_caller(storage: FailingStorage, clock: Clock) -> None:
    storage.seconds_a_commit = 1
    writer = writer_over(storage, clock)
    writer.accept(registered("shop"))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await writer.drain(5)
    assert [type(event) for _, batch in storage.committed for event in batch.events] == [CheckRegistered]


async def test_history_is_pruned_every_hour_by_what_is_kept_then(
    storage: FailingStorage, clock: Clock
) -> None:
    keep = [timedelta(hours=1)]
    writer = writer_over(storage, clock, keep=lambda: keep[0])
    async with running(writer):
        await anyio.sleep(1_800)
        keep[0] = timedelta(minutes=10)
        await anyio.sleep(3_600)
    assert [(seconds(at), seconds(before)) for at, before in storage.pruned] == [
        (60, 60 - 3_600),
        (3_660, 3_660 - 600),
    ]


async def test_a_pruning_that_fails_is_tried_again_an_hour_later(
    storage: FailingStorage, clock: Clock
) -> None:
    storage.failures = [StorageError(FULL)]
    async with running(writer_over(storage, clock)):
        await anyio.sleep(4_000)
    assert len(storage.pruned) == 2


async def test_every_batch_is_acknowledged_once_it_is_durable(storage: FailingStorage, clock: Clock) -> None:
    storage.failures = [StorageError(FULL)]
    acknowledged: list[tuple[float, int]] = []
    writer = writer_over(
        storage,
        clock,
        on_committed=lambda batch: acknowledged.append((seconds(clock.now()), len(batch.events))),
    )
    async with running(writer):
        writer.accept(registered("shop"))
        await anyio.sleep(30)
    assert acknowledged == [(1.1, 1)]


async def test_commits_are_measured(storage: FailingStorage, clock: Clock) -> None:
    storage.seconds_a_commit = 0.02
    writer = writer_over(storage, clock)
    async with running(writer):
        for index in range(3):
            writer.accept(registered(f"shop-{index}"))
            await anyio.sleep(2)
    histogram = writer.statistics().commit_seconds
    assert dict(zip((*histogram.bounds, None), histogram.counts, strict=True))[0.025] == 3
    assert histogram.total == pytest.approx(0.06)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_dropped_every_slot_of_every_check_stays_exact(
    seed: int, storage: FailingStorage, clock: Clock
) -> None:
    """The store fails at random for longer than the buffer holds, and refuses some rows for good."""
    chance = random.Random(seed)
    ids = [f"check-{number}" for number in range(5)]
    waiting = deque(sorted((slot, one) for one in ids for slot in slots(one, 60)))
    refused = set(chance.sample([slot for slot, _ in waiting], 3))
    storage.refuse = lambda event: isinstance(event, CheckSucceeded) and event.result.slot in refused
    ends: list[Callable[[str, Instant], Event]] = [success, failure, skipped]
    writer = writer_over(
        storage, clock, capacity=40, accounted_until=lambda: waiting[0][0] if waiting else START + DAY
    )
    async with running(writer):
        for one in ids:
            writer.accept(registered(one))
        while waiting:
            # A slot ends before or after its neighbours; until it has, it is the earliest that is open.
            for _ in range(chance.randint(1, 20)):
                if waiting:
                    slot, one = waiting.popleft()
                    writer.accept(chance.choice(ends)(one, slot))
            if chance.random() < 0.2:
                storage.failures = [StorageError(FULL) for _ in range(chance.randint(1, 8))]
            await anyio.sleep(chance.uniform(0, 2))
        storage.failures = []
        await anyio.sleep(60)
    assert await writer.drain(5)
    found = await storage.coverage(since=0, until=START + 600 * SECOND + 1)
    assert writer.statistics().dropped_rows > 0
    assert sum(one.missed for one in found) == writer.statistics().dropped_rows
    assert [(one.expected, one.unaccounted) for one in found] == [(60, 0)] * len(ids)
    assert sum(one.success + one.failure + one.skipped for one in found) == writer.statistics().rows


def test_nothing_is_accounted_for_past_a_configuration_that_waits_to_close_what_it_does_not_declare() -> None:
    buffer = Buffer(100)
    buffer.put(registered(check("shop")))
    buffer.put(ConfigReloaded(config_of(check("shop")), Plan(), START, "start"))
    assert buffer.take(1, START + DAY).accounted_until == START
    assert buffer.take(1, START + DAY).accounted_until == START + DAY


def test_flips_give_way_with_the_rows_but_are_not_counted_as_such() -> None:
    buffer = Buffer(2)
    buffer.put(flipped("shop", START, Status.UP, Status.DOWN))
    buffer.put(failure("shop", START + 1))
    buffer.put(failure("shop", START + 2))
    assert (len(buffer), buffer.dropped_rows) == (2, 0)
    buffer.put(registered(check("shop")))
    assert (len(buffer), buffer.dropped_rows) == (2, 1)
