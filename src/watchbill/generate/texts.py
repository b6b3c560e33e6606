"""What alerts say beside their labels. Prometheus fills in the pieces in double braces.

``filled`` puts values into them as Prometheus would, for the tests that are generated beside the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from watchbill.domain.units import format_duration

DOCS = "https://watchbill.example/docs/alerts"

CHECK = "{{ $labels.check }}"
TYPE = "{{ $labels.type }}"
TARGET = "{{ $labels.target }}"
INSTANCE = "{{ $labels.instance }}"
REASON_LABEL = "{{ $labels.reason }}"
HANDLER = "{{ $labels.handler }}"
DISCOVERY = "{{ $labels.discovery }}"
SERVICE = "{{ with $labels.service }}, service {{ . }}{{ end }}"
SEEN_FROM = "{{ with $labels.location }}, seen from {{ . }}{{ end }}"
AT_LOCATION = "{{ with $labels.location }} at {{ . }}{{ end }}"
FAILING_BECAUSE = (
    '{{ with printf "watchbill_check_failing{check=%q,location=%q}" $labels.check $labels.location | query }}'
    ' Reason: {{ . | first | label "reason" }}.{{ end }}'
)
SHARE = "{{ $value | humanizePercentage }}"
SPAN = "{{ $value | humanizeDuration }}"
NUMBER = "{{ $value | humanize }}"


_BRACES = '{{ "{{" }}'


def verbatim(text: str) -> str:
    """What somebody declared, so that Prometheus fills in nothing there."""
    return text.replace("{{", _BRACES)


def said(
    alert: str, summary: str, description: str, *, runbook: str = "", dashboard: str = ""
) -> dict[str, str]:
    """The annotations of an alert. ``runbook``: the service's own; else what our page says of the alert."""
    texts = {
        "summary": summary,
        "description": description,
        "runbook_url": verbatim(runbook) or f"{DOCS}#{alert.lower()}",
    }
    return texts | ({"dashboard_url": dashboard} if dashboard else {})


def filled(texts: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """The annotations with ``values`` in the place of the pieces that they are keyed by."""
    found = dict(texts)
    for piece, value in {**values, _BRACES: "{{"}.items():
        found = {name: text.replace(piece, value) for name, text in found.items()}
    return found


def span(length: timedelta) -> str:
    return format_duration(length)
