"""Every slot ends once, on a virtual clock: no real time passes in here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from watchbill.bus import Bus
from watchbill.clock import Timeline
from watchbill.domain.checks import Check
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckSucceeded,
    ConfigReloaded,
    DeleteCheck,
    ExecuteChecks,
    RegisterCheck,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.plan import Plan
from watchbill.domain.results import GapReason, Reason, Result, SkipReason, Trigger
from watchbill.domain.schedule import first_slot_after, offset_of
from watchbill.domain.units import SECOND, Instant
from watchbill.handlers import delete_check, execute_checks, register_check
from watchbill.scheduler import Scheduler
from watchbill.testing import START, FakeExecute, Recorder, check, config_of

PROBED = (CheckSucceeded, CheckFailed, CheckErrored)


@dataclass
class Stand:
    """A scheduler over a bus with a fake prober, and everything that was said."""

    bus: Bus
    clock: Timeline
    scheduler: Scheduler
    execute: FakeExecute
    said: Recorder
    skew: list[int]
    registry: dict[str, Check] = field(default_factory=dict)

    async def register(self, *checks: Check) -> None:
        for one in checks:
            await self.bus.send(RegisterCheck(one))

    def slots(self, check_id: str) -> list[tuple[Instant, str]]:
        """How each slot of a check ended, in the order of the slots."""
        ended = [
            (event.result.slot, type(event).__name__)
            for event in self.said.events
            if isinstance(event, PROBED)
            and event.result.check_id == check_id
            and event.result.trigger is Trigger.SCHEDULE
        ]
        ended += [
            (event.slot, event.reason.value)
            for event in self.said.of(SlotSkipped)
            if event.check_id == check_id
        ]
        return sorted(ended)

    def grid(self, one: Check, *, after: Instant = START, until: Instant) -> list[Instant]:
        interval = one.interval_micros
        first = first_slot_after(after, interval=interval, offset=offset_of(one.id, interval))
        return list(range(first, until + 1, interval))


def subscriptions(scheduler: Scheduler, said: Recorder) -> dict[type, list[Any]]:
    return {
        CheckRegistered: [said, scheduler.registered],
        CheckDeleted: [said, scheduler.deleted],
        ConfigReloaded: [scheduler.configured],
        **{event: [said] for event in (*PROBED, SlotSkipped, SlotsMissed)},
    }


@asynccontextmanager
async def open_stand(**options: Any) -> AsyncIterator[Stand]:
    origin = anyio.current_time()
    skew = [0, 0]  # microseconds that the monotonic and the wall clock are ahead
    clock = Timeline(
        monotonic=lambda: anyio.current_time() - origin + skew[0] / SECOND,
        wall=lambda: START + round((anyio.current_time() - origin) * SECOND) + skew[1],
    )
    registry: dict[str, Check] = {}
    execute, said = FakeExecute(clock), Recorder()
    bus = Bus()
    scheduler = Scheduler(clock=clock, send=bus.send, publish=bus.publish, **options)
    bus.handle(RegisterCheck, partial(register_check, registry=registry, clock=clock, location=""))
    bus.handle(DeleteCheck, partial(delete_check, registry=registry, clock=clock, location=""))
    bus.handle(
        ExecuteChecks,
        partial(
            execute_checks,
            registry=registry,
            execute=execute,
            stalls_since=scheduler.stalls_since,
            claim=scheduler.claim,
        ),
    )
    for event, subscribers in subscriptions(scheduler, said).items():
        for subscriber in subscribers:
            bus.subscribe(event, subscriber)
    async with anyio.create_task_group() as group:
        await group.start(scheduler.run)
        yield Stand(bus, clock, scheduler, execute, said, skew, registry)
        await scheduler.drain(grace_seconds=0)


def on_virtual_time(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


def test_every_slot_runs_once_and_none_early() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            checks = [check(f"c{number}", interval=f"{1 + number % 7}s") for number in range(50)]
            await stand.register(*checks)
            await anyio.sleep(100.0005)
            until = stand.clock.now()
            for one in checks:
                expected = [(slot, "CheckSucceeded") for slot in stand.grid(one, until=until - 10_000)]
                assert stand.slots(one.id)[: len(expected)] == expected
            for event in stand.said.of(CheckSucceeded):
                assert event.result.started_at >= event.result.slot
            assert stand.scheduler.statistics().delay.total < 1.0 * len(stand.said.events)

    on_virtual_time(main)


def test_slots_that_are_late_are_started_several_a_turn() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            await stand.register(*(check(f"c{number}", interval="1s") for number in range(200)))
            await anyio.sleep(2)
            assert not stand.scheduler.is_late()
            begun = anyio.Event()
            stand.bus.subscribe(ExecuteChecks, lambda _: begun.set())
            stand.skew[0] += 900_000  # as if something else had had the loop for so long
            stand.skew[1] += 900_000
            await begun.wait()
            turns = 0
            while stand.scheduler.is_late():
                await anyio.lowlevel.checkpoint()
                turns += 1
            assert 0 < turns < 60  # for 180 slots

    on_virtual_time(main)


def test_a_slot_that_falls_due_while_the_one_before_runs_is_skipped_as_overlap() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            stand.execute.takes["slow"] = 2.5
            slow = check("slow", interval="1s")
            await stand.register(slow, check("quick", interval="1s"))
            await anyio.sleep(30)
            ends = Counter(end for _, end in stand.slots("slow"))
            assert ends["overlap"] == pytest.approx(20, abs=2)
            ran = [slot for slot, end in stand.slots("slow") if end == "CheckSucceeded"]
            ended = [slot for slot, _ in stand.slots("slow") if slot <= ran[-1]]
            assert ended == stand.grid(slow, until=ran[-1])
            assert {end for _, end in stand.slots("quick")} == {"CheckSucceeded"}
            assert stand.execute.overlaps == 0

    on_virtual_time(main)


def test_without_capacity_a_due_slot_waits_and_its_successor_replaces_it() -> None:
    async def main() -> None:
        async with open_stand(capacity=1) as stand:
            stand.execute.takes["hog"] = 9.5
            hog = check("hog", interval="10s", timeout="10s")
            meek = check("meek", interval="1s")
            await stand.register(hog)
            await anyio.sleep(10.5)
            await stand.register(meek)
            await anyio.sleep(60)
            ends = Counter(end for _, end in stand.slots("meek"))
            assert ends["overload"] > 30
            assert ends["CheckSucceeded"] >= 4
            assert {end for _, end in stand.slots("hog")} <= {"CheckSucceeded", "overload"}
            slots = [slot for slot, _ in stand.slots("meek")]
            assert len(slots) == len(set(slots))
            assert slots == list(range(slots[0], slots[-1] + 1, SECOND))

    on_virtual_time(main)


def test_a_changed_check_keeps_its_slots_and_a_new_interval_starts_a_new_grid() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            await stand.register(check("a", interval="10s"))
            await anyio.sleep(25)
            before = stand.scheduler.next_slot("a")
            await stand.register(check("a", interval="10s", timeout="1s"))
            assert stand.scheduler.next_slot("a") == before
            changed = check("a", interval="3s")
            at = stand.clock.now()
            await stand.register(changed)
            await anyio.sleep(20)
            later = [slot for slot, _ in stand.slots("a") if slot > at]
            assert later == stand.grid(changed, after=at, until=stand.clock.now())[: len(later)]
            assert len(later) >= 6

    on_virtual_time(main)


def test_deleting_a_running_check_cancels_its_probe_and_skips_its_slot() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            stand.execute.takes["slow"] = 5
            slow = check("slow", interval="10s")
            await stand.register(slow)
            slot = stand.grid(slow, until=START + 20 * SECOND)[0]
            await stand.clock.sleep_until(slot + SECOND)
            await stand.bus.send(DeleteCheck("slow"))
            await anyio.sleep(30)
            assert stand.slots("slow") == [(slot, "deleted")]
            assert stand.scheduler.statistics().checks == 0

    on_virtual_time(main)


def test_a_newcomer_is_probed_within_five_seconds_outside_its_slots() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            await stand.register(*[check(f"c{number}", interval="1h") for number in range(40)])
            await anyio.sleep(5.01)
            early = stand.said.of(CheckSucceeded)
            assert {event.result.check_id for event in early} == {f"c{number}" for number in range(40)}
            assert sum(event.result.trigger is Trigger.REGISTERED for event in early) > 35

    on_virtual_time(main)


def test_a_newcomer_is_probed_soon_though_its_interval_changes_before_that() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            await stand.register(*[check(f"c{number}", interval="10s") for number in range(10)])
            await stand.register(*[check(f"c{number}", interval="10h") for number in range(10)])
            await anyio.sleep(5.01)
            probed = [event.result.check_id for event in stand.said.of(CheckSucceeded)]
            assert sorted(probed) == [f"c{number}" for number in range(10)]

    on_virtual_time(main)


def test_a_check_that_history_knows_is_not_probed_before_its_slot() -> None:
    async def main() -> None:
        async with open_stand(latest_result=lambda _: START - SECOND) as stand:
            await stand.register(check("known", interval="1h"))
            await anyio.sleep(6)
            due = stand.grid(check("known", interval="1h"), until=stand.clock.now())
            assert len(stand.said.of(CheckSucceeded)) == len(due)

    on_virtual_time(main)


def test_an_out_of_slot_probe_gives_way_to_the_slot() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            stand.execute.takes["hangs"] = 9
            hangs = check("hangs", interval="10s", timeout="10s")
            await stand.register(hangs)
            await anyio.sleep(35)
            due = stand.grid(hangs, until=stand.clock.now() - 9 * SECOND - 10_000)
            assert [end for _, end in stand.slots("hangs")][: len(due)] == ["CheckSucceeded"] * len(due)
            assert stand.execute.overlaps == 0

    on_virtual_time(main)


def test_a_prober_that_raises_is_an_error_of_its_own_slot_alone() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            stand.execute.raises.add("broken")
            await stand.register(check("broken", interval="2s"), check("fine", interval="2s"))
            await anyio.sleep(20)
            assert {end for _, end in stand.slots("broken")} == {"CheckErrored"}
            assert {end for _, end in stand.slots("fine")} == {"CheckSucceeded"}
            assert {event.result.reason for event in stand.said.of(CheckErrored)} == {Reason.INTERNAL}
            assert stand.scheduler.statistics().crashes == len(stand.said.of(CheckErrored))

    on_virtual_time(main)


def test_after_a_stall_only_the_newest_slot_runs_and_the_rest_is_one_gap() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            stand.execute.takes["slow"] = 0.9
            checks = [check(f"c{number}", interval="1s") for number in range(5)] + [
                check("slow", interval="1s"),
                check("rare", interval="1h"),
            ]
            await stand.register(*checks)
            await anyio.sleep(10.5)
            stalled_at = stand.clock.now()
            stand.skew[0] += 30 * SECOND
            stand.skew[1] += 30 * SECOND
            await anyio.sleep(10)
            [gap] = stand.said.of(SlotsMissed)
            assert gap.reason is GapReason.STALL
            assert gap.start <= stalled_at + SECOND
            assert gap.end >= stalled_at + 30 * SECOND
            for one in checks[:5]:
                slots = [slot for slot, _ in stand.slots(one.id)]
                missing = set(stand.grid(one, until=slots[-1])) - set(slots)
                assert len(missing) == gap.counts[one.id] > 25
                assert all(gap.start <= slot < gap.end for slot in missing)
            errors = stand.said.of(CheckErrored)
            assert errors
            assert {event.result.reason for event in errors} == {Reason.STALL}

    on_virtual_time(main)


def test_a_wall_clock_set_forward_is_a_gap_and_one_set_back_demands_no_slot_twice() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            one = check("a", interval="5s")
            await stand.register(one)
            await anyio.sleep(20)
            stand.skew[1] += 3600 * SECOND
            await anyio.sleep(20)
            [gap] = stand.said.of(SlotsMissed)
            assert gap.reason is GapReason.CLOCK
            assert gap.end - gap.start == pytest.approx(3600 * SECOND, abs=2 * SECOND)
            assert abs(stand.clock.drift()) < SECOND
            stand.skew[1] -= 2 * 3600 * SECOND
            await anyio.sleep(20)
            slots = [slot for slot, _ in stand.slots("a")]
            assert len(slots) == len(set(slots))
            assert len(stand.said.of(SlotsMissed)) == 1
            assert stand.clock.drift() == pytest.approx(-2 * 3600 * SECOND, abs=SECOND)
            missing = set(stand.grid(one, until=slots[-1])) - set(slots)
            assert all(gap.start <= slot < gap.end for slot in missing)

    on_virtual_time(main)


def test_a_small_difference_to_the_wall_clock_is_slewed_without_losing_a_slot() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            one = check("a", interval="1s")
            await stand.register(one)
            stand.skew[1] -= SECOND
            await anyio.sleep(300)
            assert abs(stand.clock.drift()) < 20_000
            slots = [slot for slot, _ in stand.slots("a")]
            assert slots == stand.grid(one, until=slots[-1])
            assert not stand.said.of(SlotsMissed)

    on_virtual_time(main)


def test_accounting_never_passes_an_open_slot_and_reaches_the_present() -> None:
    async def main() -> None:
        async with open_stand(capacity=3) as stand:
            for number in range(20):
                stand.execute.takes[f"c{number}"] = number / 10
            checks = [check(f"c{number}", interval="1s") for number in range(20)]
            await stand.register(*checks)
            for _ in range(200):
                await anyio.sleep(0.0937)
                until = stand.scheduler.accounted_until()
                assert until <= stand.clock.now()
                for one in checks:
                    ended = {slot for slot, _ in stand.slots(one.id)}
                    assert set(stand.grid(one, until=until - 1)) <= ended
            assert stand.clock.now() - stand.scheduler.accounted_until() < 3 * SECOND

    on_virtual_time(main)


def test_draining_finishes_what_runs_and_skips_the_rest_as_shutdown() -> None:
    async def main() -> None:
        async with open_stand(capacity=2) as stand:
            stand.execute.takes |= {"quick": 0.5, "slow": 60}
            quick, slow = check("quick", interval="1m"), check("slow", interval="2m", timeout="2m")
            waits = check("waits", interval="1m")
            await stand.register(quick, slow, waits)
            for one in (quick, slow, waits):
                await stand.clock.sleep_until(stand.grid(one, until=START + 120 * SECOND)[0] + 6_000)
        ends = {one.id: stand.slots(one.id) for one in (quick, slow, waits)}
        assert SkipReason.SHUTDOWN in {reason for slots in ends.values() for _, reason in slots}
        for slots in ends.values():
            assert len({slot for slot, _ in slots}) == len(slots)

    on_virtual_time(main)


def test_a_lower_capacity_applies_after_a_reload() -> None:
    async def main() -> None:
        async with open_stand(capacity=100) as stand:
            loaded = config_of(limits={"concurrent_probes": 1})
            await stand.bus.publish(ConfigReloaded(loaded, Plan(), stand.clock.now(), "test"))
            for name in ("a", "b", "c"):
                stand.execute.takes[name] = 0.9
            await stand.register(*[check(name, interval="1s") for name in ("a", "b", "c")])
            most = 0
            for _ in range(500):
                await anyio.sleep(0.01)
                most = max(most, len(stand.execute.under_way))
            assert most == 1

    on_virtual_time(main)


def test_newcomers_share_the_capacity_with_slots() -> None:
    async def main() -> None:
        async with open_stand(capacity=2) as stand:
            names = [f"c{number}" for number in range(30)]
            stand.execute.takes |= dict.fromkeys(names, 0.5)
            await stand.register(*[check(name, interval="1h") for name in names])
            most = 0
            for _ in range(1500):
                await anyio.sleep(0.01)
                most = max(most, len(stand.execute.under_way))
            assert most == 2
            assert {event.result.check_id for event in stand.said.of(CheckSucceeded)} == set(names)

    on_virtual_time(main)


def test_a_stall_just_over_two_seconds_is_seen_and_a_shorter_one_is_not() -> None:
    async def main() -> None:
        cases: list[tuple[float, list[GapReason]]] = [(2.2, [GapReason.STALL]), (1.9, [])]
        for (seconds, reasons), phase in product(cases, (0.6, 0.8, 1.0, 1.2, 1.4)):
            async with open_stand() as stand:
                stand.execute.takes["long"] = 3
                one = check("long", interval="10s", timeout="10s")
                await stand.register(one)
                slot = stand.grid(one, until=START + 20 * SECOND)[0]
                await stand.clock.sleep_until(slot + round(phase * SECOND))
                stand.skew[0] += round(seconds * SECOND)
                stand.skew[1] += round(seconds * SECOND)
                await anyio.sleep(3)
                assert [gap.reason for gap in stand.said.of(SlotsMissed)] == reasons
                [(_, ended)] = stand.slots("long")
                assert ended == ("CheckErrored" if reasons else "CheckSucceeded")

    on_virtual_time(main)


def test_setting_the_wall_clock_is_no_lag_of_the_loop() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            await anyio.sleep(5)
            stand.skew[1] += 3600 * SECOND
            await anyio.sleep(5)
            assert len(stand.said.of(SlotsMissed)) == 1
            assert stand.scheduler.statistics().lag.total < 0.1

    on_virtual_time(main)


def test_a_check_deleted_before_its_probe_began_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_stand() as stand:
            one = check("a", interval="10s")

            dispatcher = stand.scheduler._dispatcher
            start = dispatcher._start

            def start_and_delete(*what: Any) -> None:
                start(*what)
                with pytest.raises(StopIteration):  # it does not suspend
                    stand.bus.send(DeleteCheck("a")).send(None)

            await stand.register(one)
            await stand.clock.sleep_until(stand.grid(one, until=START + 20 * SECOND)[0] - SECOND)
            monkeypatch.setattr(dispatcher, "_start", start_and_delete)
            await anyio.sleep(5)
            assert [ended for _, ended in stand.slots("a")] == ["deleted"]
            assert stand.scheduler.statistics().crashes == 0

    on_virtual_time(main)


def test_what_is_held_is_open() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            at = stand.clock.now()
            with stand.scheduler.hold(at):
                await anyio.sleep(10)
                assert stand.scheduler.accounted_until() == at
            assert stand.scheduler.accounted_until() == stand.clock.now()

    on_virtual_time(main)


def test_a_cancellation_that_escapes_a_library_ends_nobody_else() -> None:
    """Awaiting an asyncio future that somebody cancelled raises in a task that nobody cancelled."""

    async def main() -> None:
        async with open_stand() as stand:

            async def execute(one: Check, **options: Any) -> Result:
                if one.id == "stray":
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    future.cancel()
                    await future
                return await stand.execute(one, **options)

            claim = stand.scheduler.claim
            handler = partial(execute_checks, registry=stand.registry, execute=execute, claim=claim)
            stand.bus.handle(ExecuteChecks, handler)
            await stand.register(check("stray", interval="1s"), check("fine", interval="1s"))
            with anyio.fail_after(30):
                while len(stand.slots("stray")) < 2 or len(stand.slots("fine")) < 2:
                    await anyio.sleep(0.05)
            # Writing tracebacks may take a busy machine longer than an interval.
            assert {ended for _, ended in stand.slots("stray")} - {"overload"} == {"CheckErrored"}
            assert {ended for _, ended in stand.slots("fine")} - {"overload"} == {"CheckSucceeded"}

    anyio.run(main)


def test_a_scheduler_that_is_cancelled_leaves_no_slot_untold() -> None:
    async def main() -> None:
        async with open_stand() as stand:
            stand.execute.takes["slow"] = 60
            slow = check("slow", interval="2m", timeout="2m")
            alone = Scheduler(clock=stand.clock, send=stand.bus.send, publish=stand.bus.publish)
            stand.bus.subscribe(CheckRegistered, alone.registered)
            async with anyio.create_task_group() as group:
                await group.start(alone.run)
                await stand.register(slow)
                slot = stand.grid(slow, until=START + 240 * SECOND)[0]
                await stand.clock.sleep_until(slot + SECOND)
                group.cancel_scope.cancel()
            assert [event.reason for event in stand.said.of(SlotSkipped)] == [SkipReason.SHUTDOWN]

    on_virtual_time(main)
