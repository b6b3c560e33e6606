"""Bodies are judged by a few workers, which are ended where they take too long and gone when nobody needs them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import psutil
import pytest

from tests.workers.tasks import crash, die, gorge, keep, sleep, stay, who
from watchbill.domain.expectations import HttpExpect
from watchbill.judgement import judge_body
from watchbill.ports import Judge, UnjudgedError
from watchbill.workers import process
from watchbill.workers.judging import LARGE_BYTES, MOST_WORKERS, open_judges

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def _workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))


def workers() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "watchbill.workers" in child.cmdline()]


def expecting(**declared: object) -> HttpExpect:
    return HttpExpect.model_validate(declared)


BODIES: list[tuple[bytes, HttpExpect, str]] = [
    (b"Welcome", expecting(body={"contains": "Welcome"}), ""),
    (b"x" * 100_000, expecting(body={"matches": "y"}), ""),
    ("Größe".encode("latin-1"), expecting(body={"equals": "Größe"}), "iso-8859-1"),
    (b'{"a": 1}', expecting(json={"$.a": 2}, json_schema={"type": "array"}), ""),
    (b"[" * 500_000, expecting(json={"$.a": 2}), ""),
]


async def test_a_worker_finds_what_judging_here_finds() -> None:
    async with open_judges() as judge:
        for content, expect, charset in BODIES:
            here = judge_body(content, expect, charset)
            halves = [content[: len(content) // 2], content[len(content) // 2 :]]
            assert await judge(judge_body, halves, expect, charset) == here


async def test_a_worker_is_started_for_the_first_body_kept_for_the_next_and_ended_last() -> None:
    async with open_judges() as judge:
        assert workers() == []
        first = await judge(who, [b""])
        assert await judge(who, [b""]) == first
        assert workers() == [first]
    assert workers() == []


async def test_several_are_judged_at_once_by_a_bounded_number_of_workers() -> None:
    found: set[int] = set()

    async def one(judge: Judge) -> None:
        found.add(await judge(sleep, [b""], 0.05))

    async with open_judges() as judge, anyio.create_task_group() as group:
        for _ in range(4 * MOST_WORKERS):
            group.start_soon(one, judge)
    assert len(found) == MOST_WORKERS


async def test_large_bodies_never_keep_all_workers_from_the_others() -> None:
    large = [b"x" * LARGE_BYTES, b"x"]
    async with open_judges() as judge, anyio.create_task_group() as group:
        for _ in range(2 * MOST_WORKERS):
            group.start_soon(judge, stay, large)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(30):
            assert await judge(who, [b""]) > 0
        group.cancel_scope.cancel()


async def test_cancelling_ends_what_nothing_else_ends_and_the_next_body_is_judged() -> None:
    async with open_judges() as judge:
        stopped = await judge(who, [b""])
        with anyio.move_on_after(0.2) as scope:
            await judge(stay, [b""])
        assert scope.cancelled_caught
        assert workers() == []
        assert await judge(who, [b""]) != stopped


@pytest.mark.parametrize(
    ("function", "arguments", "problem"),
    [
        (die, (), "the process for it ended before it answered"),
        (crash, (), "judging failed with ZeroDivisionError"),
        (gorge, (3 << 10,), "it takes too much memory"),
    ],
)
async def test_what_cannot_be_judged_says_why_and_the_next_body_is_judged(
    function: Callable[..., object], arguments: tuple[object, ...], problem: str
) -> None:
    async with open_judges() as judge:
        with pytest.raises(UnjudgedError) as raised:
            await judge(function, [b""], *arguments)
        assert str(raised.value) == problem
        assert await judge(who, [b""]) in workers()


async def test_a_worker_that_has_grown_large_is_replaced() -> None:
    async with open_judges() as judge:
        assert await judge(gorge, [b""], 1) == 1 << 20
        [small] = workers()
        await judge(keep, [b""], 200)
        assert workers() == []
        assert await judge(who, [b""]) != small


async def test_a_worker_that_was_killed_while_it_was_idle_is_replaced() -> None:
    async with open_judges() as judge:
        first = psutil.Process(await judge(who, [b""]))
        first.kill()
        with anyio.fail_after(10):
            while first.status() != psutil.STATUS_ZOMBIE:
                await anyio.sleep(0.01)
        second = await judge(who, [b""])
        assert workers() == [second]


async def test_where_no_process_can_be_started_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(process, "_spawn", refuse)
    async with open_judges() as judge:
        with pytest.raises(UnjudgedError, match="could not be started: Resource temporarily unavailable"):
            await judge(who, [b""])
