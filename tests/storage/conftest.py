"""Every storage test that asks for ``store`` runs over each kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from watchbill.ports import Storage
from watchbill.storage import open_storage

Open = Callable[[], AbstractAsyncContextManager[Storage]]


@pytest.fixture(params=["memory", "duckdb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else str(tmp_path / "history.duckdb")


@pytest.fixture
async def store(url: str) -> AsyncIterator[Storage]:
    async with open_storage(url) as opened:
        yield opened


@pytest.fixture
def duckdb_path(tmp_path: Path) -> Path:
    return tmp_path / "history.duckdb"


@pytest.fixture
def open_duckdb(duckdb_path: Path) -> Open:
    return partial(open_storage, str(duckdb_path))
