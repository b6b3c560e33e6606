"""What surrounds the panels of a dashboard: layout, variables, links, annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from watchbill.generate.dashboards.looks import BLUE, GREY, RED, Json
from watchbill.generate.dashboards.panels import DATASOURCE, WIDTH
from watchbill.generate.dashboards.queries import OF_OURS, OWN

UIDS = {name: f"watchbill-{name}" for name in ("overview", "service", "check", "slo", "exporter")}
"""Fixed for ever: links and alerts name them."""
TAG = "watchbill"
SCHEMA_VERSION = 39
"""Of Grafana 10.4 and 11; each later release raises it by itself."""
WINDOWS = ("5m", "15m", "1h", "6h", "1d")
WINDOW = "15m"


def dashboard(
    name: str,
    title: str,
    about: str,
    *,
    variables: Sequence[Json],
    rows: Sequence[tuple[str, Sequence[Json]]],
    watchbill_url: str,
    links: Sequence[Json] = (),
) -> Json:
    return {
        "uid": UIDS[name],
        "title": f"Watchbill / {title}",
        "description": about,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_datasource(), *variables, _address(watchbill_url)]},
        "annotations": {"list": [_revisions(), _refusals(), _starts()]},
        "links": [_siblings(), *links],
        "panels": layout(rows),
    }


# --- layout -------------------------------------------------------------------------------------------


def layout(rows: Sequence[tuple[str, Sequence[Json]]]) -> list[Json]:
    """Titled rows of panels, set from left to right and wrapped at 24 columns."""
    placed: list[Json] = []
    y = 0
    for title, panels in rows:
        if title:
            placed.append(_row(title, y))
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


def _row(title: str, y: int) -> Json:
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _grid(0, y, WIDTH, 1)}


def _grid(x: int, y: int, width: int, height: int) -> Json:
    return {"x": x, "y": y, "w": width, "h": height}


# --- variables ----------------------------------------------------------------------------------------


def variable(
    name: str, label: str, values: str, *, several: bool = True, everything: str | None = ".*"
) -> Json:
    """A choice filled by ``label_values``; ``everything`` is what All stands for (none: the values joined)."""
    filled: Json = {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": values, "refId": name, "qryType": 1},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
    }
    if not several:
        return filled
    chosen = {"text": ["All"], "value": ["$__all"]}
    return {**filled, "current": chosen} | ({} if everything is None else {"allValue": everything})


def job() -> Json:
    """Which exporters: the jobs that have one, under whatever name."""
    return variable("job", "Job", "label_values(watchbill_build_info, job)", everything=None)


def location(chosen: str) -> Json:
    return variable("location", "Location", f"label_values(watchbill_check_info{{{chosen}}}, location)")


def window() -> Json:
    """Over how long a share is taken at each moment of a graph."""
    return {
        "type": "custom",
        "name": "window",
        "label": "Window",
        "description": "Over how long a share or a quantile is taken. At least four intervals of the slowest check shown.",
        "query": ",".join(WINDOWS),
        "current": {"text": WINDOW, "value": WINDOW},
        "options": [{"text": text, "value": text, "selected": text == WINDOW} for text in WINDOWS],
        "multi": False,
        "includeAll": False,
    }


def _datasource() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "hide": 0,
    }


def _address(watchbill_url: str) -> Json:
    """Where people reach Watchbill's own pages: a constant, so that no link into the dashboard can bend it."""
    return {
        "type": "constant",
        "name": "watchbill",
        "label": "Address of Watchbill",
        "query": watchbill_url,
        "hide": 2,
        "skipUrlSync": True,
        "current": {"text": watchbill_url, "value": watchbill_url},
    }


# --- links --------------------------------------------------------------------------------------------


def to_dashboard(name: str, title: str, **values: str) -> Json:
    """A link in a cell: ``to_dashboard("check", ..., check="${__value.raw}")``."""
    chosen = "".join(f"&var-{key}={value}" for key, value in values.items())
    return {
        "title": title,
        "url": f"/d/{UIDS[name]}?${{datasource:queryparam}}&${{job:queryparam}}{chosen}&${{__url_time_range}}",
    }


def to_watchbill(title: str, path: str) -> Json:
    """A link above the panels to Watchbill itself."""
    return _link(title, f"${{watchbill}}{path}", icon="external link", new_tab=True)


def _link(title: str, url: str, *, icon: str, new_tab: bool) -> Json:
    return {
        "type": "link",
        "title": title,
        "icon": icon,
        "tooltip": "",
        "url": url,
        "tags": [],
        "asDropdown": False,
        "targetBlank": new_tab,
        "includeVars": False,
        "keepTime": False,
    }


def _siblings() -> Json:
    """All dashboards with our tag, side by side; Grafana fills them in and keeps what is chosen."""
    return {
        "type": "dashboards",
        "title": "Watchbill",
        "icon": "dashboard",
        "tooltip": "",
        "tags": [TAG],
        "asDropdown": False,
        "targetBlank": False,
        "includeVars": True,
        "keepTime": True,
    }


# --- annotations --------------------------------------------------------------------------------------

_INFO = f"watchbill_config_info{{{OWN}}}"
_LOADED = f"watchbill_config_last_reload_success_timestamp_seconds{{{OWN}}}"
_BY = "job, digest, revision"


def revisions() -> str:
    """In milliseconds, when each configuration was loaded that did not run a step before.

    A restart loads the same one again and says nothing: while none of a job's exporters answers, what they ran last
    still counts. That is looked for over a quarter of an hour, so that going back to an older configuration shows.
    """
    before = f"group by ({_BY}) ({_INFO} offset $__interval)"
    bridged = f"group by ({_BY}) (last_over_time({_INFO}[15m] offset $__interval))"
    loaded = f"max by ({_BY}) ({_LOADED} * on (job, instance) group_left (digest, revision) {_INFO})"
    return f"1000 * ({loaded} unless on ({_BY}) ({before} or ({bridged} unless on (job) {before})))"


def _revisions() -> Json:
    return _annotation(
        "Configurations",
        revisions(),
        BLUE,
        title="New configuration",
        text="{{job}}: Git {{revision}}, digest {{digest}}",
        extra={"useValueForTime": True},
    )


def _refusals() -> Json:
    return _annotation(
        "Refused configurations",
        f"watchbill_config_last_reload_successful{{{OWN}}} == bool 0",
        RED,
        title="Configuration refused",
        text="{{instance}} keeps the one from before; watchbill validate says why",
    )


def _starts() -> Json:
    started = f"process_start_time_seconds{{{OWN}}}"
    return _annotation(
        "Starts",
        f"1000 * ({started} unless {started} == {started} offset $__interval) {OF_OURS}",
        GREY,
        title="Watchbill started",
        text="{{instance}}",
        extra={"useValueForTime": True},
    )


def _annotation(
    name: str, expr: str, colour: str, *, title: str, text: str, extra: Mapping[str, object] | None = None
) -> Json:
    return {
        "name": name,
        "enable": True,
        "iconColor": colour,
        "datasource": DATASOURCE,
        "expr": expr,
        "titleFormat": title,
        "textFormat": text,
        **(extra or {}),
    }
