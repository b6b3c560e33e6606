"""A plan in its three forms: every kind of change, masked, with what it costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.support import golden
from watchbill.cli.alike import with_known_files, with_unresolved, without_root
from watchbill.cli.difference import (
    Difference,
    absent,
    as_json,
    as_markdown,
    as_text,
    shown,
)
from watchbill.domain.checks import parse_check
from watchbill.domain.plan import FieldChange, Plan, diff
from watchbill.domain.specs import Spec, spec_of

SERIES = {"http": 48, "tcp": 30, "tls": 30, "dns": 30, "icmp": 30, "heartbeat": 20}


def specs(**declared: Mapping[str, Any]) -> dict[str, Spec]:
    return {
        check_id.replace("_", "-"): spec_of(parse_check({"id": check_id, **fields}))
        for check_id, fields in declared.items()
    }


ACTUAL = specs(
    home={"type": "http", "url": "https://shop.example/", "headers": {"X-Token": "old-secret"}},
    api={"type": "http", "url": "https://api.example/", "labels": {"env": "test"}},
    old={"type": "tcp", "host": "db.example", "port": 5432},
    legacy={"type": "icmp", "host": "192.0.2.1"},
    same={"type": "dns", "name": "shop.example", "record": "MX", "server": "9.9.9.9"},
)
DESIRED = specs(
    home={
        "type": "http",
        "url": "https://shop.example/",
        "headers": {"X-Token": "new-secret"},
        "interval": "10s",
        "expect": {"status": ["2xx", 304], "body": {"contains": "`````"}},
    },
    api={"type": "http", "url": "https://api.example/", "labels": {"env": "prod"}},
    new={"type": "tcp", "host": "db.example", "port": 5432, "timeout": "2s"},
    backup={"type": "heartbeat", "every": "24h", "grace": "1h"},
    cert={"type": "tls", "host": "shop.example", "enabled": False},
    same={"type": "dns", "name": "shop.example", "record": "MX", "server": "9.9.9.9"},
)


@pytest.fixture
def everything() -> Difference:
    return Difference(
        plan=diff(DESIRED, ACTUAL, {"old": "new"}),
        desired=DESIRED,
        actual=ACTUAL,
        settings=(FieldChange("services.shop.owner", None, "team-shop"),),
        series=SERIES,
    )


@pytest.fixture
def nothing() -> Difference:
    return Difference(Plan(), ACTUAL, ACTUAL, (), SERIES, refused=False, secrets_compared=False)


def test_text_is_as_it_was_agreed(everything: Difference) -> None:
    golden("plan.txt", click.unstyle(as_text(everything)) + "\n")


def test_markdown_is_as_it_was_agreed(everything: Difference) -> None:
    golden("plan.md", as_markdown(everything, title="Plan for `checks/`") + "\n")


def test_json_is_as_it_was_agreed(everything: Difference) -> None:
    golden("plan.json", json.dumps(as_json(everything), indent=2) + "\n")


def test_no_form_shows_a_secret(everything: Difference) -> None:
    texts = as_text(everything), as_markdown(everything, title=""), json.dumps(as_json(everything))
    assert not [text for text in texts if "new-secret" in text or "old-secret" in text]
    assert all("secret" in text for text in texts)


def test_no_change_says_so_in_every_form(nothing: Difference) -> None:
    assert as_text(nothing).splitlines()[0] == "no changes"
    assert as_markdown(nothing, title="Plan").splitlines()[1] == "### Plan: no changes"
    assert as_json(nothing)["changes"] is False
    assert "  secrets and variables without a value here were not compared" in as_text(nothing).splitlines()


def test_signs_are_coloured_for_a_terminal(everything: Difference) -> None:
    lines = as_text(everything).splitlines()
    assert [line[:5] for line in lines if "backup" in line] == ["\x1b[32m"]
    assert [line[:5] for line in lines if "legacy" in line] == ["\x1b[31m"]


def test_a_refused_plan_says_how_to_allow_it(everything: Difference) -> None:
    refused = Difference(everything.plan, DESIRED, ACTUAL, (), SERIES, refused=True)
    assert "--allow-mass-delete allows it" in as_text(refused)
    assert as_json(refused)["refused_as_mass_delete"] is True


def test_series_begin_and_end_where_their_labels_change(everything: Difference) -> None:
    # new (tcp, renamed), backup and api (relabelled) begin; legacy, old and api end; cert is not enabled.
    assert everything.series_beginning() == 30 + 20 + 48
    assert everything.series_ending() == 30 + 30 + 48


def test_a_fence_is_longer_than_any_in_the_plan(everything: Difference) -> None:
    lines = as_markdown(everything, title="").splitlines()
    assert "``````diff" in lines
    assert "``````" in lines


def test_a_title_cannot_be_markup() -> None:
    said = as_markdown(Difference(Plan(), {}, {}, (), SERIES), title="<img src=x> [a](b)")
    assert said.splitlines()[1] == r"### \<img src=x\> \[a\](b): no changes"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "(none)"),
        ("", '""'),
        ("30s", "30s"),
        (["2xx", "304"], '["2xx", "304"]'),
        (5432, "5432"),
        (False, "false"),
        ("a\nb", "a\\nb"),
        ("x" * 200, "x" * 99 + "…"),
    ],
)
def test_a_value_is_one_readable_line(value: object, text: str) -> None:
    assert shown(value) == text


# --- alike --------------------------------------------------------------------------------------------


def _with_ca(path: Path) -> dict[str, Spec]:
    return specs(a={"type": "tls", "host": "x", "tls": {"ca_file": str(path)}})


def test_two_checkouts_name_the_same_file_alike(tmp_path: Path) -> None:
    head, base = (
        without_root(_with_ca(tmp_path / name / "ca/x.pem"), str(tmp_path / name / "checks.yaml"))
        for name in ("head", "base")
    )
    assert diff(head, base, {}).empty
    assert head["a"].fields["tls.ca_file"] == "ca/x.pem"


def test_a_folder_reached_through_a_link_names_its_files_alike(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    found = without_root(_with_ca(tmp_path / "real/ca.pem"), str(tmp_path / "link"))
    assert found["a"].fields["tls.ca_file"] == "ca.pem"


def test_a_file_elsewhere_keeps_its_whole_name(tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    elsewhere = _with_ca(tmp_path / "etc/ca.pem")
    assert without_root(elsewhere, str(tmp_path / "checks")) == elsewhere


def test_an_exporter_elsewhere_names_its_files_by_another_root(tmp_path: Path) -> None:
    here = without_root(_with_ca(tmp_path / "ca/x.pem"), str(tmp_path))
    assert diff(here, with_known_files(_with_ca(Path("/etc/watchbill/ca/x.pem")), here), {}).empty
    assert not diff(here, with_known_files(_with_ca(Path("/etc/watchbill/ca/y.pem")), here), {}).empty


def test_only_a_variable_without_a_value_is_taken_as_unchanged() -> None:
    def host(name: str) -> dict[str, Spec]:
        return specs(a={"type": "icmp", "host": "x", "description": name})

    def same(running: str, here: str) -> bool:
        return diff(host(here), with_unresolved(host(running), host(here)), {}).empty

    assert same("db.example", "${PLACE}")
    assert not same("db.example", "other.example")
    assert not same("${OLD_TOKEN}", "${NEW_TOKEN}")
    assert same("https://db.example/?t=${TOKEN}", "https://${PLACE}/?t=${TOKEN}")
    assert not same("https://old.example/", "https://new.example/${PLACE}")
    assert not same("https://old.example/", "https://new.example/?t=${TOKEN}")
    assert not same("(secret)", "${USER_NAME}")
    assert not same("${OLD_NAME}", "${NEW_NAME}")


def test_a_work_tree_names_its_files_by_their_way_from_the_configuration(tmp_path: Path) -> None:
    for tree in ("base", "head"):
        (tmp_path / tree / ".git").mkdir(parents=True)
        (tmp_path / tree / "checks").mkdir()
    base, head = (
        without_root(_with_ca(tmp_path / tree / "certs/ca.pem"), str(tmp_path / tree / "checks"))
        for tree in ("base", "head")
    )
    assert head["a"].fields["tls.ca_file"] == "../certs/ca.pem"
    assert diff(head, base, {}).empty
    assert diff(head, with_known_files(_with_ca(Path("/etc/watchbill/certs/ca.pem")), head), {}).empty


@pytest.mark.parametrize(
    ("kind", "path", "text"),
    [
        ("http", "interval", "(30s, default)"),
        ("http", "enabled", "(true, default)"),
        ("tls", "port", "(443, default)"),
        ("http", "timeout", "(default)"),
        ("http", "expect.status", "(default)"),
        ("icmp", "port", "(none)"),
        ("http", "service", "(none)"),
        ("", "services.shop.owner", "(none)"),
    ],
)
def test_what_is_not_declared_shows_what_holds_instead(kind: str, path: str, text: str) -> None:
    assert absent(kind, path) == text
