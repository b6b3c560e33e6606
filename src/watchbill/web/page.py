"""The landing page: which checks run and how they are. Everything on it is escaped; nothing is loaded for it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from typing import Final
from urllib.parse import quote, urlencode

from starlette.responses import HTMLResponse, Response

from watchbill.board import CheckState
from watchbill.domain.checks import Heartbeat
from watchbill.domain.fields import Service
from watchbill.domain.results import Outcome
from watchbill.domain.stalls import STALLED
from watchbill.domain.status import Status
from watchbill.domain.units import SECOND, Instant, Micros, isoformat
from watchbill.web.answers import availability
from watchbill.web.parts import Parts
from watchbill.web.style import STYLE

ROWS = 200
REFRESH_SECONDS = 15
PARKED = "parked"
"""What a check with ``enabled: false`` is counted as, whatever was known of it before."""
_ORDER: Final = (Status.DOWN.value, Status.DEGRADED.value, Status.UNKNOWN.value, Status.UP.value, PARKED)
_ALWAYS_COUNTED: Final = (Status.UP.value, Status.DOWN.value)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def landing_page(parts: Parts, query: Mapping[str, str]) -> Response:
    """``?status=down`` and ``?service=shop`` narrow the table, ``?page=2`` turns it over."""
    running = parts.running
    now = running.clock.now()
    shown = _Selection(query, parts.places.links)
    everything = list(running.board.checks.values())
    states = sorted(filter(shown.takes, everything), key=lambda state: _ORDER.index(_status(state)))
    rows = [_row(state, now, parts.places.links) for state in states[shown.start : shown.start + ROWS]]
    body = "".join(
        (
            _head(parts, everything),
            _filters(everything, shown),
            _table(rows, len(states), shown),
            _services(parts),
            _foot(parts, now),
        )
    )
    return HTMLResponse(_document(body), headers={"Content-Security-Policy": POLICY})


def text(value: str, most: int = 200) -> str:
    """Text of any origin as HTML: no markup, nothing invisible, no other direction, no end of the page."""
    value = _UNSEEN.sub("\ufffd", value)
    return escape(value if len(value) <= most else value[: most - 1] + "…")


class _Selection:
    """Which checks the query string asks for."""

    def __init__(self, query: Mapping[str, str], links: str) -> None:
        self._links = links
        wanted = query.get("status", "")
        self.status = wanted if wanted in _ORDER else None
        self.service = query.get("service") or None
        number = query.get("page", "1")
        self.page = int(number) if number.isascii() and number.isdigit() and 0 < len(number) < 6 else 1
        self.start = max(0, self.page - 1) * ROWS

    def takes(self, state: CheckState) -> bool:
        return (self.status is None or _status(state) == self.status) and (
            self.service is None or state.check.service == self.service
        )

    def link(self, **changed: str | None) -> str:
        """The address of this selection with something changed; the page starts anew unless it is what changes."""
        wanted = {"status": self.status, "service": self.service, **changed}
        query = urlencode({key: value for key, value in wanted.items() if value})
        return escape(f"{self._links}/?{query}" if query else f"{self._links}/")


def _status(state: CheckState) -> str:
    return state.status.value if state.check.enabled else PARKED


# --- the parts of the page ----------------------------------------------------------------------------


def _document(body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Watchbill</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}"><style>{STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def _head(parts: Parts, states: Iterable[CheckState]) -> str:
    counts = Counter(_status(state) for state in states)
    cards = "".join(
        f'<li class="{status}"><b>{counts[status]}</b> {status}</li>'
        for status in (*_ALWAYS_COUNTED, *(other for other in _ORDER if other not in _ALWAYS_COUNTED))
        if counts[status] or status in _ALWAYS_COUNTED
    )
    place = f" <small>at {text(parts.running.location)}</small>" if parts.running.location else ""
    return f'<header><h1>Watchbill{place}</h1><ul class="counts">{cards}</ul></header><main>'


def _filters(states: Iterable[CheckState], shown: _Selection) -> str:
    present = {_status(state) for state in states}
    links = [("all", shown.link(status=None), shown.status is None)]
    links += [
        (status, shown.link(status=status), shown.status == status) for status in _ORDER if status in present
    ]
    items = "".join(
        f'<a href="{address}"{" aria-current=page" if current else ""}>{label}</a>'
        for label, address, current in links
    )
    service = (
        f'<a href="{shown.link(service=None)}" title="show every service">service {text(shown.service)} ✕</a>'
        if shown.service
        else ""
    )
    return f'<nav aria-label="Filter">{items}{service}</nav>'


def _table(rows: list[str], total: int, shown: _Selection) -> str:
    if not rows:
        return '<p class="empty">No check to show.</p>'
    return (
        '<div class="wide"><table><thead><tr><th>Status</th><th>Check</th><th>Service</th><th>Target</th>'
        '<th>Last result</th><th class="n">Took</th><th class="n">Availability</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{_pages(len(rows), total, shown)}"
    )


def _pages(count: int, total: int, shown: _Selection) -> str:
    if total <= ROWS:
        return ""
    before = f'<a href="{shown.link(page=str(shown.page - 1))}">previous</a> ' if shown.page > 1 else ""
    after = (
        f' <a href="{shown.link(page=str(shown.page + 1))}">next</a>' if shown.start + count < total else ""
    )
    return f"<p>{before}{shown.start + 1} to {shown.start + count} of {total}{after}</p>"


def _row(state: CheckState, now: Instant, links: str) -> str:
    check, status = state.check, _status(state)
    service = check.service or ""
    link = (
        f'<a href="{links}/?{escape(urlencode({"service": service}))}">{text(service)}</a>' if service else ""
    )
    return (
        f'<tr class="{status}"><td class="is"><span class="status {status}">{status}</span>{_since(state, now)}</td>'
        f'<td class="id"><a href="{links}/api/v1/checks/{quote(check.id)}">{text(check.id)}</a> <small>{check.type}</small></td>'
        f'<td class="of">{link}</td><td class="long"><bdi>{text(state.target)}</bdi></td>'
        f'<td class="last">{_last(state, now)}</td>'
        f'<td class="n">{_took(state)}</td><td class="n">{_available(state)}</td></tr>'
    )


def _since(state: CheckState, now: Instant) -> str:
    if state.since is None or not state.check.enabled:
        return ""
    return f' <small title="since {isoformat(state.since)}">{ago(now - state.since)}</small>'


def _last(state: CheckState, now: Instant) -> str:
    """When it was, and what was wrong in the words of the result."""
    result = state.latest
    if result is None:
        return "<small>none yet</small>" if state.check.enabled else ""
    when = f'<small title="{isoformat(result.started_at)}">{ago(now - result.started_at)} ago</small>'
    if result.outcome in (Outcome.SUCCESS, Outcome.EXCUSED):
        return f"{result.outcome.value} {when}"
    reason = result.reason.value if result.reason else result.outcome.value
    message = text(result.message, 300)
    return f'<span class="why"><b>{reason}</b> <bdi>{message}</bdi></span> {when}'


def _took(state: CheckState) -> str:
    if state.latest is None or isinstance(state.check, Heartbeat):
        return ""
    if STALLED in state.latest.facts:
        return '<small title="this exporter stood still meanwhile, so it is not known">stalled</small>'
    return took(state.latest.duration_seconds)


def _available(state: CheckState) -> str:
    share = availability(state.slots)
    if share is None:
        return "<small>no slot yet</small>" if state.check.enabled else ""
    judged = state.slots[Outcome.SUCCESS] + state.slots[Outcome.FAILURE]
    title = ", ".join(f"{count} {outcome.value}" for outcome, count in state.slots.items() if count)
    return f'<span title="{title}">{percent(share)} <small>of {judged}</small></span>'


def _services(parts: Parts) -> str:
    board = parts.running.board
    if not board.services:
        return ""
    rows = "".join(
        _service_row(name, status, board.declared_services.get(name), parts.places.links)
        for name, status in sorted(
            board.services.items(), key=lambda item: (_ORDER.index(item[1].value), item[0])
        )[:ROWS]
    )
    return (
        '<h2>Services</h2><div class="wide"><table><thead><tr><th>Status</th><th>Service</th><th>Description</th>'
        f"<th>Owner</th><th>Runbook</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _service_row(name: str, status: Status, service: Service | None, links: str) -> str:
    service = service or Service()
    link = f'<a href="{links}/?{escape(urlencode({"service": name}))}">{text(name)}</a>'
    return (
        f'<tr class="{status}"><td class="is"><span class="status {status}">{status}</span></td>'
        f'<td class="of">{link}</td><td class="long"><bdi>{text(service.description)}</bdi></td>'
        f'<td class="of"><bdi>{text(service.owner)}</bdi></td><td class="long">{_runbook(service.runbook)}</td></tr>'
    )


def _runbook(address: str) -> str:
    """Only a web address becomes a link."""
    if address.startswith(("https://", "http://")):
        return (
            f'<a rel="noreferrer noopener" href="{escape(_UNSEEN.sub("", address))}">{text(address, 60)}</a>'
        )
    return text(address)


def _foot(parts: Parts, now: Instant) -> str:
    loaded, links = parts.running.loaded, parts.places.links
    revision = f" · revision {text(loaded.revision[:12])}" if loaded.revision else ""
    return (
        f'</main><footer><p><a href="{links}/metrics">Metrics</a> · <a href="{links}/api/v1/checks">Checks</a> · '
        f'<a href="{links}/api/v1/config">Configuration</a> · <a href="{links}/api/v1/report">Report</a> · '
        f'<a href="{links}/api/v1/openapi.json">API description</a></p>'
        f"<p>Watchbill {text(parts.version)} · configuration {text(loaded.digest)}{revision} · {isoformat(now)}. "
        "Availability is success / (success + failure) of this process's slots; history has more.</p></footer>"
    )


# --- numbers as people read them ----------------------------------------------------------------------


def ago(micros: Micros) -> str:
    """The two largest units of a stretch of time."""
    seconds = max(0, micros // SECOND)
    for length, unit, smaller, small_unit in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if seconds >= length:
            rest = seconds % length // smaller
            return f"{seconds // length}{unit} {rest}{small_unit}" if rest else f"{seconds // length}{unit}"
    return f"{seconds}s"


def took(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def percent(share: float) -> str:
    """Never rounded up to 100 %: one failure in a million slots shows."""
    if share == 1:
        return "100 %"
    return f"{min(share * 100, 99.999):.3f}".rstrip("0").rstrip(".") + " %"
