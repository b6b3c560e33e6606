"""What holds for every prober: the deadline, the duration, the reasons, and what is shown of it all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.probes.support import told
from watchbill.domain.checks import Check, parse_check
from watchbill.domain.results import OWN_SIDE, PHASES, Outcome, Reason, Trigger
from watchbill.ports import NetworkError
from watchbill.probes import make_execute
from watchbill.probes.attempt import Attempt, PhaseClock, Prober
from watchbill.probes.execute import Executor
from watchbill.testing import START, ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Seconds:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def a_check(check_type: str = "tcp", **declared: Any) -> Check:
    where = {
        "http": {"url": "http://shop.test/"},
        "heartbeat": {"every": "1h"},
        "icmp": {"host": "shop.test"},
    }
    return parse_check(
        {
            "id": "probed",
            "type": check_type,
            **where.get(check_type, {"host": "shop.test", "port": 80}),
            **declared,
        }
    )


def executor(prober: Prober, *, monotonic: Callable[[], float] | None = None, **options: Any) -> Executor:
    table: Mapping[str, Prober] = dict.fromkeys(("http", "tcp", "tls", "dns", "icmp", "heartbeat"), prober)
    return Executor(table, clock=ManualClock(), monotonic=monotonic or Seconds(), **options)


def failing(reason: Reason, message: str) -> Prober:
    async def prober(check: Any, attempt: Attempt) -> None:
        attempt.fail(reason, message)

    return prober


async def nothing(check: Any, attempt: Attempt) -> None:
    pass


# --- time ---------------------------------------------------------------------------------------------


async def test_duration_and_phases_are_taken_on_the_monotonic_clock() -> None:
    seconds = Seconds()

    async def prober(check: Any, attempt: Attempt) -> None:
        seconds.pass_by(5)  # preparing is not measured
        for phase, took in (("resolve", 0.25), ("connect", 0.5), ("resolve", 1.0), ("transfer", 2.0)):
            attempt.phases.start(phase)
            seconds.pass_by(took)
        attempt.phases.stop()
        seconds.pass_by(7)  # nor is judging

    result = await executor(prober, monotonic=seconds).execute(a_check(expect={"latency": "3.75s"}))
    assert result.outcome is Outcome.SUCCESS
    assert result.phases == {"resolve": 1.25, "connect": 0.5, "transfer": 2.0}
    assert result.duration_seconds == 3.75


async def test_latency_is_judged_on_the_whole_duration_of_what_came_to_its_end() -> None:
    seconds = Seconds()

    async def slow(check: Any, attempt: Attempt) -> None:
        attempt.phases.start("connect")
        seconds.pass_by(0.9)
        attempt.fail(Reason.STATUS, "status must be 2xx, got 500")

    async def broken(check: Any, attempt: Attempt) -> None:
        await slow(check, attempt)
        raise NetworkError(Reason.RESET, "gone")

    check = a_check(expect={"latency": "800ms"})
    assert told(await executor(slow, monotonic=seconds).execute(check)) == [
        (Reason.STATUS, "status must be 2xx, got 500"),
        (Reason.LATENCY, "latency must be at most 800ms, took 900.0ms"),
    ]
    assert told(await executor(broken, monotonic=seconds).execute(check)) == [
        (Reason.RESET, "gone"),
        (Reason.STATUS, "status must be 2xx, got 500"),
    ]


async def test_icmp_judges_its_own_latency() -> None:
    seconds = Seconds()

    async def slow(check: Any, attempt: Attempt) -> None:
        seconds.pass_by(9)

    check = a_check("icmp", expect={"latency": "1ms"})
    assert told(await executor(slow, monotonic=seconds).execute(check)) == []


@pytest.mark.parametrize(
    ("phase", "reason", "message"),
    [
        (None, Reason.TIMEOUT, "timed out after 50ms"),
        ("resolve", Reason.TIMEOUT, "timed out after 50ms while resolving the name"),
        ("connect", Reason.CONNECT_TIMEOUT, "timed out after 50ms while connecting"),
        ("tls", Reason.TIMEOUT, "timed out after 50ms during the TLS handshake"),
        ("processing", Reason.TIMEOUT, "timed out after 50ms while waiting for the response"),
        ("transfer", Reason.TIMEOUT, "timed out after 50ms while receiving the response"),
    ],
)
async def test_the_deadline_names_the_phase_and_keeps_what_was_seen(
    phase: str | None, reason: Reason, message: str
) -> None:
    async def hung(check: Any, attempt: Attempt) -> None:
        attempt.facts["address"] = "192.0.2.1"
        attempt.status_code = 503
        if phase is not None:
            attempt.phases.start(phase)
        await anyio.sleep_forever()

    with anyio.fail_after(10):
        result = await executor(hung).execute(a_check(timeout="50ms"))
    assert told(result) == [(reason, message)]
    assert result.outcome is (Outcome.ERROR if reason in OWN_SIDE else Outcome.FAILURE)
    assert result.facts == {"address": "192.0.2.1"}
    assert result.status_code == 503


@pytest.mark.parametrize(
    ("answering_seconds", "looking_up_seconds", "reason"),
    [(0.048, 0.002, Reason.TIMEOUT), (0.026, 0.024, Reason.TIMEOUT), (0.02, 0.03, Reason.RESOLVER), (0, 0.05, Reason.RESOLVER)],
)  # fmt: skip
async def test_a_deadline_within_a_lookup_is_the_name_servers_fault_only_where_they_took_the_time(
    answering_seconds: float, looking_up_seconds: float, reason: Reason
) -> None:
    """A target that was slow to redirect leaves too little for the next name."""
    seconds = Seconds()

    async def redirected(check: Any, attempt: Attempt) -> None:
        attempt.phases.start("processing")
        seconds.pass_by(answering_seconds)
        attempt.phases.start("resolve")
        seconds.pass_by(looking_up_seconds)
        await anyio.sleep_forever()

    with anyio.fail_after(10):
        result = await executor(redirected, monotonic=seconds).execute(a_check(timeout="50ms"))
    assert (result.reason, len(result.failures)) == (reason, 1)
    assert "timed out after 50ms while resolving the name" in result.failures[0].message


async def test_a_deadline_begins_with_the_probe_and_not_with_waiting_for_its_turn() -> None:
    release = anyio.Event()
    begun: list[str] = []

    async def prober(check: Any, attempt: Attempt) -> None:
        begun.append(check.host)
        if check.host == "first":
            await release.wait()

    running = executor(prober, limit=1)
    results = []

    async def second() -> None:
        results.append(await running.execute(a_check(host="second", timeout="1ms")))

    async with anyio.create_task_group() as group:
        group.start_soon(running.execute, a_check(host="first"))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        await anyio.sleep(0.05)
        assert begun == ["first"]
        release.set()
    assert begun == ["first", "second"]
    assert told(results[0]) == []


# --- verdicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(Reason))
async def test_the_network_s_reason_decides_between_failure_and_error(reason: Reason) -> None:
    async def prober(check: Any, attempt: Attempt) -> None:
        raise NetworkError(reason, "so it is")

    result = await executor(prober).execute(a_check())
    own_side = {"descriptors", "network", "resolver", "permission", "stall", "internal"}
    assert result.outcome is (Outcome.ERROR if reason in own_side else Outcome.FAILURE)
    assert told(result) == [(reason, "so it is")]


async def test_a_prober_that_crashes_is_an_error_and_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    async def crash(check: Any, attempt: Attempt) -> None:
        raise ZeroDivisionError

    running = executor(crash)
    results = [await running.execute(a_check(kind)) for kind in ("tcp", "tcp", "http")]
    assert [told(result) for result in results] == [
        [(Reason.INTERNAL, f"the {kind} prober crashed with ZeroDivisionError; see the log")]
        for kind in ("tcp", "tcp", "http")
    ]
    assert {result.outcome for result in results} == {Outcome.ERROR}
    assert running.statistics().crashes == {"tcp": 2, "http": 1}
    written = capsys.readouterr().out
    assert written.count("probe.crashed") == 3
    assert "ZeroDivisionError" in written


async def test_cancellation_passes_through() -> None:
    async def hung(check: Any, attempt: Attempt) -> None:
        await anyio.sleep_forever()

    results = []
    async with anyio.create_task_group() as group:

        async def one() -> None:
            results.append(await executor(hung).execute(a_check()))

        group.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert results == []


async def test_failures_come_the_most_telling_first_and_not_by_the_hundred() -> None:
    async def prober(check: Any, attempt: Attempt) -> None:
        for number in range(100):
            attempt.fail(Reason.HEADER, f"header {number}")
        attempt.fail(Reason.STATUS, "status")

    result = await executor(prober).execute(a_check())
    assert told(result) == [(Reason.STATUS, "status"), *((Reason.HEADER, f"header {n}") for n in range(19))]


async def test_a_result_says_which_slot_and_why_it_ran() -> None:
    execute = make_execute({"tcp": nothing}, clock=ManualClock(), monotonic=Seconds(), location="fra")
    scheduled = await execute(a_check(), slot=START - 3, trigger=Trigger.SCHEDULE)
    manual = await execute(a_check(), trigger=Trigger.MANUAL)
    assert (scheduled.slot, scheduled.started_at, scheduled.trigger) == (START - 3, START, Trigger.SCHEDULE)
    assert (manual.slot, manual.started_at, manual.trigger) == (START, START, Trigger.MANUAL)
    assert (manual.check_id, manual.location, manual.outcome) == ("probed", "fra", Outcome.SUCCESS)


# --- what is shown ------------------------------------------------------------------------------------

SECRET = 's3cret/"tok€n"'


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"got {SECRET}", "got ***"),
        ('got "s3cret/\\"tok\\u20acn\\""', 'got "***"'),
        ('got "s3cret/\\"tok€n\\""', 'got "***"'),
        ("redirect to http://x.test/s3cret/%22tok%E2%82%ACn%22", "redirect to http://x.test/***"),
        ("redirect to http://x.test/?a=s3cret%2F%22tok%E2%82%ACn%22", "redirect to http://x.test/?a=***"),
        (f"got {SECRET[:-3]}…", "got ***…"),
        ("got s3…", "got s3…"),
    ],
)
async def test_a_secret_that_comes_back_is_hidden_in_every_spelling(said: str, shown: str) -> None:
    result = await executor(failing(Reason.BODY, said)).execute(a_check(send=SECRET))
    assert told(result) == [(Reason.BODY, shown)]


async def test_a_secret_is_hidden_in_facts_as_well() -> None:
    async def prober(check: Any, attempt: Attempt) -> None:
        attempt.facts |= {
            "certificate_names": [f"{SECRET}.test"],
            "certificate_subject": SECRET,
            "redirects": 1,
        }

    result = await executor(prober).execute(a_check(send=SECRET))
    assert result.facts == {"certificate_names": ["***.test"], "certificate_subject": "***", "redirects": 1}


async def test_messages_are_one_printable_line_of_bounded_length() -> None:
    broken = await executor(failing(Reason.BODY, "a\r\n\x1b[31m\u202e\ud800b")).execute(a_check())
    long = await executor(failing(Reason.BODY, "x" * 1000)).execute(a_check())
    assert told(broken) == [(Reason.BODY, "a\ufffd\ufffd\ufffd[31m\ufffd\ufffdb")]
    assert told(long) == [(Reason.BODY, "x" * 499 + "…")]


# --- the phase clock ----------------------------------------------------------------------------------


def test_a_stopped_clock_stands() -> None:
    seconds = Seconds()
    clock = PhaseClock(seconds)
    clock.start("connect")
    seconds.pass_by(1)
    assert clock.stop() == 1
    seconds.pass_by(1)
    assert (clock.stop(), clock.phase, clock.seconds) == (1, None, {"connect": 1.0})


def test_a_clock_without_phases_counts_from_its_making() -> None:
    seconds = Seconds()
    clock = PhaseClock(seconds)
    seconds.pass_by(2)
    assert clock.stop() == 2


@given(
    steps=st.lists(st.tuples(st.sampled_from(["stop", *PHASES]), st.floats(0, 10)), min_size=1, max_size=30),
    settled=st.none() | st.floats(0, 10),
)
def test_phases_add_up_however_a_prober_drives_its_clock(
    steps: list[tuple[str, float]], settled: float | None
) -> None:
    seconds = Seconds()
    seconds.pass_by(1_000_000)  # a machine that has been up for days, whose floats are coarser
    clock = PhaseClock(seconds)
    clock.start("resolve")
    for step, passing in steps:
        if step == "stop":
            clock.stop()
        else:
            clock.start(step)
        seconds.pass_by(passing)
    clock.stop()
    if settled is not None:
        clock.settle("resolve", settled)
    assert sum(clock.seconds.values()) == pytest.approx(clock.stop(), abs=1e-6)
