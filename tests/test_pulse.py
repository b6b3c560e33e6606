"""Stalls of the loop, on virtual time and on loops that are really held up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from tests.probes.support import BOTH_LOOPS, LOOP_NAMES
from tests.servers import Caller, Server, hang, response, serving
from watchbill.clock import Timeline
from watchbill.domain.checks import Check, parse_check
from watchbill.domain.messages import ExecuteChecks, ProbeEvent, RegisterCheck
from watchbill.domain.results import Outcome, Reason, Result
from watchbill.domain.stalls import STALLED, Stall
from watchbill.domain.units import SECOND
from watchbill.library import open_core
from watchbill.pulse import PERIOD, PROBING_PERIOD, Pulse
from watchbill.testing import START


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- on virtual time ----------------------------------------------------------------------------------


class Machine:
    """Time that can be made to pass while nothing runs."""

    def __init__(self) -> None:
        self.origin = anyio.current_time()
        self.held = 0.0
        self.clock = Timeline(monotonic=self.monotonic, wall=lambda: START + round(self.monotonic() * SECOND))

    def monotonic(self) -> float:
        return anyio.current_time() - self.origin + self.held

    def stand_still(self, seconds: float) -> None:
        self.held += seconds


def on_virtual_time(test: Callable[[], Awaitable[None]]) -> None:
    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))


async def stalls_seen(seconds: float, *, after: float, probing: bool) -> list[Stall]:
    """What is seen of a stall that begins that long after a second."""
    machine = Machine()
    pulse = Pulse(machine.clock)
    async with anyio.create_task_group() as group:

        async def sleep() -> None:
            await pulse.sleep_until(START + 60 * SECOND, probing=[1] if probing else [])

        group.start_soon(sleep)
        await anyio.sleep(1 + after)
        machine.stand_still(seconds)
        await anyio.sleep(1)
        seen = list(pulse.stalls_since(START))
        group.cancel_scope.cancel()
    return seen


@pytest.mark.parametrize("after", [0.0, 0.003, 0.012, 0.03, 0.0499])
def test_while_probes_are_in_flight_no_stall_of_100_ms_goes_unseen(after: float) -> None:
    async def main() -> None:
        [seen] = await stalls_seen(0.101, after=after, probing=True)
        assert 0.05 * SECOND < seen.end - seen.begin <= 0.101 * SECOND
        assert seen.begin - (START + round((1 + after) * SECOND)) <= PROBING_PERIOD
        assert await stalls_seen(0.049, after=after, probing=True) == []

    on_virtual_time(main)


@pytest.mark.parametrize("after", [0.0, 0.03, 0.07, 0.0999])
def test_a_loop_at_rest_wakes_less_often_and_sees_what_is_longer(after: float) -> None:
    async def main() -> None:
        [seen] = await stalls_seen(0.151, after=after, probing=False)
        assert seen.begin - (START + round((1 + after) * SECOND)) <= PERIOD

    on_virtual_time(main)


def test_whoever_asks_first_in_the_turn_after_a_stall_is_told_of_it() -> None:
    async def main() -> None:
        machine = Machine()
        pulse = Pulse(machine.clock)
        async with anyio.create_task_group() as group:
            group.start_soon(pulse.run)
            await anyio.sleep(1)
            machine.stand_still(0.3)
            [seen] = pulse.stalls_since(START)
            assert seen.end == machine.clock.now()
            await anyio.sleep(1)
            assert list(pulse.stalls_since(START)) == [seen]
            assert list(pulse.stalls_since(seen.end)) == []
            assert pulse.stalled_at() == 0
            machine.stand_still(2.2)
            assert pulse.stalled_at() == machine.clock.now()
            group.cancel_scope.cancel()
        machine.stand_still(5)
        assert list(pulse.stalls_since(machine.clock.now() - 4 * SECOND)) == []

    on_virtual_time(main)


def test_turns_that_are_long_are_seen_without_any_timer() -> None:
    async def main() -> None:
        machine = Machine()
        pulse = Pulse(machine.clock)
        await pulse.turn()
        machine.stand_still(0.06)
        await pulse.turn()
        [seen] = pulse.stalls_since(START)
        assert seen.end - seen.begin == 0.06 * SECOND

    on_virtual_time(main)


# --- on loops that are really held up -----------------------------------------------------------------


async def answer(caller: Caller) -> None:
    await caller.say(response())


@asynccontextmanager
async def target(
    then: Callable[[Caller], Awaitable[None]] = answer,
) -> AsyncIterator[tuple[Server, anyio.Event]]:
    """A server, and when it has been asked."""
    asked = anyio.Event()

    async def converse(caller: Caller) -> None:
        await caller.request()
        asked.set()
        await then(caller)

    async with serving(converse) as server:
        yield server, asked


async def probed_over_a_stall(check: Check, asked: anyio.Event, *, holds_seconds: float) -> Result:
    """Hold the loop up once the target has been asked."""
    results: list[Result] = []
    async with open_core() as bus, anyio.create_task_group() as group:
        await bus.send(RegisterCheck(check))
        await anyio.sleep(0)

        async def probe() -> None:
            [event] = await bus.send(ExecuteChecks((check.id,)))
            assert isinstance(event, ProbeEvent)
            results.append(event.result)

        group.start_soon(probe)
        await asked.wait()
        time.sleep(holds_seconds)
    return results[0]


def http_check(url: str, **declared: Any) -> Check:
    return parse_check({"id": "held", "type": "http", "url": url, **declared})


@pytest.mark.anyio
async def test_a_success_over_a_held_loop_is_marked() -> None:
    async with target() as (server, asked):
        result = await probed_over_a_stall(http_check(server.url()), asked, holds_seconds=0.3)
    assert result.outcome is Outcome.SUCCESS
    assert 0.05 <= result.facts[STALLED] <= result.duration_seconds


@pytest.mark.anyio
async def test_slowness_over_a_held_loop_is_not_the_target_s() -> None:
    async with target() as (server, asked):
        check = http_check(server.url(), expect={"latency": "250ms"})
        result = await probed_over_a_stall(check, asked, holds_seconds=0.3)
    assert (result.outcome, result.reason) == (Outcome.ERROR, Reason.STALL)
    assert "latency must be at most 250ms" in result.message


@pytest.mark.anyio
async def test_a_deadline_that_passes_while_the_loop_is_held_is_no_timeout() -> None:
    async with target(then=hang) as (server, asked):
        check = http_check(server.url(), timeout="200ms", interval="1s")
        result = await probed_over_a_stall(check, asked, holds_seconds=0.5)
    assert (result.outcome, result.reason) == (Outcome.ERROR, Reason.STALL)
    assert "timed out after 200ms" in result.message
