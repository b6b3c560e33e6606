"""docs/history.md: its columns are those of the views, its queries run, its copy opens."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from tests.storage.events import START, batch, failure, registered, slots, success
from watchbill.storage import open_storage

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "history.md").read_text()


@pytest.fixture
async def history(tmp_path: Path) -> Path:
    path = tmp_path / "watchbill.duckdb"
    good, bad = slots("shop", 2)
    async with open_storage(str(path)) as store:
        await store.commit(
            batch(registered("shop"), success("shop", good), failure("shop", bad), until=bad + 1)
        )
    return path


def documented_columns(view: str) -> list[str]:
    section = PAGE.split(f"### `{view}`")[1].split("\n#")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize("view", ["results", "coverage"])
async def test_every_column_of_a_view_is_documented(history: Path, view: str) -> None:
    with duckdb.connect(str(history)) as connection:
        columns = [row[0] for row in connection.execute(f"DESCRIBE {view}").fetchall()]
    assert sorted(documented_columns(view)) == sorted(columns)


async def test_every_documented_query_runs_and_finds_something(history: Path) -> None:
    [block] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    queries = [query for query in block.split(";") if query.strip()]
    assert len(queries) == 3
    moved_to_now = f"UPDATE result SET slot = slot + (now() - make_timestamptz({START}))"
    with duckdb.connect(str(history)) as connection:
        found = [connection.execute(query).fetchall() for query in queries[:2]]
        connection.execute(moved_to_now)
        found.append(connection.execute(queries[2]).fetchall())
    assert [len(rows) for rows in found] == [1, 1, 1]
    assert found[0][0][-1] == 50.0


async def test_the_documented_copy_is_a_history_of_its_own(history: Path) -> None:
    [statements] = re.findall(r"`(ATTACH .*?)`", PAGE)
    small = history.with_name("small.duckdb")
    with duckdb.connect(str(history)) as connection:
        connection.execute(statements.replace("small.duckdb", str(small)))
    async with open_storage(str(small)) as store:
        assert len(await store.results("shop", since=0, until=2 * START, limit=9)) == 2
        [covered] = await store.coverage(since=0, until=2 * START)
        assert (covered.expected, covered.unaccounted) == (2, 0)
