"""What a configuration says of its services, as a panel of text.

The text of a panel is Markdown in which Grafana also replaces variables, so that what people wrote stands there as
entities: nothing in it can become a link, a picture, markup or a variable, except a runbook that is a web address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from watchbill.domain.fields import Service
from watchbill.generate.dashboards.looks import Json
from watchbill.generate.dashboards.panels import prose

MOST_ROWS = 500
_SPECIAL = re.compile(r"[^\w ,;%/-]")
_WEB = ("https://", "http://")


def who_looks_after_what(services: Mapping[str, Service]) -> Json | None:
    """A table of descriptions, owners and runbooks; nothing where no service is declared."""
    if not services:
        return None
    rows = [_row(name, one) for name, one in sorted(services.items())]
    if len(rows) > MOST_ROWS:
        rows = [*rows[:MOST_ROWS], f"| and {len(rows) - MOST_ROWS} more | | | |"]
    lines = ["| Service | What it is | Owner | Runbook |", "| --- | --- | --- | --- |", *rows]
    return prose(
        "Who looks after what",
        "\n".join(lines),
        about="As the configuration said when this dashboard was generated.",
        height=8,
    )


def _row(name: str, service: Service) -> str:
    cells = (_plain(name), _plain(service.description), _plain(service.owner), _runbook(service.runbook))
    return f"| {' | '.join(cells)} |"


def _runbook(address: str) -> str:
    if not address.startswith(_WEB):
        return _plain(address)
    return f"[{_plain(address)}](<{quote(address, safe='/:?#@!&;=+,%~-._')}>)"


def _plain(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))
