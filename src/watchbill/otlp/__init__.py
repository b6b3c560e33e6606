"""Export by the OpenTelemetry Protocol: a span for each probe, and the metrics of checks.

Nothing of protobuf is imported until ``otlp:`` is declared.
"""

from __future__ import annotations

from collections.abc import Mapping

from watchbill.otlp.export import Export
from watchbill.otlp.export import Parts as ExportParts
from watchbill.otlp.tally import OtlpStatistics

__all__ = ["Export", "ExportParts", "OtlpStatistics", "resource_attributes"]


def resource_attributes(*, version: str, instance: str) -> Mapping[str, str]:
    """Who exports, by the semantic conventions for services."""
    known = {"service.name": "watchbill", "service.version": version, "service.instance.id": instance}
    return {name: value for name, value in known.items() if value}
