"""``watchbill generate dashboards``: what is written where, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.support import Run

ROOT = Path(__file__).parents[2]
NAMES = ["overview", "service", "check", "slo", "exporter"]
SHOP = """\
version: 1
services:
  shop: {description: The web shop, owner: team-shop, runbook: "https://runbooks.example/shop"}
checks:
  shop-home: {type: http, service: shop, url: "https://shop.example/"}
"""


def test_a_folder_gets_the_files_that_are_shipped(run: Run, tmp_path: Path) -> None:
    answer = run("generate", "dashboards", "-o", str(tmp_path / "grafana/dashboards"))
    written = [Path(line) for line in answer.stdout.splitlines()]
    assert [path.name for path in written] == [f"{name}.json" for name in NAMES]
    for path in written:
        assert path.read_bytes() == (ROOT / "deploy/grafana/dashboards" / path.name).read_bytes()


def test_one_dashboard_may_go_to_stdout(run: Run) -> None:
    answer = run("generate", "dashboards", "--only", "slo")
    assert json.loads(answer.stdout)["uid"] == "watchbill-slo"


def test_config_maps_go_to_stdout_one_after_the_other(run: Run) -> None:
    answer = run("generate", "dashboards", "--format", "configmap", "--namespace", "monitoring")
    documents = list(yaml.safe_load_all(answer.stdout))
    assert [one["metadata"]["name"] for one in documents] == [f"watchbill-dashboard-{name}" for name in NAMES]
    assert {one["metadata"]["namespace"] for one in documents} == {"monitoring"}
    assert all(json.loads(text)["uid"] for one in documents for text in one["data"].values())


def test_config_maps_are_files_of_a_folder_where_one_is_named(run: Run, tmp_path: Path) -> None:
    run("generate", "dashboards", "--format", "configmap", "--only", "check,overview", "-o", str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "check.configmap.yaml",
        "overview.configmap.yaml",
    ]


def test_a_configuration_tells_owners_and_runbooks(run: Run, tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text(SHOP)
    answer = run("generate", "dashboards", str(tmp_path / "checks.yaml"), "--only", "service")
    assert "team-shop" in answer.stdout
    assert "https://runbooks.example/shop" in answer.stdout


def test_links_lead_to_the_address_that_was_given(run: Run) -> None:
    answer = run(
        "generate", "dashboards", "--only", "check", "--watchbill-url", "https://watch.example/bill/"
    )
    [address] = [one for one in json.loads(answer.stdout)["templating"]["list"] if one["name"] == "watchbill"]
    assert address["query"] == "https://watch.example/bill"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name their folder with --output"),
        (["--only", "overview,services"], "takes overview, service, check, slo, exporter"),
        (["--only", "slo", "--namespace", "x"], "--namespace belongs to --format configmap"),
        (["--only", "slo", "--watchbill-url", "watchbill.example"], "as https://watchbill.example"),
        (["--only", "slo", "--watchbill-url", "javascript:alert(1)"], "as https://watchbill.example"),
        (["--only", "slo", "--watchbill-url", "https://${job}.example"], "as https://watchbill.example"),
        (["--only", "slo", "--watchbill-url", "https://me:secret@watchbill.example"], "no password"),
        (["--only", "slo", "--watchbill-url", "https://watchbill.example/?a=b"], "no query"),
        (["--only", "slo", "--watchbill-url", "https://[watchbill"], "as https://watchbill.example"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(run: Run, arguments: list[str], told: str) -> None:
    answer = run("generate", "dashboards", *arguments)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert told in " ".join(answer.stderr.split())


def test_an_invalid_configuration_ends_with_two_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text("version: 1\nchecks: {a: {type: nothing}}\n")
    answer = run("generate", "dashboards", str(tmp_path / "checks.yaml"), "-o", str(tmp_path / "out"))
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "checks.yaml:2:" in answer.stderr
    assert not (tmp_path / "out").exists()
