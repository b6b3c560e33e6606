"""What a family is called in OpenTelemetry: names with dots, units beside them.

Turned back by the rules of the Prometheus exporters (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/)
each has the name that ``/metrics`` gives it, so that rules and dashboards work on either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol

_SPACE = re.compile(r"(watchbill_check|probe_(?:http|dns|icmp|ssl|tls)|probe)_")
_UNITS: Mapping[str, tuple[str, str]] = {
    "counter": ("_total", "{slot}"),
    "seconds": ("_seconds", "s"),
    "ratio": ("_ratio", "1"),
}
"""Why a status has no unit: a gauge whose unit is 1 would be a ratio there."""


class Described(Protocol):
    """A family of ``/metrics``."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def help(self) -> str: ...


class Named(NamedTuple):
    name: str
    unit: str


def named(family: Described) -> Named:
    space = _SPACE.match(family.name)
    name = family.name
    if space is not None:
        name = f"{space[1].replace('_', '.')}.{name[space.end() :]}"
    for suffix, unit in _UNITS.values():
        if name.endswith(suffix):
            return Named(name.removesuffix(suffix), unit)
    return Named(name, "")
