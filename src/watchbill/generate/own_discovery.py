"""Alerts on discovery: sources that cannot be followed, and targets that nobody probes or that are probed although gone.

Without the labels of a process: a failure is of the source, and a restart neither ends nor repeats it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from watchbill.domain.discovery import Discovery
from watchbill.generate import pace
from watchbill.generate.asked import Asked
from watchbill.generate.pace import MINUTE
from watchbill.generate.promql import one_of
from watchbill.generate.rules import Alert
from watchbill.generate.texts import DISCOVERY, NUMBER, REASON_LABEL, said, span

FAILING = "WatchbillDiscoveryFailing"
DROPPED, KEPT = "WatchbillDiscoveryTargetsDropped", "WatchbillDiscoveryTargetsKept"
GENERAL_REFRESH = 5 * MINUTE
"""Of whatever blocks there are: the longest that a block has by default."""
SETTLED = 15 * MINUTE
EXPORTER = "/d/watchbill-exporter"


def seen_for(refresh: timedelta, asked: Asked) -> timedelta:
    """How long one failure shows: until the next one that must follow, if the source is down."""
    return pace.window(max(5 * MINUTE, pace.rounded_up(2.5 * refresh)), asked)


def failing_for(refresh: timedelta, asked: Asked) -> timedelta:
    """What neither one failure nor two can fill."""
    return max(SETTLED, pace.rounded_up(seen_for(refresh, asked) + refresh + 2 * asked.scrape_interval))


def discovery_alerts(asked: Asked, blocks: Mapping[str, Discovery] | None) -> Iterator[Alert]:
    """``blocks``: nothing where it is not known which there are."""
    if blocks is None:
        yield _failing(asked, GENERAL_REFRESH)
    for refresh, names in sorted(by_refresh(blocks or {}).items()):
        yield _failing(asked, refresh, names)
    if blocks is None or blocks:
        yield _dropped(asked)
        yield _kept(asked)


def by_refresh(blocks: Mapping[str, Discovery]) -> dict[timedelta, tuple[str, ...]]:
    """Blocks that are asked for equally often, of which all up to the general pace are one. What is watched has none."""
    found: dict[timedelta, tuple[str, ...]] = {}
    for name, block in sorted(blocks.items()):
        refresh = max(GENERAL_REFRESH, getattr(block.source, "refresh", timedelta()))
        found[refresh] = (*found.get(refresh, ()), name)
    return found


def _selected(asked: Asked, *more: str) -> str:
    matchers = [*asked.job_matcher, *more]
    return f"{{{', '.join(matchers)}}}" if matchers else ""


def _failing(asked: Asked, refresh: timedelta, names: tuple[str, ...] = ()) -> Alert:
    """By failures alone: where one of several files or namespaces fails, the others are followed with success."""
    selected = _selected(asked, *([one_of("discovery", names)] if names else []))
    window, hold = seen_for(refresh, asked), failing_for(refresh, asked)
    return Alert(
        FAILING,
        f"sum by (job, namespace, discovery) (increase(watchbill_discovery_failures_total{selected}[{span(window)}])) > 0",
        {"severity": "warning", **({"after": span(hold)} if names else {})},
        said(
            FAILING,
            f"Watchbill cannot follow the source of {DISCOVERY}",
            f"For {span(hold)} the source of discover.{DISCOVERY}, or a part of it, has failed again and again. The targets that were "
            "found last are still probed; what came since is not. The log says why.",
            dashboard=EXPORTER,
        ),
        hold,
    )


def _dropped(asked: Asked) -> Alert:
    return Alert(
        DROPPED,
        f"max by (job, namespace, discovery, reason) (watchbill_discovery_dropped_targets{_selected(asked)}) > 0",
        {"severity": "warning"},
        said(
            DROPPED,
            f"Targets of {DISCOVERY} are not probed: {NUMBER} ({REASON_LABEL})",
            f"Targets of discover.{DISCOVERY} that make no check, {REASON_LABEL}: {NUMBER}. Nobody watches them. The log says "
            "which, and why.",
            dashboard=EXPORTER,
        ),
        SETTLED,
    )


def _kept(asked: Asked) -> Alert:
    return Alert(
        KEPT,
        f"max by (job, namespace, discovery) (watchbill_discovery_kept_targets{_selected(asked)}) > 0",
        {"severity": "warning"},
        said(
            KEPT,
            f"The source of {DISCOVERY} has lost {NUMBER} targets, which are still probed",
            f"Targets that discover.{DISCOVERY} has no more: {NUMBER}. Most of the block would have gone at once, so nothing "
            "was changed: neither these nor new ones are taken on.",
            dashboard=EXPORTER,
        ),
        SETTLED,
    )
