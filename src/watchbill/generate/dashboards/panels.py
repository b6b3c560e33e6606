"""Panels as plain values: one function a kind. Where a panel stands is the business of :mod:`.frame`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from watchbill.generate.dashboards.looks import PLAIN, Json, Thresholds, steps

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


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
    thresholds: Thresholds = PLAIN,
    defaults: Json | None = None,
    overrides: Sequence[Json] = (),
    options: Json | None = None,
    transformations: Sequence[Json] = (),
    links: Sequence[Json] = (),
) -> Json:
    """``size`` is (columns of 24, rows); ``about`` what the panel says when asked."""
    field: Json = {"unit": unit, "thresholds": steps(thresholds), **(defaults or {})}
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "targets": [{**one, "refId": chr(ord("A") + index)} for index, one in enumerate(queries)],
        "fieldConfig": {"defaults": field, "overrides": list(overrides)},
        "options": options or {},
        "transformations": list(transformations),
        "links": list(links),
        "gridPos": {"w": size[0], "h": size[1]},
    }


def stat(
    title: str, expr: str, *, width: int, about: str, legend: str = "", shows: str = "value", **looks: Any
) -> Json:
    """One value now. ``shows``: the ``value`` or the series' ``name``."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "textMode": shows,
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
    logarithmic: bool = False,
    points: int | None = None,
    **looks: Any,
) -> Json:
    custom: Json = {
        "fillOpacity": 60 if stacked else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if "thresholds" in looks else "off"},
    }
    if logarithmic:
        custom["scaleDistribution"] = {"type": "log", "log": 10}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    defaults = {"custom": custom, **looks.pop("defaults", {})}
    made = panel(
        "timeseries",
        title,
        queries,
        size=(width, height),
        about=about,
        defaults=defaults,
        options=options,
        **looks,
    )
    return made if points is None else {**made, "maxDataPoints": points}


def timeline(
    title: str, expr: str, legend: str, *, about: str, height: int, width: int = WIDTH, **looks: Any
) -> Json:
    """States over time, a band a series."""
    options = {
        "mergeValues": True,
        "showValue": "never",
        "alignValue": "left",
        "rowHeight": 0.85,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    defaults = {"custom": {"fillOpacity": 80, "lineWidth": 0}, **looks.pop("defaults", {})}
    return panel(
        "state-timeline",
        title,
        [query(expr, legend)],
        size=(width, height),
        about=about,
        defaults=defaults,
        options=options,
        **looks,
    )


def bars(
    title: str, expr: str, legend: str, *, about: str, width: int = 12, height: int = 8, **looks: Any
) -> Json:
    """A bar a series, now."""
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
    }
    queries = [query(expr, legend, kind="instant")]
    return panel("bargauge", title, queries, size=(width, height), about=about, options=options, **looks)


def heatmap(title: str, expr: str, *, about: str, width: int, height: int) -> Json:
    """How many there were in each bucket of a histogram, over time."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Turbo",
            "scale": "exponential",
            "steps": 64,
            "exponent": 0.5,
            "fill": "dark-orange",
            "reverse": False,
        },
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "rowsFrame": {"layout": "auto"},
        "filterValues": {"le": 1e-9},
        "tooltip": {"yHistogram": True},
        "legend": {"show": True},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
    }
    queries = [query(expr, "{{le}}", kind="heatmap")]
    return panel("heatmap", title, queries, size=(width, height), about=about, options=options)


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
    hide: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    empty: str = "none",
) -> Json:
    """One row a label set. A column without a name only lends its labels.

    ``labels`` gives their order, ``hide`` those that the rows need and nobody reads, ``names`` what they are
    called in the header, ``empty`` what stands there instead of rows.
    """
    values = [
        f"Value #{chr(ord('A') + index)}" if len(columns) > 1 else "Value" for index in range(len(columns))
    ]
    unnamed = [value for value, (name, _) in zip(values, columns, strict=True) if not name]
    headers = dict(names or {}) | {
        value: name for value, (name, _) in zip(values, columns, strict=True) if name
    }
    hidden = dict.fromkeys(["Time", *unnamed, *hide], True)
    shown = [label for label in dict.fromkeys([*labels, *values]) if label not in hidden]
    organise = {
        "excludeByName": hidden,
        "indexByName": {field: index for index, field in enumerate(shown)},
        "renameByName": headers,
    }
    return panel(
        "table",
        title,
        [query(expr, kind="table") for _, expr in columns],
        size=(width, height),
        about=about,
        defaults={"custom": {"align": "auto", "filterable": True}, "noValue": empty},
        overrides=[_EMPTY_CELLS, *overrides],
        options={
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": sort_by, "desc": descending}],
        },
        transformations=[{"id": "merge", "options": {}}, {"id": "organize", "options": organise}],
    )


# What stands instead of all rows must not stand in a single empty cell.
_EMPTY_CELLS = {
    "matcher": {"id": "byRegexp", "options": "/.*/"},
    "properties": [{"id": "noValue", "value": ""}],
}


def prose(title: str, markdown: str, *, about: str, height: int, width: int = WIDTH) -> Json:
    """Text that asks nothing."""
    return {
        "type": "text",
        "title": title,
        "description": about,
        "options": {"mode": "markdown", "content": markdown},
        "gridPos": {"w": width, "h": height},
    }
