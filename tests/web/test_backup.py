"""``POST /api/v1/backup``: who may ask, what is sent, and that only one is made at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from tests.web.running import site_with

from watchbill.domain.errors import StorageError
from watchbill.ports import HistoryCopy

pytestmark = pytest.mark.anyio
PATH = "/api/v1/backup"


@dataclass
class FakeCopies:
    """Copies that hold ``pieces``; with ``wait`` set, only once told to."""

    pieces: tuple[bytes, ...] = (b"one", b"two")
    error: StorageError | None = None
    begun: anyio.Event = field(default_factory=anyio.Event)
    go_on: anyio.Event | None = None
    open: int = 0

    @asynccontextmanager
    async def copied(self) -> AsyncIterator[HistoryCopy]:
        self.begun.set()
        if self.go_on is not None:
            await self.go_on.wait()
        if self.error is not None:
            raise self.error
        self.open += 1
        try:
            yield HistoryCopy(sum(map(len, self.pieces)), 42, self._chunks())
        finally:
            self.open -= 1

    async def _chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


async def test_a_backup_is_sent_whole_and_says_what_it_holds() -> None:
    copies = FakeCopies()
    async with site_with(copies=copies).client() as client:
        for _ in range(2):
            answer = await client.post(PATH)
            assert (answer.status_code, answer.content) == (200, b"onetwo")
            assert answer.headers["x-watchbill-rows"] == "42"
            assert answer.headers["content-length"] == "6"
            assert answer.headers["cache-control"] == "no-store"
    assert copies.open == 0


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
async def test_a_page_of_another_site_gets_none(headers: dict[str, str]) -> None:
    copies = FakeCopies()
    async with site_with(copies=copies).client() as client:
        assert (await client.post(PATH, headers=headers)).status_code == 403
    assert not copies.begun.is_set()


async def test_it_is_off_unless_the_lifecycle_is_enabled() -> None:
    copies = FakeCopies()
    async with site_with(copies=copies, lifecycle=False).client() as client:
        answer = await client.post(PATH)
    assert (answer.status_code, answer.json()) == (
        403,
        {"error": "backups over HTTP are off; start the exporter with --web.enable-lifecycle"},
    )
    assert not copies.begun.is_set()


async def test_it_is_a_post() -> None:
    async with site_with(copies=FakeCopies()).client() as client:
        assert (await client.get(PATH)).status_code == 405


async def test_history_in_memory_has_none() -> None:
    async with site_with().client() as client:
        assert (await client.post(PATH)).status_code == 409


async def test_a_second_one_at_the_same_time_is_told_to_come_later() -> None:
    copies = FakeCopies(go_on=anyio.Event())
    async with site_with(copies=copies).client() as client, anyio.create_task_group() as tasks:
        first: list[int] = []

        async def ask() -> None:
            first.append((await client.post(PATH)).status_code)

        tasks.start_soon(ask)
        await copies.begun.wait()
        second = await client.post(PATH)
        assert (second.status_code, second.headers["retry-after"]) == (503, "30")
        assert copies.go_on is not None
        copies.go_on.set()
    assert first == [200]


async def test_a_copy_that_fails_is_said_and_the_next_one_is_tried() -> None:
    copies = FakeCopies(error=StorageError("h.duckdb: make room"))
    async with site_with(copies=copies).client() as client:
        answer = await client.post(PATH)
        assert (answer.status_code, answer.json()) == (
            503,
            {"error": "no backup could be taken: h.duckdb: make room"},
        )
        copies.error = None
        assert (await client.post(PATH)).status_code == 200
