"""Building blocks of a Grafana dashboard as plain values: queries, panels, tables, variables, layout.

What they look like is decided here; what they show, in :mod:`scripts.dashboards`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

OVERVIEW_UID, CHECK_UID = "watchbill-overview", "watchbill-check"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION = 39
WIDTH = 24
DAY = 86_400

GREEN, YELLOW, RED, GREY, BLUE = "green", "#EAB839", "red", "#8e8e8e", "blue"
OUTCOME_COLOURS = {
    "success": GREEN,
    "failure": RED,
    "error": "purple",
    "skipped": YELLOW,
    "excused": BLUE,
    "missed": GREY,
}
STATUS_MAPPINGS = [
    {
        "type": "value",
        "options": {
            "1": {"text": "up", "color": GREEN, "index": 0},
            "0.5": {"text": "degraded", "color": YELLOW, "index": 1},
            "0": {"text": "down", "color": RED, "index": 2},
        },
    },
    {"type": "special", "options": {"match": "null+nan", "result": {"text": "unknown", "color": GREY}}},
]
RATIO = ((None, RED), (0.95, YELLOW), (0.999, GREEN))
CERTIFICATE = ((None, RED), (7 * DAY, YELLOW), (21 * DAY, GREEN))
ANY_IS_BAD = ((None, GREEN), (1, RED))
OVER_50_MS = ((None, GREEN), (0.05, RED))


def query(expr: str, legend: str = "", *, kind: str = "range") -> Json:
    """``kind``: range (over time), instant (one value now), table (one row a series) or heatmap."""
    formats = {"table": "table", "heatmap": "heatmap"}
    return {
        "datasource": DATASOURCE,
        "expr": " ".join(expr.split()),
        "legendFormat": legend or "__auto",
        "format": formats.get(kind, "time_series"),
        "instant": kind in {"instant", "table"},
        "range": kind in {"range", "heatmap"},
    }


def panel(
    kind: str,
    title: str,
    queries: Sequence[Json],
    *,
    size: tuple[int, int],
    about: str,
    unit: str = "short",
    thresholds: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    defaults: Json | None = None,
    overrides: Sequence[Json] = (),
    options: Json | None = None,
    transformations: Sequence[Json] = (),
) -> Json:
    """One panel; ``size`` is (columns of 24, rows). Where it stands is the layout's business."""
    steps = [{"value": value, "color": colour} for value, colour in thresholds]
    field: Json = {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}, **(defaults or {})}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "targets": [{**one, "refId": chr(ord("A") + index)} for index, one in enumerate(queries)],
        "fieldConfig": {"defaults": field, "overrides": list(overrides)},
        "options": options or {},
        "transformations": list(transformations),
        "gridPos": {"w": size[0], "h": size[1]},
    }


def stat(title: str, expr: str, *, width: int, about: str, legend: str = "", **looks: Any) -> Json:
    text_mode = looks.pop("text_mode", "value")
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "textMode": text_mode,
    }
    queries = [query(expr, legend, kind="instant")]
    return panel("stat", title, queries, size=(width, 4), about=about, options=options, **looks)


def graph(
    title: str,
    *queries: Json,
    about: str,
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    **looks: Any,
) -> Json:
    custom = {
        "fillOpacity": 60 if stacked else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if "thresholds" in looks else "off"},
    }
    defaults = {"custom": custom, **looks.pop("defaults", {})}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    size = (width, height)
    return panel(
        "timeseries", title, queries, size=size, about=about, defaults=defaults, options=options, **looks
    )


def timeline(
    title: str, expr: str, legend: str, *, about: str, height: int, width: int = WIDTH, **looks: Any
) -> Json:
    custom = {"fillOpacity": 80, "lineWidth": 0}
    options = {
        "mergeValues": True,
        "showValue": "never",
        "alignValue": "left",
        "rowHeight": 0.85,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "tooltip": {"mode": "single"},
    }
    return panel(
        "state-timeline",
        title,
        [query(expr, legend)],
        size=(width, height),
        about=about,
        defaults={"custom": custom, **looks.pop("defaults", {})},
        options=options,
        **looks,
    )


def bars(
    title: str, expr: str, legend: str, *, about: str, width: int = 12, height: int = 8, **looks: Any
) -> Json:
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
    }
    queries = [query(expr, legend, kind="instant")]
    return panel("bargauge", title, queries, size=(width, height), about=about, options=options, **looks)


def table(
    title: str,
    columns: Sequence[tuple[str, str]],
    *,
    about: str,
    height: int,
    width: int = WIDTH,
    labels: Sequence[str],
    overrides: Sequence[Json],
    sort_by: str,
    descending: bool = False,
) -> Json:
    """One row a label set. A column without a name only lends its labels."""
    values = [
        f"Value #{chr(ord('A') + index)}" if len(columns) > 1 else "Value" for index in range(len(columns))
    ]
    hidden = {"Time": True} | {
        value: True for value, (name, _) in zip(values, columns, strict=True) if not name
    }
    names = {value: name for value, (name, _) in zip(values, columns, strict=True) if name}
    order = {label: index for index, label in enumerate([*labels, *names])}
    organise = {"excludeByName": hidden, "indexByName": order, "renameByName": names}
    return panel(
        "table",
        title,
        [query(expr, kind="table") for _, expr in columns],
        size=(width, height),
        about=about,
        defaults={"custom": {"align": "auto", "filterable": True}},
        overrides=overrides,
        options={"showHeader": True, "sortBy": [{"displayName": sort_by, "desc": descending}]},
        transformations=[{"id": "merge", "options": {}}, {"id": "organize", "options": organise}],
    )


def override(name: str, **properties: Any) -> Json:
    """Looks of one field. ``__`` in a property's name stands for a dot."""
    listed = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


def steps(thresholds: Sequence[tuple[float | None, str]]) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in thresholds]}


def fixed(colour: str) -> Json:
    return {"mode": "fixed", "fixedColor": colour}


BACKGROUND = {"type": "color-background"}
OUTCOMES = [override(name, color=fixed(colour)) for name, colour in OUTCOME_COLOURS.items()]
STATUS_COLUMN = override("status", mappings=STATUS_MAPPINGS, custom__cellOptions=BACKGROUND, unit="short")
CHECK_LINK = override(
    "check",
    links=[
        {
            "title": "This check in depth",
            "url": f"/d/{CHECK_UID}?${{datasource:queryparam}}&var-check=${{__value.raw:percentencode}}&${{__url_time_range}}",
        }
    ],
)


def layout(rows: Sequence[tuple[str, Sequence[Json]]]) -> list[Json]:
    """Titled rows of panels, set from left to right and wrapped at 24 columns."""
    placed: list[Json] = []
    y = 0
    for title, panels in rows:
        if title:
            placed.append(
                {
                    "type": "row",
                    "title": title,
                    "collapsed": False,
                    "panels": [],
                    "gridPos": _grid(0, y, WIDTH, 1),
                }
            )
            y += 1
        x = line = 0
        for one in panels:
            width, height = one["gridPos"]["w"], one["gridPos"]["h"]
            if x + width > WIDTH:
                x, y, line = 0, y + line, 0
            placed.append({**one, "gridPos": _grid(x, y, width, height)})
            x, line = x + width, max(line, height)
        y += line
    return [{"id": number, **one} for number, one in enumerate(placed, start=1)]


def _grid(x: int, y: int, width: int, height: int) -> Json:
    return {"x": x, "y": y, "w": width, "h": height}


def variable(
    name: str, label: str, values: str, *, several: bool = True, everything: str | None = ".*"
) -> Json:
    """A choice filled by ``label_values``; ``everything`` is what All stands for (none: the values joined)."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": values, "refId": name, "qryType": 1},
        "definition": values,
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "allValue": everything if several else None,
        "current": {"text": ["All"], "value": ["$__all"]} if several else {},
    }


def dashboard(
    uid: str, title: str, about: str, *, variables: Sequence[Json], rows: Any, links: Sequence[Json]
) -> Json:
    datasource = {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["watchbill"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": [datasource, *variables]},
        "annotations": {"list": [_reloads()]},
        "links": list(links),
        "panels": layout(rows),
    }


def _reloads() -> Json:
    return {
        "name": "Reloads",
        "enable": True,
        "iconColor": BLUE,
        "datasource": DATASOURCE,
        "expr": "changes(watchbill_config_last_reload_success_timestamp_seconds[1m]) > 0",
        "titleFormat": "Configuration reloaded",
        "textFormat": "{{instance}}",
    }
