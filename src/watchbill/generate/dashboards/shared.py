"""Panels that stand on more than one dashboard."""

from __future__ import annotations

from watchbill.generate.dashboards.frame import to_dashboard
from watchbill.generate.dashboards.looks import (
    BACKGROUND,
    CERTIFICATE,
    GREY,
    RATIO,
    RED,
    STATUS_COLUMN,
    YELLOW,
    Json,
    coloured,
    override,
)
from watchbill.generate.dashboards.panels import WIDTH, table
from watchbill.generate.dashboards.queries import ROW, availability, coverage, first_failure

CHECK_LINK = override(
    "check",
    links=[to_dashboard("check", "This check in depth", check="${__value.raw:percentencode}")],
)
SLO_LINK = override(
    "slo", links=[to_dashboard("slo", "This objective in depth", slo="${__value.raw:percentencode}")]
)
RUNBOOK = override(
    "runbook", links=[{"title": "Open the runbook", "url": "${__value.raw}", "targetBlank": True}]
)
"""Whatever it is becomes the link's address; Grafana itself makes `javascript:` and its like harmless."""


def checks_table(chosen: str, window: str) -> Json:
    """Every check of a choice, as it stands. ``window``: what its shares are over."""
    over = "the time shown" if window == "$__range" else "the window chosen above"
    last_result = f"time() - max by ({ROW}) (watchbill_check_last_result_timestamp_seconds{{{chosen}}})"
    columns = [
        ("status", f"max by ({ROW}) (watchbill_check_status{{{chosen}}})"),
        ("", f"max by ({ROW}, reason) (watchbill_check_failing{{{chosen}}})"),
        ("last probe", f"max by ({ROW}) (probe_duration_seconds{{{chosen}}})"),
        ("last result", last_result),
        ("availability", availability(chosen, window, ROW)),
        ("coverage", coverage(chosen, window, ROW)),
        ("", f"max by ({ROW}, target) (watchbill_check_info{{{chosen}}})"),
    ]
    return table(
        "Checks",
        columns,
        about=f"Every check as it stands; its name leads to it in depth. Availability and coverage are over {over}.",
        height=11,
        labels=["check", "service", "type", "location", "target", "Value #A", "reason"],
        sort_by="status",
        overrides=[
            STATUS_COLUMN,
            CHECK_LINK,
            override("last probe", unit="s"),
            override("last result", unit="s"),
            coloured("availability", RATIO, unit="percentunit"),
            coloured("coverage", RATIO, unit="percentunit"),
        ],
    )


def failing_table(chosen: str, *, width: int) -> Json:
    """What is broken at this moment, the newest breakage first."""
    failing = f"on (check, location) watchbill_check_failing{{{chosen}}}"
    columns = [
        ("", f"max by ({ROW}, reason) (watchbill_check_failing{{{chosen}}})"),
        ("first failed", first_failure(chosen)),
        ("last probe", f"max by ({ROW}) (probe_duration_seconds{{{chosen}}}) and {failing}"),
        ("", f"max by ({ROW}, target) (watchbill_check_info{{{chosen}}}) and {failing}"),
    ]  # fmt: skip
    return table(
        "Failing now",
        columns,
        about="Checks whose last verdict was a failure, why, and how long ago that began: at most six hours, looking past short recoveries.",
        height=8,
        width=width,
        labels=["check", "reason", "service", "type", "location", "target"],
        sort_by="first failed",
        overrides=[CHECK_LINK, override("first failed", unit="s"), override("last probe", unit="s"), override("reason", custom__cellOptions=BACKGROUND, color={"mode": "fixed", "fixedColor": RED})],
        empty="nothing fails",
    )  # fmt: skip


def alerts_table(chosen: str, *, width: int, height: int = 8) -> Json:
    """Alerts as Prometheus has them, before Alertmanager silences or groups any."""
    severities = {"critical": RED, "warning": YELLOW, "info": GREY}
    mapped = {
        name: {"color": colour, "index": index} for index, (name, colour) in enumerate(severities.items())
    }
    shown = "alertname, alertstate, severity, check, service, slo, sli"
    expr = f'max by ({shown}) (ALERTS{{alertname=~"Watchbill.*", severity!="none", {chosen}}})'
    return table(
        "Alerts",
        [("", expr)],
        about="What the rules of Watchbill say now, before Alertmanager silences or groups any of it. Empty without such rules.",
        height=height,
        width=width,
        labels=["alertname", "alertstate", "severity", "check", "service", "slo", "sli"],
        sort_by="state",
        overrides=[CHECK_LINK, SLO_LINK, override("severity", mappings=[{"type": "value", "options": mapped}], custom__cellOptions=BACKGROUND)],
        names={"alertname": "alert", "alertstate": "state"},
        empty="no alert",
    )  # fmt: skip


def certificates(chosen: str) -> Json:
    left = f"min by (check, service, location, target) (probe_ssl_earliest_cert_expiry{{{chosen}}}) - time()"
    return table(
        "Certificates",
        [("expires in", left)],
        about="Time left of the certificate that expires first in each chain seen, also where it failed verification.",
        height=8,
        width=WIDTH,
        labels=["check", "service", "location", "target"],
        sort_by="expires in",
        overrides=[CHECK_LINK, coloured("expires in", CERTIFICATE, unit="s", cells=BACKGROUND)],
        empty="no certificate seen",
    )
