"""Prometheus rules as values, and the text of a rule file: for Prometheus itself, or for its operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import yaml

from watchbill.domain.units import format_duration

LINE_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule. Its name is ``level:metric:operations``."""

    record: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule. ``hold`` is its ``for``."""

    alert: str
    expr: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    hold: timedelta = timedelta()


Rule = Recording | Alert


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus evaluates one after the other, each seeing what those before it recorded.

    ``interval``: how often, where it is not the server's own ``evaluation_interval``.
    """

    name: str
    rules: Sequence[Rule]
    interval: timedelta | None = None


def rule_file(groups: Sequence[Group], *, head: str = "") -> str:
    """The text of a file that ``rule_files`` names. ``head``: comment lines, each with its ``#``."""
    return head + yaml_text(_groups(groups))


def prometheus_rule(groups: Sequence[Group], *, name: str, labels: Mapping[str, str], head: str = "") -> str:
    """The same as a ``PrometheusRule`` object for the Prometheus operator."""
    return head + yaml_text(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": name, "labels": dict(labels)},
            "spec": _groups(groups),
        }
    )


def _groups(groups: Sequence[Group]) -> dict[str, Any]:
    return {"groups": [_group(group) for group in groups if group.rules]}


def _group(group: Group) -> dict[str, Any]:
    interval = {} if group.interval is None else {"interval": format_duration(group.interval)}
    return {"name": group.name, **interval, "rules": [_rule(rule) for rule in group.rules]}


def _rule(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, Recording):
        labels = {"labels": dict(rule.labels)} if rule.labels else {}
        return {"record": rule.record, "expr": rule.expr, **labels}
    hold = {"for": format_duration(rule.hold)} if rule.hold else {}
    texts = {"labels": dict(rule.labels), "annotations": dict(rule.annotations)}
    return {"alert": rule.alert, "expr": rule.expr, **hold, **texts}


class _Dumper(yaml.SafeDumper):
    """Several lines as a block, and lists indented, as people write them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _block)


def yaml_text(document: Mapping[str, Any]) -> str:
    """As people write it: keys in their order, long lines folded, several lines as a block."""
    return yaml.dump(
        dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=LINE_CHARACTERS
    )
