"""Where the exporter's own numbers come from: each part hands out its ``statistics()``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from watchbill.board import Histogram
from watchbill.bus import BusStatistics
from watchbill.domain.units import Instant


class SchedulerNumbers(Protocol):
    """``delay``: from a slot's instant to the start of its probe. ``lag``: how late the loop woke."""

    @property
    def delay(self) -> Histogram: ...
    @property
    def lag(self) -> Histogram: ...
    @property
    def running(self) -> int: ...


class WriterNumbers(Protocol):
    """Rows committed and dropped, events waiting, commits and their failures."""

    @property
    def rows(self) -> int: ...
    @property
    def dropped_rows(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def commit_seconds(self) -> Histogram: ...
    @property
    def failures(self) -> int: ...


class StorageNumbers(Protocol):
    """Bytes on disk and in memory, where they are known; how often history had to be mended, and batches that are gone
    although they had been acknowledged."""

    @property
    def size_bytes(self) -> int | None: ...
    @property
    def memory_bytes(self) -> int | None: ...
    @property
    def repairs(self) -> int: ...
    @property
    def lost_batches(self) -> int: ...


class LogNumbers(Protocol):
    @property
    def dropped(self) -> int: ...


class HttpNumbers(Protocol):
    """``requests`` by route template, method and status code; ``durations`` by route template."""

    @property
    def requests(self) -> Mapping[tuple[str, str, int], int]: ...
    @property
    def durations(self) -> Mapping[str, Histogram]: ...


class DiscoveryNumbers(Protocol):
    """Of one block: its checks, targets that became none, checks kept against the source, and how the source does."""

    @property
    def checks(self) -> int: ...
    @property
    def invalid(self) -> int: ...
    @property
    def duplicate(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def succeeded_at(self) -> float: ...


class WebNumbers(Protocol):
    """How the last readings of the web configuration went; ``handshake_failures`` by reason, ``None`` without TLS."""

    @property
    def successful(self) -> bool: ...
    @property
    def succeeded_at(self) -> Instant: ...
    @property
    def failures(self) -> int: ...
    @property
    def handshake_failures(self) -> Mapping[str, int] | None: ...


class OtlpNumbers(Protocol):
    """By signal (and reason): spans and data points that were exported or given up, requests that failed; spans waiting."""

    @property
    def exported(self) -> Mapping[str, int]: ...
    @property
    def dropped(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def failures(self) -> Mapping[str, int]: ...
    @property
    def pending(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """One callable a part; a part that is not there has no families."""

    bus: Callable[[], BusStatistics] | None = None
    scheduler: Callable[[], SchedulerNumbers] | None = None
    writer: Callable[[], WriterNumbers] | None = None
    storage: Callable[[], StorageNumbers] | None = None
    log: Callable[[], LogNumbers] | None = None
    http: Callable[[], HttpNumbers] | None = None
    discovery: Callable[[], Mapping[str, DiscoveryNumbers]] | None = None
    web: Callable[[], WebNumbers] | None = None
    otlp: Callable[[], OtlpNumbers | None] | None = None
