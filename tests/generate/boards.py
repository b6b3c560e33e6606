"""The dashboards as tests look at them: their queries, and what Grafana makes of the variables in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from watchbill.client import DEFAULT_SERVER
from watchbill.generate.dashboards import dashboards

BOARDS: dict[str, dict[str, Any]] = dashboards(watchbill_url=DEFAULT_SERVER)
Choices = Mapping[str, str | Sequence[str]]
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LABEL_VALUES = re.compile(r"label_values\((?:(.+), )?(\w+)\)")
_REGEX = re.compile(r"[$^*{}\[\]'+?.()|\\]")


def substituted(text: str, choices: Choices) -> str:
    r"""A text with its variables replaced as Grafana's Prometheus plugin does: several values as ``(a|b)``, each escaped.

    :raises KeyError: it names a variable that is not given.
    """
    return _VARIABLE.sub(lambda found: _shown(choices[found[1] or found[2]]), text)


def _shown(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return value
    escaped = [_REGEX.sub(r"\\\\\g<0>", one) for one in value]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def queries(board: Mapping[str, Any]) -> dict[str, list[str]]:
    """Every query of a dashboard by where it stands, with its variables as they are written."""
    found: dict[str, list[str]] = {}
    for one in board["templating"]["list"]:
        if one["type"] == "query":
            found[f"variable {one['name']}"] = [_of_values(one["query"]["query"])]
    for one in board["annotations"]["list"]:
        found[f"annotation {one['name']}"] = [one["expr"]]
    for one in panels(board):
        found[f"{one['id']} {one['title']}"] = [target["expr"] for target in one.get("targets", ())]
    return {where: texts for where, texts in found.items() if texts}


def _of_values(text: str) -> str:
    """The series that ``label_values`` looks for; it finds nothing where none of them has the label."""
    found = _LABEL_VALUES.fullmatch(text)
    assert found is not None, text
    series, label = found.groups()
    return (
        f"count by ({label}) ({series.replace('}', f', {label}!=' + chr(34) * 2 + '}')})"
        if "{" in series
        else f'count by ({label}) ({series}{{{label}!=""}})'
    )


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return (one for one in board["panels"] if one["type"] != "row")
