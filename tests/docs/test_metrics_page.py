"""docs/metrics.md names every family with its type and labels, and its numbers and queries are true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from watchbill.board import Board
from watchbill.domain.series import SERIES
from watchbill.metrics import CHECK_FAMILIES, OWN_FAMILIES, Metrics
from watchbill.metrics.exposition import Family
from watchbill.testing import ManualClock

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z_]+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, tuple[str, ...], str]]:
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), meaning.strip())
        for name, kind, labels, meaning in ROW.findall(PAGE)
    }


def declared(families: tuple[Family, ...]) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {family.name: (family.kind, family.labels) for family in families}


def test_every_family_stands_there_once_with_its_type_and_labels() -> None:
    shown = {
        name: (kind, labels) for name, (kind, labels, _) in rows().items() if not name.startswith("process_")
    }
    assert shown == declared(CHECK_FAMILIES) | declared(OWN_FAMILIES)
    assert len(ROW.findall(PAGE)) == len(rows())


def test_every_family_of_the_process_stands_there() -> None:
    text = Metrics(Board(), ManualClock()).render()[1].decode()
    real = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE process_"))
    assert real == {name: kind for name, (kind, _, _) in rows().items() if name.startswith("process_")}


def test_every_meaning_says_something() -> None:
    assert all(len(meaning) > 2 for _, _, meaning in rows().values())


def test_what_is_marked_as_opt_in_is() -> None:
    marked = {name for name, (_, _, meaning) in rows().items() if "(`details`)" in meaning}
    assert marked == {
        "probe_ip_addr_hash", "probe_http_last_modified_timestamp_seconds", "probe_tls_cipher_info",
        "probe_dns_query_succeeded", "probe_dns_authority_rrs", "probe_dns_additional_rrs",
    }  # fmt: skip


def test_the_numbers_of_series_are_those_that_plan_uses() -> None:
    sentence = re.search(r"A default check has at most (.*?), of which", PAGE, re.DOTALL)
    assert sentence is not None
    told = {kind: int(count) for count, kind in re.findall(r"(\d+)(?: series)? \(`(\w+)`", sentence[1])}
    assert told == SERIES


@pytest.mark.e2e
def test_every_query_is_one(tmp_path: Path) -> None:
    queries = re.findall(r"^```promql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(queries) >= 6
    rules = ["groups: [{name: docs, rules: ["]
    for index, query in enumerate(queries):
        flat = " ".join(line for line in query.splitlines() if not line.startswith("#")).replace("'", "''")
        rules.append(f"  {{record: 'docs:query_{index}', expr: '{flat}'}},")
    path = tmp_path / "rules.yml"
    path.write_text("\n".join([*rules, "]}]"]))
    run = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
