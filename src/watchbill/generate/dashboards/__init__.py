"""Grafana dashboards as plain values, for Grafana 10 to 12: ``dashboards()`` makes them, ``text()`` writes one.

Nothing is imported from Grafana: its JSON is the interface. A test decodes every dashboard with Grafana's own types,
and another runs every query against a real Prometheus that scraped a real run.
"""

from __future__ import annotations

import json

from watchbill.domain.config import Config
from watchbill.generate.dashboards.check import check
from watchbill.generate.dashboards.exporter import exporter
from watchbill.generate.dashboards.looks import Json
from watchbill.generate.dashboards.overview import overview
from watchbill.generate.dashboards.service import service
from watchbill.generate.dashboards.services import who_looks_after_what
from watchbill.generate.dashboards.slo import slo

NAMES = ("overview", "service", "check", "slo", "exporter")


def dashboards(config: Config | None = None, *, watchbill_url: str) -> dict[str, Json]:
    """All of them by name.

    ``config`` lets them tell owners and runbooks in words; ``watchbill_url`` is where people reach Watchbill's pages.
    """
    services = None if config is None else who_looks_after_what(config.services)
    made = (
        overview(watchbill_url=watchbill_url, services=services),
        service(watchbill_url=watchbill_url, services=services),
        check(watchbill_url=watchbill_url),
        slo(watchbill_url=watchbill_url),
        exporter(watchbill_url=watchbill_url),
    )
    return dict(zip(NAMES, made, strict=True))


def text(board: Json) -> str:
    """The file that Grafana imports."""
    return json.dumps(board, indent=2, ensure_ascii=False) + "\n"
