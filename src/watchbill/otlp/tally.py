"""What became of spans and data points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Signal: TypeAlias = Literal["metrics", "traces"]
SIGNALS: tuple[Signal, ...] = ("metrics", "traces")
DropReason: TypeAlias = Literal["queue_full", "rejected", "partial", "expired", "stopped", "internal"]
DROP_REASONS: tuple[DropReason, ...] = ("queue_full", "rejected", "partial", "expired", "stopped", "internal")


@dataclass(frozen=True, slots=True)
class OtlpStatistics:
    """Spans (``traces``) and data points (``metrics``) that were taken or given up, requests that failed.

    Every child of the closed sets is there. ``pending``: spans that wait, or are on their way.
    """

    exported: Mapping[str, int]
    dropped: Mapping[tuple[str, str], int]
    failures: Mapping[str, int]
    pending: int


@dataclass(slots=True)
class Tally:
    exported: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def drop(self, signal: Signal, reason: DropReason, count: int) -> None:
        self.dropped[signal, reason] += count

    def statistics(self, *, pending: int) -> OtlpStatistics:
        return OtlpStatistics(
            exported={signal: self.exported[signal] for signal in SIGNALS},
            dropped={
                (signal, reason): self.dropped[signal, reason]
                for signal in SIGNALS
                for reason in DROP_REASONS
                if signal == "traces" or reason != "queue_full"
            },
            failures={signal: self.failures[signal] for signal in SIGNALS},
            pending=pending,
        )
