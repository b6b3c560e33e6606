"""Samples as Prometheus reads them, in its text format 0.0.4 and in OpenMetrics 1.0.0.

A sample line is the same in both; only the headers and the last line differ. Whatever a label holds, the
line it stands in stays one valid line of UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite
from typing import Literal

from watchbill.board import Histogram

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPENMETRICS_END = "# EOF\n"
LONGEST_LABEL = 1000
LARGEST_INTEGER = 1 << 63

Kind = Literal["counter", "gauge", "histogram"]
_NOT_FINITE = {inf: "+Inf", -inf: "-Inf"}
_UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: ``labels`` are its own, beside those that every series of a check has."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    def header(self, *, openmetrics: bool) -> str:
        """OpenMetrics names a counter without the ``_total`` that its samples carry."""
        name = self.name.removesuffix("_total") if openmetrics and self.kind == "counter" else self.name
        return f"# HELP {name} {self.help}\n# TYPE {name} {self.kind}\n"


def safe(value: str) -> str:
    """A label's value without what breaks lines, encodings or terminals."""
    return _UNSAFE.sub("\ufffd", value[:LONGEST_LABEL])


def escape(value: str) -> str:
    """A label's value as it stands between quotation marks."""
    if not value.isprintable() or len(value) > LONGEST_LABEL:
        value = safe(value)
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def labels(pairs: Mapping[str, str]) -> str:
    """``name="value",...`` without the braces."""
    return ",".join([f'{name}="{escape(value)}"' for name, value in pairs.items()])


def number(value: float) -> str:
    """A value that every parser reads back as the same 64-bit float."""
    if isinstance(value, int):
        return str(int(value)) if -LARGEST_INTEGER < value < LARGEST_INTEGER else "NaN"
    return repr(value) if isfinite(value) else _NOT_FINITE.get(value, "NaN")


def sample(name: str, label_text: str, value: float) -> str:
    return f"{name}{{{label_text}}} {number(value)}\n" if label_text else f"{name} {number(value)}\n"


def samples(name: str, label: str, values: Iterable[tuple[str, float]]) -> str:
    """One series a value, told apart by one label."""
    return "".join([f'{name}{{{label}="{escape(key)}"}} {number(value)}\n' for key, value in values])


@lru_cache(maxsize=64)
def _bounds(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*(f'le="{float(bound)!r}"' for bound in bounds), 'le="+Inf"')


def histogram(name: str, label_text: str, observed: Histogram) -> str:
    """Cumulative buckets, count and sum."""
    start = f"{name}_bucket{{{label_text},"[: None if label_text else -1]
    lines, seen = [], 0
    for bound, count in zip(_bounds(observed.bounds), observed.counts, strict=True):
        seen += count
        lines.append(f"{start}{bound}}} {seen}\n")
    lines.append(sample(f"{name}_count", label_text, seen))
    lines.append(sample(f"{name}_sum", label_text, observed.total))
    return "".join(lines)


def prefers_openmetrics(accept: str) -> bool:
    """Whether an Accept header asks for OpenMetrics at least as much as for text (RFC 9110 §12.5.1)."""
    wanted = {"openmetrics": 0.0, "text": 0.0}
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media == "application/openmetrics-text":
            form = "openmetrics"
        elif media in {"text/plain", "text/*", "*/*"}:
            form = "text"
        else:
            continue
        wanted[form] = max(wanted[form], _weight(parameters))
    return wanted["openmetrics"] > 0 and wanted["openmetrics"] >= wanted["text"]


def _weight(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0
