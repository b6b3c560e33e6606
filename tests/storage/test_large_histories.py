"""A history that is larger than the memory is examined in parts, and what cannot be looked at is not said to be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.storage.events import batch, registered, slots, success
from watchbill.domain.units import Instant
from watchbill.storage import duckdb_connection, duckdb_examination, duckdb_rules, open_storage
from watchbill.storage.duckdb_damage import unreadable
from watchbill.storage.duckdb_examination import Examination, examine

pytestmark = pytest.mark.anyio

CHECKS = [f"c{number}" for number in range(20)]
MANY = 1_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("large") / "history.duckdb"


@pytest.fixture
async def history(large: Path) -> Path:
    """A million rows that memory does not suffice to group; made once."""
    if large.exists():
        return large
    first: dict[str, Instant] = {name: slots(name, 1)[0] for name in CHECKS}
    async with open_storage(str(large)) as store:
        rows = [success(name, slot) for name, slot in first.items()]
        await store.commit(batch(*map(registered, CHECKS), *rows, until=max(first.values()) + 1))
    with duckdb.connect(str(large)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"""INSERT INTO result
            SELECT r.* REPLACE (r.slot + to_microseconds(k * s.interval_micros) AS slot)
            FROM result r JOIN span s USING (check_key), range(1, {MANY // len(CHECKS)}) later(k) ORDER BY k"""
        )
        connection.execute(
            "UPDATE writer_state SET accounted_until = (SELECT max(slot) FROM result) + INTERVAL 1 MICROSECOND"
        )
    return large


@pytest.fixture
def starving(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setitem(duckdb_connection.CONFIG, "memory_limit", "20MB")
    monkeypatch.setitem(duckdb_connection.CONFIG, "max_temp_directory_size", "0KB")
    return monkeypatch


def told(found: Examination) -> list[str]:
    return [finding.kind for finding in (*found.findings, *found.unexamined)]


async def test_a_history_larger_than_the_memory_is_examined_in_parts(
    history: Path, starving: pytest.MonkeyPatch
) -> None:
    starving.setattr(duckdb_rules, "ROWS_AT_ONCE", 100_000)
    found = examine(str(history))
    assert told(found) == []
    assert found.rows == MANY


async def test_parts_are_halved_where_memory_does_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    def narrow(_: object, query: str, *values: int) -> int:
        if "make_timestamptz($1" in query and values[1] - values[0] > 4:
            raise duckdb.OutOfMemoryException("failed to pin block of size 256.0 KiB")
        asked.append(values)
        return values[1] - values[0]

    monkeypatch.setattr(duckdb_rules, "_number", narrow)
    with duckdb.connect() as connection:
        assert duckdb_rules._counted(connection, duckdb_rules.RULES[0], 0, 16) == 16
    assert asked == [(0, 4), (4, 8), (8, 12), (12, 16)]


async def test_what_memory_does_not_suffice_for_is_not_examined_and_not_lost(
    history: Path, starving: pytest.MonkeyPatch
) -> None:
    def whole(connection: duckdb.DuckDBPyConnection) -> list[tuple[duckdb_rules.Rule, int]]:
        connection.execute("SELECT list(slot ORDER BY slot) FROM result").fetchall()
        return []

    starving.setattr(duckdb_examination, "broken", whole)
    found = examine(str(history))
    assert told(found) == ["not_examined"]
    assert found.healthy
    assert not any(finding.lost for finding in found.unexamined)


class Starving:
    """A connection that has no memory to read whole columns."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, query: str, *values: Any) -> duckdb.DuckDBPyConnection:
        if "sum(hash(" in query:
            raise duckdb.OutOfMemoryException("failed to pin block of size 256.0 KiB")
        return self._connection.execute(query, *values)


async def test_memory_that_does_not_suffice_is_no_damage(history: Path) -> None:
    with duckdb.connect(str(history), read_only=True) as connection:
        starving: Any = Starving(connection)
        with pytest.raises(duckdb.OutOfMemoryException):
            unreadable(starving, "result", "history")
