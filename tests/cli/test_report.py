"""`report`: what is counted, how it adds up, and its three forms."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.cli.support import Exporter, Run, golden
from watchbill.cli.report import percent


def _row(check_id: str, **parts: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("failure", "error", "skipped", "excused", "missed", "unaccounted"), 0)
    return {
        "check_id": check_id,
        "location": "",
        "service": "",
        "type": "http",
        "expected": 2880,
        "success": 2880,
        **empty,
        "latency_p50": 0.0482,
        "latency_p95": 0.1,
        "latency_p99": 1.25,
        **parts,
    }


ROWS = [
    _row("shop-home", service="shop"),
    _row("shop-db", service="shop", success=2870, failure=5, error=2, skipped=1, missed=2, latency_p95=0.4),
    _row("gateway", success=0, missed=2880, latency_p50=None, latency_p95=None, latency_p99=None),
]


@pytest.fixture
def asked(exporter: Exporter) -> Exporter:
    exporter.answers["GET /api/v1/report"] = (200, {"checks": ROWS})
    return exporter


@pytest.mark.parametrize("by", ["check", "service"])
@pytest.mark.parametrize("form", ["text", "json", "csv"])
def test_every_form_is_as_it_was_agreed(asked: Exporter, run: Run, by: str, form: str) -> None:
    answer = run("report", "--server", asked.url, "--by", by, "--format", form)
    assert (answer.exit_code, answer.stderr) == (0, "")
    golden(f"report-{by}.{'txt' if form == 'text' else form}", answer.stdout)


def test_json_and_csv_say_the_same(asked: Exporter, run: Run) -> None:
    rows = json.loads(run("report", "--server", asked.url, "--format", "json").stdout)["rows"]
    lines = csv.DictReader(io.StringIO(run("report", "--server", asked.url, "--format", "csv").stdout))
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows] == [
        *lines
    ]


def test_a_time_ends_at_microseconds(exporter: Exporter, run: Run) -> None:
    exporter.answers["GET /api/v1/report"] = (200, {"checks": [_row("a", latency_p99=0.0022646899999999998)]})
    answer = run("report", "--server", exporter.url, "--format", "csv")
    assert answer.stdout.splitlines()[1].endswith(",0.002265")


def test_a_service_adds_up_slots_and_shows_its_slowest_check(asked: Exporter, run: Run) -> None:
    answer = run("report", "--server", asked.url, "--by", "service", "--format", "json")
    shop = json.loads(answer.stdout)["rows"][1]
    assert (shop["service"], shop["checks"], shop["expected"]) == ("shop", 2, 5760)
    assert shop["uptime"] == (2880 + 2870) / (2880 + 2875)
    assert shop["coverage"] == (2880 + 2875) / 5760
    assert shop["latency_p95_seconds"] == 0.4


def test_a_share_is_cut_so_that_all_means_all() -> None:
    shares = [(5, 5), (999_999, 1_000_000), (0, 7), (0, 0), (29, 100), (2, 3)]
    said = ["100.000%", "99.999%", "0.000%", "-", "29.000%", "66.666%"]
    assert [percent(part, whole) for part, whole in shares] == said


def test_locations_have_their_column_where_there_are_any(exporter: Exporter, run: Run) -> None:
    exporter.answers["GET /api/v1/report"] = (
        200,
        {"checks": [_row("a", location="eu"), _row("a", location="us")]},
    )
    lines = run("report", "--server", exporter.url).stdout.splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [["CHECK", "LOCATION"], ["a", "eu"], ["a", "us"]]


def test_an_unaccounted_slot_is_said_aloud(exporter: Exporter, run: Run) -> None:
    exporter.answers["GET /api/v1/report"] = (200, {"checks": [_row("a", unaccounted=3)]})
    answer = run("report", "--server", exporter.url)
    assert answer.stderr == "warning: 3 slots unaccounted: history is damaged, see the exporter's log\n"


def test_nothing_to_report_says_so(exporter: Exporter, run: Run) -> None:
    exporter.answers["GET /api/v1/report"] = (200, {"checks": []})
    assert run("report", "--server", exporter.url).stdout.endswith("Z\n\nno slots\n")


@pytest.mark.parametrize(
    ("since", "until", "asked_for"),
    [
        ("24h", "now", "since=2026-10-31T00%3A00%3A00.000Z&until=2026-11-01T00%3A00%3A00.000Z"),
        ("7d", "1h", "since=2026-10-25T00%3A00%3A00.000Z&until=2026-10-31T23%3A00%3A00.000Z"),
        ("2026-10-01", "2026-10-02", "since=2026-10-01T00%3A00%3A00.000Z&until=2026-10-02T00%3A00%3A00.000Z"),
        (
            "2026-10-01T02:00+02:00",
            "2026-10-01T06:00Z",
            "since=2026-10-01T00%3A00%3A00.000Z&until=2026-10-01T06%3A00%3A00.000Z",
        ),
    ],
)
def test_a_period_is_a_length_a_date_or_a_time(
    asked: Exporter, run: Run, since: str, until: str, asked_for: str
) -> None:
    assert run("report", "--server", asked.url, "--since", since, "--until", until).exit_code == 0
    assert asked.asked[0][1] == f"/api/v1/report?{asked_for}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "--since takes a length of time (24h), a date (2026-11-01) or a time"),
        (["--since", "1h", "--until", "2h"], "--since must be before --until"),
        (["--by", "type"], "'type' is not one of 'check', 'service'"),
    ],
)
def test_a_period_that_is_none_is_a_usage_error(run: Run, arguments: list[str], said: str) -> None:
    answer = run("report", *arguments)
    assert answer.exit_code == 2
    assert said in answer.stderr


def test_names_cannot_steer_the_terminal(exporter: Exporter, run: Run) -> None:
    exporter.answers["GET /api/v1/report"] = (200, {"checks": [_row("a\x1b[2Jb\u202e")]})
    assert "a\\x1b[2Jb\\u202e" in run("report", "--server", exporter.url).stdout
