"""Rules as text: what Prometheus reads back is what was meant."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import yaml

from watchbill.generate.families import fits, pattern
from watchbill.generate.rules import Alert, Group, Recording, prometheus_rule, rule_file

RATE = Recording("slo:slots:rate5m", "sum(rate(slots[5m]))", {"slo": "shop"})
DOWN = Alert(
    "Down",
    "up == 0\n  or\nvector(0) > 1",
    {"severity": "critical"},
    {"summary": "{{ $labels.check }}: down, for good", "description": "über"},
    hold=timedelta(minutes=2),
)
GROUPS = [Group("one", [RATE], timedelta(seconds=90)), Group("none", []), Group("two", [DOWN])]
PARSED = [
    {
        "name": "one",
        "interval": "1m30s",
        "rules": [{"record": RATE.record, "expr": RATE.expr, "labels": {"slo": "shop"}}],
    },
    {
        "name": "two",
        "rules": [
            {
                "alert": "Down",
                "expr": DOWN.expr,
                "for": "2m",
                "labels": DOWN.labels,
                "annotations": DOWN.annotations,
            }
        ],
    },
]


def test_a_rule_file_reads_back_as_its_groups_without_those_that_are_empty() -> None:
    assert yaml.safe_load(rule_file(GROUPS, head="# generated\n")) == {"groups": PARSED}


def test_an_expression_of_several_lines_stays_one() -> None:
    assert "expr: |" in rule_file(GROUPS)


def test_the_operator_gets_the_same_groups() -> None:
    read = yaml.safe_load(prometheus_rule(GROUPS, name="shop", labels={"role": "alert-rules"}))
    assert read["kind"] == "PrometheusRule"
    assert read["metadata"] == {"name": "shop", "labels": {"role": "alert-rules"}}
    assert read["spec"] == {"groups": PARSED}


@pytest.mark.parametrize(
    ("check_id", "pieces", "fitting"),
    [
        ("pods-a", ("pods-", ""), True),
        ("pods-", ("pods-", ""), False),
        ("my-pods-a", ("pods-", ""), False),
        ("a-b-c", ("a", "b", "c"), True),
        ("abc", ("a", "b", "c"), False),
        ("a-bc", ("a", "b", "c"), False),
        ("a-b-b-c", ("a", "b", "c"), True),
        ("ab-c", ("ab", "b-c"), False),
        ("x-http", ("", "-http"), True),
        ("-http", ("", "-http"), False),
        ("one", ("one",), True),
        ("one-two", ("one",), False),
    ],
)
def test_an_id_fits_where_its_pattern_matches(check_id: str, pieces: tuple[str, ...], fitting: bool) -> None:
    assert fits(check_id, pieces) is bool(re.fullmatch(pattern(pieces), check_id)) is fitting
