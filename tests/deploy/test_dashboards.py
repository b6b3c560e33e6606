"""Both dashboards, query by query, against a Prometheus that scraped a real run."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from scripts import dashboards

from tests.prometheus import Prometheus, eventually

ROOT = Path(__file__).parents[2]
BOARDS = {"overview": dashboards.overview(), "check": dashboards.check()}
CHOICES = {
    "job": "watchbill",
    "location": ".*",
    "service": ".*",
    "check": "flaky",
    "window": "20s",
    "__rate_interval": "5s",
    "__range": "30s",
}
QUERIES = [(name, query) for name, board in BOARDS.items() for query in dashboards.queries(board, CHOICES)]
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


@pytest.mark.e2e
@pytest.mark.parametrize(("name", "query"), QUERIES, ids=[f"{name}-{query}" for name, query in QUERIES])
def test_every_query_of_a_dashboard_returns_numbers(name: str, query: str, scraped: Prometheus) -> None:
    bare = query.removesuffix(" or vector(0)")  # what stands in for nothing must not pass for something
    eventually(lambda: scraped.numbers(bare, seconds=60), what=f"{name} gets numbers from {bare}")


@pytest.mark.e2e
@pytest.mark.parametrize("check", ["page", "port", "certificate", "name", "ping", "backup", "refused"])
def test_a_check_of_any_type_has_status_slots_and_coverage(check: str, scraped: Prometheus) -> None:
    chosen = {**CHOICES, "check": check}
    wanted = (
        "watchbill_check_status{",
        'outcome!="excused"',
        "probe_duration_seconds{",
        "watchbill_check_info{",
    )
    for query in dashboards.queries(BOARDS["check"], chosen):
        if any(part in query for part in wanted):
            eventually(lambda query=query: scraped.numbers(query, seconds=60), what=f"numbers from {query}")  # type: ignore[misc]


@pytest.mark.parametrize("path", dashboards.render())
def test_the_dashboard_files_are_what_the_generator_gives(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == dashboards.render()[path]


@each_board
def test_every_panel_says_what_it_shows(board: dict[str, Any]) -> None:
    silent = [one["title"] for one in board["panels"] if one["type"] != "row" and not one["description"]]
    assert silent == []


@each_board
def test_no_panel_hides_another_or_leaves_the_grid(board: dict[str, Any]) -> None:
    places = [(one["title"], one["gridPos"]) for one in board["panels"]]
    assert [title for title, at in places if at["x"] + at["w"] > 24] == []
    hidden = [(one, other) for (one, a), (other, b) in combinations(places, 2) if _overlap(a, b)]
    assert hidden == []


def _overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    return (
        a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    )


@each_board
def test_everything_asks_the_chosen_data_source(board: dict[str, Any]) -> None:
    asked = [one["datasource"]["uid"] for one in board["panels"] if one["type"] != "row"]
    asked += [one["datasource"]["uid"] for panel in board["panels"] for one in panel.get("targets", ())]
    asked += [one["datasource"]["uid"] for one in board["templating"]["list"] if one["type"] == "query"]
    assert set(asked) == {"${datasource}"}


@each_board
def test_ids_are_unique_within_a_dashboard(board: dict[str, Any]) -> None:
    ids = [one["id"] for one in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        references = [one["refId"] for one in panel.get("targets", ())]
        assert len(references) == len(set(references)), panel["title"]


def test_dashboards_keep_their_uids_and_link_to_each_other() -> None:
    assert {board["uid"] for board in BOARDS.values()} == {"watchbill-overview", "watchbill-check"}
    assert "/d/watchbill-check?" in dashboards.render()["deploy/grafana/dashboards/overview.json"]
    assert BOARDS["check"]["links"][0]["url"] == "/d/watchbill-overview"


def test_a_table_renames_only_columns_that_its_queries_give() -> None:
    for board in BOARDS.values():
        for panel in board["panels"]:
            if panel["type"] == "table":
                _assert_columns_exist(panel)


def _assert_columns_exist(panel: dict[str, Any]) -> None:
    [organise] = [one["options"] for one in panel["transformations"] if one["id"] == "organize"]
    references = [one["refId"] for one in panel["targets"]]
    given = {f"Value #{reference}" for reference in references} if len(references) > 1 else {"Value"}
    assert set(organise["renameByName"]) | (set(organise["excludeByName"]) - {"Time"}) == given, panel[
        "title"
    ]
    shown = {*organise["indexByName"], *organise["renameByName"].values()}
    styled = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
    assert styled <= shown, panel["title"]


def test_a_query_with_an_unknown_variable_is_refused() -> None:
    with pytest.raises(KeyError, match="job"):
        dashboards.queries(BOARDS["overview"], {})
