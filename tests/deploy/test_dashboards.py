"""Every query of every dashboard, with its variables as Grafana replaces them, against a Prometheus that scraped a real run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import pytest

from tests.generate.boards import BOARDS, queries, substituted
from tests.prometheus import Prometheus, eventually

CHOICES: dict[str, str | Sequence[str]] = {
    "job": ["watchbill", "guarded"],
    "location": ["here"],
    "service": ".*",
    "check": "flaky",
    "slo": ".*",
    "window": "20s",
    "__rate_interval": "5s",
    "__range": "30s",
    "__interval": "1s",
}
OF_A_SERVICE: dict[str, str | Sequence[str]] = {**CHOICES, "service": "shop"}
ONLY_OF = {
    "watchbill_check_loss_ratio": "ping",
    "probe_icmp_rtt": "ping",
    "watchbill_check_last_heartbeat": "backup",
    "probe_dns_answer_rrs": "name",
}
"""Families that one type of check alone has: the check with which they are asked for."""
LOOKED_BACK_SECONDS = 300
"""As far as any test of this package may lie back: what marks a start is there for one moment."""


def _asked() -> list[tuple[str, str, str]]:
    return [
        (name, where, query)
        for name, board in BOARDS.items()
        for where, texts in queries(board).items()
        for query in texts
    ]


def _chosen(name: str, query: str) -> dict[str, str | Sequence[str]]:
    chosen = OF_A_SERVICE if name == "service" else CHOICES
    special = [check for family, check in ONLY_OF.items() if family in query]
    return {**chosen, "check": special[0]} if special else dict(chosen)


SLOWEST = re.compile(r"\[6h:15s\]|slo:")
"""What is there only after some steps of a subquery, or of a group of rules: asked last, nobody waits for it."""
ASKED = sorted(_asked(), key=lambda asked: SLOWEST.search(asked[2]) is not None)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "where", "query"), ASKED, ids=[f"{name}: {where}: {query}" for name, where, query in ASKED]
)
def test_every_query_of_a_dashboard_returns_numbers(
    name: str, where: str, query: str, scraped: Prometheus
) -> None:
    asked = substituted(query, _chosen(name, query))
    bare = asked.removesuffix(" or vector(0)")  # what stands in for nothing must not pass for something
    eventually(
        lambda: scraped.numbers(bare, seconds=LOOKED_BACK_SECONDS), what=f"{where} gets numbers from {bare}"
    )


@pytest.mark.e2e
@pytest.mark.parametrize("check", ["page", "port", "certificate", "name", "ping", "backup", "refused"])
def test_a_check_of_any_type_has_status_slots_and_coverage(check: str, scraped: Prometheus) -> None:
    wanted = (
        "watchbill_check_status{",
        'outcome!="excused"',
        "probe_duration_seconds{",
        "watchbill_check_info{",
    )
    for texts in queries(BOARDS["check"]).values():
        for text in texts:
            query = substituted(text, {**CHOICES, "check": check})
            # A check without a service has no owner, and one that was never up no last success.
            absent = "watchbill_service_info" in query or "== 1" in query
            if any(part in query for part in wanted) and not absent:
                eventually(partial(scraped.numbers, query, seconds=60), what=f"numbers from {query}")
