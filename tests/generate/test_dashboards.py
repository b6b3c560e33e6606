"""The dashboards as values: what Grafana's own types say of them, their layout, their links, their files."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.generate.boards import BOARDS, panels, queries, substituted
from tests.generate.grafana import complaints
from watchbill.client import DEFAULT_SERVER
from watchbill.config import load
from watchbill.domain.config import Config
from watchbill.domain.fields import Service
from watchbill.generate.asked import Asked
from watchbill.generate.dashboards import dashboards, text
from watchbill.generate.dashboards.configmaps import MOST_BYTES, config_map
from watchbill.generate.dashboards.frame import revisions
from watchbill.generate.rules import rule_file
from watchbill.generate.whole import rule_groups
from watchbill.metrics import OWN_FAMILIES

ROOT = Path(__file__).parents[2]
SHOP = Service(description="The web shop", owner="team-shop", runbook="https://runbooks.example/shop")
SERVICES = {"shop": SHOP, "core": Service()}
each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


# --- the JSON, by Grafana's types ---------------------------------------------------------------------


@each_board
def test_grafana_s_types_hold_every_value_and_lose_none(board: dict[str, Any]) -> None:
    assert complaints(board) == []


def test_they_hold_what_a_configuration_adds() -> None:
    for board in dashboards(Config(services=SERVICES), watchbill_url="https://watchbill.example").values():
        assert complaints(board) == []


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(board: dict[str, Any]) -> None:
        *way, last = path
        held: Any = board
        for step in way:
            held = held[step]
        held[last] = to

    return change


GRAPH = next(index for index, one in enumerate(BOARDS["overview"]["panels"]) if one["type"] == "timeseries")
TABLE = next(index for index, one in enumerate(BOARDS["overview"]["panels"]) if one["type"] == "table")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_set("title", to=5), ".title is 5"),
        (_set("tags", to="watchbill"), ".tags is 'watchbill', not a list"),
        (_set("graphTooltip", to=3), ".graph_tooltip is 3"),
        (_set("editable", to="yes"), ".editable is 'yes', not bool"),
        (_set("colour", to="red"), ".colour is unknown"),
        (_set("time", "until", to="now"), ".time.until is unknown"),
        (_set("links", 0, "type", to="dashboard"), ".type_val is 'dashboard'"),
        (_set("links", 0, "asDropdown", to="no"), ".as_dropdown is 'no'"),
        (_set("templating", "list", 1, "refresh", to="2"), ".refresh is '2'"),
        (_set("templating", "list", 1, "includeall", to=True), ".includeall is unknown"),
        (_set("annotations", "list", 0, "enable", to="yes"), ".enable is 'yes'"),
        (_set("annotations", "list", 0, "color", to="red"), ".color is unknown"),
        (_set("panels", 0, "gridPos", "w", to="3"), ".w is '3', not a number"),
        (_set("panels", 0, "targets", 0, "expr", to=5), ".expr is 5, not str"),
        (_set("panels", 0, "targets", 0, "format", to="timeseries"), ".format_val is 'timeseries'"),
        (_set("panels", 0, "targets", 0, "query", to="up"), ".query is unknown"),
        (_set("panels", 0, "options", "colorMode", to="bg"), ".color_mode is 'bg'"),
        (_set("panels", 0, "options", "reduceOptions", "calcs", to="last"), ".calcs is 'last', not a list"),
        (_set("panels", 0, "options", "colour", to="red"), ".options.colour is unknown"),
        (_set("panels", 0, "fieldConfig", "defaults", "unit", to=1), ".unit is 1, not str"),
        (_set("panels", 0, "fieldConfig", "defaults", "thresholds", "steps", 1, "value", to="1"), ".value is '1'"),
        (_set("panels", 0, "fieldConfig", "defaults", "thresholds", "mode", to="absolut"), ".mode is 'absolut'"),
        (_set("panels", TABLE, "fieldConfig", "overrides", 0, "properties", 0, "key", to="unit"), ".key is unknown"),
        (_set("panels", TABLE, "fieldConfig", "overrides", 0, "matcher", to="status"), "matcher"),
        (_set("panels", TABLE, "transformations", 0, "id", to=1), ".id_val is 1"),
        (_set("panels", TABLE, "options", "sortBy", 0, "desc", to="no"), ".desc is 'no'"),
        (_set("panels", GRAPH, "fieldConfig", "defaults", "custom", "stacking", "mode", to="stacked"), ".mode is 'stacked'"),
        (_set("panels", GRAPH, "fieldConfig", "defaults", "custom", "lineWidth", to="1"), ".line_width is '1'"),
        (_set("panels", GRAPH, "options", "legend", "displayMode", to="lists"), ".display_mode is 'lists'"),
        (_set("panels", GRAPH, "options", "tooltip", "show", to=True), ".show is unknown"),
    ],
)  # fmt: skip
def test_what_grafana_would_not_take_is_noticed(spoil: Callable[[dict[str, Any]], None], told: str) -> None:
    board = copy.deepcopy(BOARDS["overview"])
    spoil(board)
    try:
        found = complaints(board)
    except (TypeError, AttributeError) as error:  # some decoders fall over a value of another type
        found = [f"matcher: {error}"]
    assert any(told in one for one in found), found


# --- what each of them is -----------------------------------------------------------------------------


def test_each_dashboard_keeps_its_uid_and_carries_the_tag_by_which_all_are_linked() -> None:
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        "overview": "watchbill-overview",
        "service": "watchbill-service",
        "check": "watchbill-check",
        "slo": "watchbill-slo",
        "exporter": "watchbill-exporter",
    }
    for board in BOARDS.values():
        assert board["tags"] == ["watchbill"]
        [siblings] = [one for one in board["links"] if one["type"] == "dashboards"]
        assert (siblings["tags"], siblings["includeVars"], siblings["keepTime"]) == (
            ["watchbill"],
            True,
            True,
        )


def test_every_link_leads_to_a_dashboard_and_a_variable_that_exist() -> None:
    variables = {
        board["uid"]: {one["name"] for one in board["templating"]["list"]} for board in BOARDS.values()
    }
    linked = set()
    for name, board in BOARDS.items():
        for uid, query in re.findall(r'"/d/([^?"]+)\?([^"]*)"', text(board)):
            linked.add((name, uid))
            assert set(re.findall(r"var-(\w+)=", query)) <= variables[uid]
            assert (
                set(re.findall(r"\$\{(\w+):queryparam\}", query)) <= variables[uid] & variables[board["uid"]]
            )
    assert {
        ("overview", "watchbill-check"),
        ("overview", "watchbill-service"),
        ("overview", "watchbill-slo"),
        ("slo", "watchbill-service"),
    } <= linked
    assert {("service", "watchbill-check"), ("check", "watchbill-service")} <= linked


def _shipped() -> str:
    return (ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")


def _generated() -> str:
    loaded = load(str(ROOT / "checks.example.yaml"), environ={}, resolve_secrets=False)
    return rule_file(rule_groups(loaded, Asked())[0])


@pytest.mark.parametrize("rules", [_shipped, _generated])
def test_every_alert_that_names_a_dashboard_names_one_that_is_there(rules: Callable[[], str]) -> None:
    groups = yaml.safe_load(rules())["groups"]
    annotated = [one["annotations"] for group in groups for one in group["rules"] if "alert" in one]
    named = [urlsplit(one["dashboard_url"]) for one in annotated if "dashboard_url" in one]
    by_uid = {board["uid"]: board for board in BOARDS.values()}
    for url in named:
        variables = {one["name"] for one in by_uid[url.path.removeprefix("/d/")]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", url.query)) <= variables
    assert len(named) > 5


def test_links_to_watchbill_s_pages_have_its_address_and_no_visitor_can_bend_them() -> None:
    for board in dashboards(watchbill_url="https://watchbill.example").values():
        [address] = [one for one in board["templating"]["list"] if one["name"] == "watchbill"]
        assert (address["type"], address["query"], address["skipUrlSync"]) == (
            "constant",
            "https://watchbill.example",
            True,
        )
        assert "127.0.0.1" not in text(board)
    pages = [one["url"] for one in BOARDS["check"]["links"] if one["type"] == "link"]
    assert pages == [
        "${watchbill}/api/v1/checks/${check:percentencode}",
        "${watchbill}/api/v1/checks/${check:percentencode}/results",
    ]


@each_board
def test_no_job_is_named_and_every_variable_of_a_query_exists(board: dict[str, Any]) -> None:
    known = {one["name"] for one in board["templating"]["list"]} | {
        "__rate_interval",
        "__range",
        "__interval",
    }
    for where, texts in queries(board).items():
        for one in texts:
            assert not re.search(r'job=~?"(?!\$job")', one), where
            substituted(one, dict.fromkeys(known, "1m"))


SHOWN_OTHERWISE = {
    "watchbill_web_config_last_reload_success_timestamp_seconds": "whether it was good is shown over time",
    "watchbill_web_config_reload_failures_total": "whether it was good is shown over time",
}


def test_all_that_the_exporter_tells_of_itself_is_on_a_dashboard() -> None:
    asked = " ".join(
        query for board in BOARDS.values() for texts in queries(board).values() for query in texts
    )
    families = {family.name for family in OWN_FAMILIES} - SHOWN_OTHERWISE.keys()
    assert [name for name in sorted(families) if not re.search(rf"{name}(_bucket)?\b", asked)] == []


@each_board
def test_everything_asks_the_chosen_data_source(board: dict[str, Any]) -> None:
    asking = [one for one in panels(board) if one["type"] != "text"]
    asked = [one["datasource"]["uid"] for one in asking]
    asked += [one["datasource"]["uid"] for panel in asking for one in panel["targets"]]
    asked += [one["datasource"]["uid"] for one in board["templating"]["list"] if one["type"] == "query"]
    asked += [one["datasource"]["uid"] for one in board["annotations"]["list"]]
    assert set(asked) == {"${datasource}"}


@each_board
def test_every_panel_says_what_it_shows(board: dict[str, Any]) -> None:
    assert [one["title"] for one in panels(board) if not one["description"].endswith(".")] == []


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
def test_ids_are_unique_within_a_dashboard(board: dict[str, Any]) -> None:
    ids = [one["id"] for one in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels(board):
        references = [one["refId"] for one in panel.get("targets", ())]
        assert len(references) == len(set(references)), panel["title"]


@each_board
def test_a_table_shows_only_columns_that_its_queries_give(board: dict[str, Any]) -> None:
    for panel in panels(board):
        if panel["type"] == "table":
            _assert_columns_exist(panel)


def _assert_columns_exist(panel: dict[str, Any]) -> None:
    [organise] = [one["options"] for one in panel["transformations"] if one["id"] == "organize"]
    references = [one["refId"] for one in panel["targets"]]
    values = {f"Value #{reference}" for reference in references} if len(references) > 1 else {"Value"}
    grouped = [
        set(re.split(r",\s*", labels))
        for one in panel["targets"]
        for labels in re.findall(r"(?:by|group_left) \(([\w, ]+)\)", one["expr"])
    ]
    given = values | set().union(*grouped) | {"Time"}
    assert {*organise["indexByName"], *organise["renameByName"], *organise["excludeByName"]} <= given
    assert values <= set(organise["indexByName"]) | set(organise["excludeByName"]), panel["title"]
    headers = organise["renameByName"]
    shown = {headers.get(name, name) for name in organise["indexByName"]}
    styled = {
        one["matcher"]["options"]
        for one in panel["fieldConfig"]["overrides"]
        if one["matcher"]["id"] == "byName"
    }
    sorted_by = {one["displayName"] for one in panel["options"]["sortBy"]}
    assert styled | sorted_by <= shown, panel["title"]


# --- annotations --------------------------------------------------------------------------------------

RAN = 'watchbill_config_info{job="w",instance="%s",digest="%s",revision="%s"}'
LOADED = 'watchbill_config_last_reload_success_timestamp_seconds{job="w",instance="%s"}'


def _seen(*instances: tuple[str, str, dict[tuple[str, str], str]]) -> list[dict[str, str]]:
    """Input series of promtool: per instance its load times and, per configuration, when it ran."""
    found = []
    for instance, loaded, configurations in instances:
        found.append({"series": LOADED % instance, "values": loaded})
        found += [
            {"series": RAN % (instance, *configuration), "values": values}
            for configuration, values in configurations.items()
        ]
    return found


A, B = ("aaa", "r1"), ("bbb", "r2")


@pytest.mark.parametrize(
    ("seen", "at", "loads"),
    [
        # Minute 5: B is loaded in place of A.
        (_seen(("i", "10x4 310x10", {A: "1x4 stale", B: "_x5 1x9"})), {4: {}, 5: {"bbb": 310}, 6: {}}, "a new one"),
        # Minute 5 to 7: a restart with the same one, whose load time is new.
        (_seen(("i", "10x4 stale _x2 480x10", {A: "1x4 stale _x2 1x10"})), {5: {}, 8: {}, 9: {}}, "a restart"),
        # The same at another address, as a pod that moved.
        (_seen(("i", "10x4 stale", {A: "1x4 stale"}), ("k", "_x8 480x10", {A: "_x8 1x10"})), {8: {}, 9: {}}, "a pod that moved"),
        # A restart that brings another one.
        (_seen(("i", "10x4 stale _x2 480x10", {A: "1x4 stale", B: "_x8 1x10"})), {8: {"bbb": 480}, 9: {}}, "a restart with a new one"),
        # Back to A, three minutes after B came: no restart hides it.
        (_seen(("i", "10x2 190x2 370x10", {A: "1x2 stale _x2 1x9", B: "_x3 1x2 stale"})), {3: {"bbb": 190}, 6: {"aaa": 370}, 7: {}}, "the old one again"),
        # Reloaded, and nothing had changed.
        (_seen(("i", "10x4 310x10", {A: "1x20"})), {5: {}, 6: {}}, "the same again"),
        # Two exporters of one job with a configuration each; one restarts.
        (_seen(("i", "10x20", {A: "1x20"}), ("k", "10x4 stale _x2 480x10", {B: "1x4 stale _x2 1x10"})), {5: {}, 9: {}}, "one of two"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_annotation_marks_a_new_configuration_and_no_restart(
    seen: list[dict[str, str]], at: dict[int, dict[str, int]], loads: str, tmp_path: Path
) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (make test-deps)")
    names = dict([A, B])
    expr = substituted(revisions(), {"job": ["w"], "__interval": "1m"})
    expected = [
        {
            "expr": expr,
            "eval_time": f"{minute}m",
            "exp_samples": [
                {
                    "labels": f'{{job="w", digest="{digest}", revision="{names[digest]}"}}',
                    "value": 1000 * loaded,
                }
                for digest, loaded in new.items()
            ],
        }
        for minute, new in at.items()
    ]
    test = {"interval": "1m", "input_series": seen, "promql_expr_test": expected}
    (tmp_path / "tests.yml").write_text(json.dumps({"evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yml"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{loads}: {done.stdout}{done.stderr}"


# --- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOARDS)
def test_the_dashboard_files_are_what_the_generator_gives(name: str) -> None:
    file = ROOT / f"deploy/grafana/dashboards/{name}.json"
    assert file.read_text(encoding="utf-8") == text(BOARDS[name])


@pytest.mark.parametrize("name", BOARDS)
def test_a_config_map_holds_the_very_file_with_the_label_that_the_sidecar_looks_for(name: str) -> None:
    written = config_map(name, text(BOARDS[name]), namespace="monitoring")
    document = yaml.safe_load(written)
    assert document["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert (document["kind"], document["metadata"]["namespace"]) == ("ConfigMap", "monitoring")
    assert document["data"] == {f"watchbill-{name}.json": text(BOARDS[name])}
    # A plain kubectl apply keeps a copy of the object in an annotation.
    assert len(json.dumps(json.dumps(document))) < 262_144


def test_a_config_map_that_kubernetes_would_refuse_is_refused_here() -> None:
    config_map("overview", "x" * (MOST_BYTES - 100))
    with pytest.raises(Exception, match=r"a ConfigMap holds 1,048,576: generate it without CONFIG"):
        config_map("overview", "x" * MOST_BYTES)


def test_owners_and_runbooks_stand_on_the_dashboards_of_a_configuration() -> None:
    boards = dashboards(Config(services=SERVICES), watchbill_url=DEFAULT_SERVER)
    for name in ("overview", "service"):
        [prose] = [one for one in panels(boards[name]) if one["type"] == "text"]
        rows = prose["options"]["content"].splitlines()
        assert (
            rows[3]
            == "| shop | The web shop | team-shop | [https&#58;//runbooks&#46;example/shop](<https://runbooks.example/shop>) |"
        )
    assert not any(one["type"] == "text" for board in BOARDS.values() for one in panels(board))


@pytest.mark.parametrize(
    "written",
    ["[x](javascript:alert(1))", "<script>x</script>", "${datasource}", "a | b", "**b**", "javascript:x", "x\n\n# y", "&#91;x"],
)  # fmt: skip
def test_text_of_a_service_is_text_and_nothing_else(written: str) -> None:
    service = Service(description=written, owner=written, runbook=written)
    board = dashboards(Config(services={"shop": service}), watchbill_url=DEFAULT_SERVER)["overview"]
    [prose] = [one for one in panels(board) if one["type"] == "text"]
    [_, _, row] = prose["options"]["content"].splitlines()
    without_entities = re.sub(r"&#\d+;", "", row)
    assert without_entities.count("|") == 5
    assert not re.search(r"[][()<>$*`{}#&!\\~]", without_entities)
