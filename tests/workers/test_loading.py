"""A configuration is loaded by a worker, which hands over what has changed and is gone when it is done."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from tests.workers.test_judging import workers
from watchbill.config import load
from watchbill.domain.checks import Check, parse_check
from watchbill.domain.errors import ConfigError, WatchbillError
from watchbill.testing import check
from watchbill.workers import loading, parse
from watchbill.workers.frames import packed, read
from watchbill.workers.loading import Loader
from watchbill.workers.process import Worker, open_worker

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(autouse=True)
def frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many checks came over with each answer."""
    heard: list[int] = []
    receive = Worker.receive

    async def overheard(worker: Worker) -> Any:
        value = await receive(worker)
        if isinstance(value, list):
            heard.append(len(value))
        return value

    monkeypatch.setattr(Worker, "receive", overheard)
    return heard


def declare(path: Path, count: int, **intervals: str) -> Loader:
    lines = [
        f"  c{number}: {{type: http, url: 'http://c{number}.test/', interval: {intervals.get(f'c{number}', '30s')}}}\n"
        for number in range(count)
    ]
    path.write_text("version: 1\nservices: {shop: {owner: us}}\nchecks:\n" + "".join(lines))
    return Loader(str(path))


async def test_it_is_what_loading_here_gives(tmp_path: Path, frames: list[int]) -> None:
    path = tmp_path / "checks.yaml"
    loaded = await declare(path, 120).load({})
    assert loaded == load(str(path), environ={})
    assert list(loaded.config.checks) == [f"c{number}" for number in range(120)]
    assert sum(frames) == 120
    assert max(frames) <= parse.CHECKS_A_FRAME


async def test_what_is_declared_as_it_runs_is_the_object_that_runs_and_does_not_come_over(
    tmp_path: Path, frames: list[int]
) -> None:
    path = tmp_path / "checks.yaml"
    loader = declare(path, 120)
    running = (await loader.load({})).config.checks
    frames.clear()
    declare(path, 121, c7="1m")
    again = (await loader.load(running)).config.checks
    assert [name for name, one in again.items() if running.get(name) is not one] == ["c7", "c120"]
    assert frames == [2]


async def test_what_was_loaded_otherwise_is_recognized_once_and_known_from_then_on(
    tmp_path: Path, frames: list[int]
) -> None:
    path = tmp_path / "checks.yaml"
    loader = declare(path, 60)
    running = load(str(path), environ={}).config.checks
    for expected in ([50, 10], []):
        frames.clear()
        again = (await loader.load(running)).config.checks
        assert all(again[name] is one for name, one in running.items())
        assert frames == expected


async def test_what_was_offered_and_refused_does_not_count_as_running(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    loader = declare(path, 3)
    running = (await loader.load({})).config.checks
    declare(path, 3, c1="1m")
    await loader.load(running)
    offered = (await loader.load(running)).config.checks
    assert offered["c1"].interval.total_seconds() == 60
    assert [name for name, one in offered.items() if one is not running[name]] == ["c1"]


async def test_every_mistake_comes_over_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    path.write_text("version: 1\nchecks:\n  a: {type: tcp, host: h, port: 70000}\n  b: {type: htpp}\n")
    with pytest.raises(ConfigError) as raised:
        await Loader(str(path)).load({})
    assert [(problem.line, problem.column) for problem in raised.value.problems] == [(3, 33), (4, 13)]


def sent(number: signal.Signals) -> Callable[[str], AbstractAsyncContextManager[Worker]]:
    """Workers that get this signal as soon as they are there."""

    @asynccontextmanager
    async def open_signalled(name: str) -> AsyncIterator[Worker]:
        async with open_worker(name) as worker:
            os.kill(worker.pid, number)
            yield worker

    return open_signalled


async def test_a_worker_that_is_killed_is_an_error_and_the_next_load_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = declare(tmp_path / "checks.yaml", 3)
    with monkeypatch.context() as patched:
        patched.setattr(loading, "open_worker", sent(signal.SIGKILL))
        with pytest.raises(WatchbillError, match=r"ended early .* nothing was changed"):
            await loader.load({})
    assert len((await loader.load({})).config.checks) == 3


async def test_a_worker_that_stands_still_is_ended_and_the_next_load_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = declare(tmp_path / "checks.yaml", 3)
    with monkeypatch.context() as patched:
        patched.setattr(loading, "open_worker", sent(signal.SIGSTOP))
        patched.setattr(loading, "LONGEST_LOAD_SECONDS", 0.2)
        with pytest.raises(WatchbillError, match=r"took longer than .* nothing was changed"):
            await loader.load({})
    assert workers() == []
    assert len((await loader.load({})).config.checks) == 3


async def test_cancelling_leaves_no_process(tmp_path: Path) -> None:
    loader = declare(tmp_path / "checks.yaml", 3)
    with anyio.move_on_after(0):
        await loader.load({})
    assert workers() == []


async def test_a_worker_stands_back_and_outlives_signals_that_are_for_the_exporter(tmp_path: Path) -> None:
    path = tmp_path / "checks.yaml"
    declare(path, 3)
    async with open_worker("parse") as worker:
        process = psutil.Process(worker.pid)
        await worker.send((str(path), {"TOKEN": "hush"}))
        await worker.receive()
        assert process.nice() >= 10
        for received in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(worker.pid, received)
        assert list(await worker.receive()) == ["c0", "c1", "c2"]
        assert "hush" not in " ".join([*process.cmdline(), *process.environ()])
    assert not psutil.pid_exists(worker.pid)


async def test_a_worker_has_a_home_and_none_of_the_variables_that_only_begin_like_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/of-watchbill")
    others = {"LANGCHAIN_API_KEY", "PATH_TO_KEY", "HOMEBREW_GITHUB_API_TOKEN", "PYTHONANYWHERE_API_TOKEN"}
    for name in others:
        monkeypatch.setenv(name, "hush")
    async with open_worker("parse") as worker:
        environ = psutil.Process(worker.pid).environ()
    assert environ["HOME"] == "/home/of-watchbill"
    assert others & environ.keys() == set()


def test_a_large_configuration_is_loaded_by_a_worker_at_the_start_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: list[int]
) -> None:
    loader = declare(tmp_path / "checks.yaml", 3)
    loader.start()
    assert len(loader.first().config.checks) == 3
    assert frames == []
    monkeypatch.setattr(loading, "SMALL_BYTES", 100)
    loader.start()
    assert len(loader.first().config.checks) == 3
    assert frames == [3]
    with pytest.raises(LookupError):
        loader.first()


def test_what_crashes_in_the_worker_is_told_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret, perhaps")

    monkeypatch.setattr(parse, "load", crash)
    answers = io.BytesIO()
    with pytest.raises(EOFError):
        parse.serve(io.BytesIO(packed(("checks.yaml", {}))), answers)
    answers.seek(0)
    error = read(answers)
    assert isinstance(error, WatchbillError)
    assert str(error) == "loading the configuration failed with ZeroDivisionError"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"interval": "30s"}, {"interval": "31s"}),
        ({"headers": {"X-Key": "one"}}, {"headers": {"X-Key": "two"}}),
        ({"auth": {"bearer": "one"}}, {"auth": {"bearer": "two"}}),
        ({"references": {"url": "${A}"}}, {"references": {"url": "${B}"}}),
        ({"interpolated": ["one"]}, {"interpolated": ["two"]}),
        ({"expect": {"json": {"$.a": 1}}}, {"expect": {"json": {"$.a": True}}}),
        ({"enabled": True}, {"enabled": False}),
    ],
)
def test_whatever_differs_has_another_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    def declared(fields: dict[str, Any]) -> Check:
        return check("a", **fields)

    assert parse.digest(declared(one)) == parse.digest(declared(one))
    assert parse.digest(declared(one)) != parse.digest(declared(other))


def test_checks_of_two_types_that_look_alike_differ() -> None:
    fields = {"id": "a", "host": "a.test", "port": 443}
    assert parse.digest(parse_check({**fields, "type": "tcp"})) != parse.digest(
        parse_check({**fields, "type": "tls"})
    )
