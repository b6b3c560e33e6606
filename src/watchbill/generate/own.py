"""Alerts on Watchbill itself: whether anybody watches at all, and whether what is seen can be trusted.

Those that are about one process keep its ``instance``; those about what all of them see are sums over their checks, so
that a rolling update is not ten thousand alerts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from watchbill.domain.checks import Check
from watchbill.domain.discovery import Discovery
from watchbill.domain.results import OWN_SIDE, Reason
from watchbill.generate import pace
from watchbill.generate.asked import Asked
from watchbill.generate.own_discovery import discovery_alerts
from watchbill.generate.pace import MINUTE
from watchbill.generate.promql import quoted
from watchbill.generate.rules import Alert, Group
from watchbill.generate.texts import (
    AT_LOCATION,
    HANDLER,
    INSTANCE,
    NUMBER,
    REASON_LABEL,
    SHARE,
    SPAN,
    TYPE,
    said,
    span,
)

OVERVIEW, EXPORTER = "/d/watchbill-overview", "/d/watchbill-exporter"
PAGE, TICKET = "critical", "warning"
ROLLOUT = 30 * MINUTE
"""How long rules and exporters may disagree: a rollout reaches them one after the other, in either order."""
REWRITTEN = ("service", "check", "type", "location", "target")
_OTHER_PROCESS_LABELS = "pod, container, endpoint, node"


def own_groups(
    asked: Asked,
    checks: Iterable[Check] = (),
    *,
    digest: str = "",
    blocks: Mapping[str, Discovery] | None = None,
) -> list[Group]:
    """``digest``: of the configuration that the exporter should run, where it is known. So with its blocks of discovery."""
    coverage = pace.window_of_coverage(checks, asked)
    rules = [
        *_gone(asked),
        *_configuration(asked, digest),
        _coverage(asked, coverage),
        _own_side_errors(asked),
        *_history(asked),
        *_process(asked),
        *discovery_alerts(asked, blocks),
        _labels_rewritten(asked),
        watchdog(),
    ]
    return [Group("watchbill-exporter", rules)]


def _own(
    name: str,
    expr: str,
    severity: str,
    hold: timedelta,
    *,
    summary: str,
    description: str,
    dashboard: str = "",
) -> Alert:
    texts = said(name, summary, description, dashboard=dashboard)
    return Alert(name, expr, {"severity": severity}, texts, hold)


def _selected(asked: Asked, *more: str) -> str:
    matchers = [*asked.job_matcher, *more]
    return f"{{{', '.join(matchers)}}}" if matchers else ""


def _gone(asked: Asked) -> list[Alert]:
    """Absent: not even a target. An exporter that is merely down is not absent."""
    down, absent = pace.gone(asked), pace.absent(asked)
    return [
        _own(
            "WatchbillExporterDown",
            f"{asked.up} == 0",
            PAGE,
            down,
            summary=f"Watchbill at {INSTANCE} cannot be scraped",
            description=f"Prometheus has failed to scrape Watchbill at {INSTANCE} for {span(down)}. Nothing that it watches is "
            "being judged.",
        ),
        _own(
            "WatchbillExporterAbsent",
            f"absent({asked.up})",
            PAGE,
            absent,
            summary="Prometheus knows no Watchbill at all",
            description=f"No scrape job that matches {asked.job} has had a target for {span(absent)}. Nothing is being watched, "
            "or the job has another name.",
        ),
    ]


def _configuration(asked: Asked, digest: str) -> list[Alert]:
    refused = _own(
        "WatchbillConfigReloadFailed",
        f"min without ({_OTHER_PROCESS_LABELS}) (watchbill_config_last_reload_successful{_selected(asked)}) == 0",
        TICKET,
        max(MINUTE, 4 * asked.scrape_interval),
        summary=f"Watchbill at {INSTANCE} refused its new configuration",
        description="The last reload failed; the configuration from before keeps running. `watchbill validate` lists every "
        "problem with file, line and column.",
    )
    web = _own(
        "WatchbillWebConfigReloadFailed",
        f"min without ({_OTHER_PROCESS_LABELS}) (watchbill_web_config_last_reload_successful{_selected(asked)}) == 0",
        TICKET,
        max(MINUTE, 4 * asked.scrape_interval),
        summary=f"Watchbill at {INSTANCE} refused its changed web configuration",
        description="The file of --web.config.file, or a certificate that it names, is not good any more; what held before goes on "
        "until the next start, which would fail. The log has every problem with file, line and column.",
    )
    if not digest:
        return [refused, web]
    other = _selected(asked, f"digest!={quoted(digest)}")
    return [
        refused,
        web,
        _own(
            "WatchbillConfigMismatch",
            f"max without (digest, revision, {_OTHER_PROCESS_LABELS}) (watchbill_config_info{other}) == 1",
            TICKET,
            ROLLOUT,
            summary=f"Watchbill at {INSTANCE} runs another configuration than its alerts were made for",
            description=f"For {span(ROLLOUT)} it has run a configuration other than {digest}, from which these rules were "
            "generated: what is new in either is not alerted on. Deploy both from the same commit.",
        ),
    ]


def _coverage(asked: Asked, window: timedelta) -> Alert:
    """For longer than the window: what one downtime missed is added all at once when it is over, and told of before."""
    with_verdict = _selected(asked, 'outcome=~"success|failure"')
    meant = _selected(asked, 'outcome!="excused"')
    over = "sum by (job, namespace, location)"
    slots = "watchbill_check_slots_total"
    return _own(
        "WatchbillCoverageLow",
        f"""\
{over} (increase({slots}{with_verdict}[{span(window)}]))
  /
{over} (increase({slots}{meant}[{span(window)}]))
  < 0.95
""",
        TICKET,
        window + 5 * MINUTE,
        summary=f"Only {SHARE} of the slots have a verdict{AT_LOCATION}",
        description=f"Over the last {span(window)} {SHARE} of all slots ended as success or failure. The others were errors of "
        "Watchbill's own side, skipped or missed, so availability rests on less than it should.",
        dashboard=OVERVIEW,
    )


def _own_side_errors(asked: Asked) -> Alert:
    reasons = "|".join(reason for reason in Reason if reason in OWN_SIDE)
    window = span(pace.window(15 * MINUTE, asked))
    failures = f"watchbill_failures_total{_selected(asked, f'reason=~{quoted(reasons)}')}"
    return _own(
        "WatchbillOwnSideErrors",
        f"sum by (job, namespace, type, reason) (increase({failures}[{window}])) > 3",
        TICKET,
        5 * MINUTE,
        summary=f"Watchbill cannot judge its {TYPE} checks: {REASON_LABEL}",
        description=f"{NUMBER} probes of type {TYPE} ended as error ({REASON_LABEL}) within {window}. The fault is on the "
        "exporter's own side; nothing is said about the targets.",
        dashboard=EXPORTER,
    )


def _history(asked: Asked) -> list[Alert]:
    """A healthy writer commits each second: it lags where more than half a minute's rows wait all the time."""
    own = _selected(asked)
    long, short = (span(pace.window(length, asked)) for length in (15 * MINUTE, 5 * MINUTE))
    waiting = f"min_over_time(watchbill_history_pending{own}[{short}])"
    rows = f"watchbill_history_rows_total{own}[{short}]"
    return [
        _own(
            "WatchbillHistoryDropping",
            f"increase(watchbill_history_dropped_rows_total{own}[{long}]) > 0",
            PAGE,
            timedelta(),
            summary=f"Watchbill at {INSTANCE} is losing history",
            description=f"{NUMBER} rows were dropped within {long} because the store did not take them and the buffer was full. "
            "Probing and metrics go on.",
            dashboard=EXPORTER,
        ),
        _own(
            "WatchbillHistoryNotWritten",
            f"{waiting} > 0\n  and\nincrease({rows}) == 0\n",
            PAGE,
            5 * MINUTE,
            summary=f"Watchbill at {INSTANCE} writes no history",
            description=f"{NUMBER} rows wait and for {short} none was written: a full disk or a broken store. Rows are kept in "
            "memory until the buffer is full, then the oldest are dropped.",
            dashboard=EXPORTER,
        ),
        _own(
            "WatchbillHistoryLagging",
            f"{waiting} > 30 * (rate({rows}) > 0)",
            TICKET,
            10 * MINUTE,
            summary=f"The history of Watchbill at {INSTANCE} lags behind",
            description=f"{NUMBER} rows wait to be written, more than half a minute's worth. The disk is too slow for the number "
            "of checks.",
            dashboard=EXPORTER,
        ),
    ]


def _process(asked: Asked) -> list[Alert]:
    own = _selected(asked)
    long, short = (span(pace.window(length, asked)) for length in (15 * MINUTE, 5 * MINUTE))
    lag = f"rate(watchbill_event_loop_lag_seconds_bucket{own}[{short}])"
    raised = f"increase(watchbill_handler_errors_total{own}[{long}])"
    return [
        _own(
            "WatchbillEventLoopLag",
            f"histogram_quantile(0.99, sum without ({_OTHER_PROCESS_LABELS}) ({lag})) > 0.05",
            TICKET,
            10 * MINUTE,
            summary=f"Watchbill at {INSTANCE} is short of CPU",
            description=f"The 99th percentile of the event loop's lag is {SPAN}. Latencies are measured too high and slots start "
            "late; give it more CPU or fewer checks.",
            dashboard=EXPORTER,
        ),
        _own(
            "WatchbillHandlerErrors",
            f"sum by (job, namespace, handler) ({raised}) > 0",
            TICKET,
            timedelta(),
            summary=f"A part of Watchbill fails: {HANDLER}",
            description=f"Errors that {HANDLER} raised within {long}: {NUMBER}. It is a defect of Watchbill, whose other parts go on. "
            "The log has a traceback.",
            dashboard=EXPORTER,
        ),
    ]


def _labels_rewritten(asked: Asked) -> Alert:
    """A scrape without ``honor_labels``, where service discovery attaches a label that is the check's own."""
    renamed = [_selected(asked, f'exported_{label}!=""') for label in REWRITTEN]
    found = "\n    or\n  ".join(f"watchbill_check_info{matchers}" for matchers in renamed)
    return _own(
        "WatchbillLabelsRewritten",
        f"count by (job, namespace) (\n  {found}\n) > 0\n",
        TICKET,
        pace.gone(asked),
        summary="Prometheus renames labels of Watchbill",
        description=f"Checks that have lost a label such as service to exported_service: {NUMBER}. The scrape job lacks "
        "`honor_labels: true`. Dashboards find nothing, and alerts carry the label of the scrape.",
    )


def watchdog() -> Alert:
    return _own(
        "WatchbillWatchdog",
        "vector(1)",
        "none",
        timedelta(),
        summary="Alerts of Watchbill reach you",
        description="It always fires: route it to a receiver that calls for help once it stops.",
    )
