"""Unit tests of rules as values, and the text of a file for ``promtool test rules``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from watchbill.domain.units import format_duration
from watchbill.generate.promql import braces
from watchbill.generate.rules import yaml_text


@dataclass(frozen=True, slots=True)
class Series:
    """What Prometheus is given. ``values`` in promtool's notation, such as ``1x8 0x3 stale``."""

    name: str
    labels: Mapping[str, str]
    values: str


@dataclass(frozen=True, slots=True)
class Firing:
    """One alert as it must arrive: all of its labels but ``alertname``, all of its annotations."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Look:
    """The alerts of that name that fire ``at`` so long after the start: these and no others."""

    at: timedelta
    alert: str
    firing: Sequence[Firing] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """What an expression must come to ``at`` so long after the start: value by labels (``""``: none)."""

    at: timedelta
    expr: str
    samples: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """One test. ``interval``: the time between two values of a series."""

    name: str
    interval: timedelta
    series: Sequence[Series]
    looks: Sequence[Look] = ()
    queries: Sequence[Query] = field(default=())


def trial_file(trials: Sequence[Trial], *, rules: str, evaluation_interval: timedelta, head: str = "") -> str:
    """The text of the file. ``rules``: the rule file's path as seen from it."""
    return head + yaml_text(
        {
            "rule_files": [rules],
            "evaluation_interval": format_duration(evaluation_interval),
            "tests": [_trial(trial) for trial in trials],
        }
    )


def _trial(trial: Trial) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": trial.name,
        "interval": format_duration(trial.interval),
        "input_series": [
            {"series": each.name + braces(each.labels), "values": each.values} for each in trial.series
        ],
    }
    if trial.looks:
        written["alert_rule_test"] = [_look(look) for look in trial.looks]
    if trial.queries:
        written["promql_expr_test"] = [_query(query) for query in trial.queries]
    return written


def _look(look: Look) -> dict[str, Any]:
    firing = [
        {"exp_labels": dict(each.labels), "exp_annotations": dict(each.annotations)} for each in look.firing
    ]
    return {"eval_time": format_duration(look.at), "alertname": look.alert, "exp_alerts": firing}


def _query(query: Query) -> dict[str, Any]:
    samples = [{"labels": labels or "{}", "value": value} for labels, value in query.samples.items()]
    return {"expr": query.expr, "eval_time": format_duration(query.at), "exp_samples": samples}
