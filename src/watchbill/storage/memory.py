"""History in this process alone: for a library's user, a simulation, and `--storage memory:`.

It answers every question as the DuckDB store does, without threads or files, and forgets all at the end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

from watchbill.domain.discovery import TargetGroup, in_order
from watchbill.domain.errors import StorageError
from watchbill.domain.history import Batch, Coverage, StoredResult
from watchbill.domain.messages import (
    CheckDeleted,
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckStatusChanged,
    CheckSucceeded,
    ConfigReloaded,
    HeartbeatReceived,
    SlotSkipped,
    SlotsMissed,
    TargetsFound,
)
from watchbill.domain.opening import Opening
from watchbill.domain.results import Outcome, Trigger
from watchbill.domain.schedule import Span
from watchbill.domain.status import Flip
from watchbill.domain.units import SECOND, Instant
from watchbill.ports import HistoryCopy, StorageStatistics
from watchbill.storage.ledger import Ledger, SpanRecord
from watchbill.storage.rows import (
    Row,
    latest_horizon,
    quantile,
    result_of,
    row_of,
    row_of_skipped,
    stored_result_of,
)

VERDICTS = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ERROR)


@dataclass(slots=True)
class _Kept:
    """What a location is accounted for, and its merged gaps."""

    since: Instant
    until: Instant
    gaps: list[tuple[Instant, Instant]] = field(default_factory=list)


class MemoryStorage:
    """A :class:`~watchbill.ports.Storage` of lists and dictionaries."""

    def __init__(self, *, location: str = "") -> None:
        self._location = location
        self._ledger = Ledger(seal_key=b"kept in memory only")
        self._spans: dict[int, list[SpanRecord]] = defaultdict(list)
        self._rows: dict[int, list[Row]] = defaultdict(list)
        self._gaps: list[SlotsMissed] = []
        self._flips: dict[int, Flip] = {}
        self._heartbeats: dict[int, Instant] = {}
        self._groups: dict[str, dict[str, TargetGroup]] = defaultdict(dict)
        self._accounted: dict[str, Instant] = {}
        self._kept_since: Instant = 0
        self._last: Batch | None = None

    # --- writing ------------------------------------------------------------------------------------

    async def commit(self, batch: Batch) -> None:
        if batch is self._last:
            return
        for event in batch.events:
            self._take(event)
        for span in self._ledger.changes.spans:
            self._spans[span.key].append(span)
        self._ledger.written()
        known = self._accounted.get(self._location, batch.accounted_until)
        self._accounted[self._location] = max(known, batch.accounted_until)
        self._last = batch

    def _take(self, event: object) -> None:
        match event:
            case CheckSucceeded() | CheckFailed() | CheckErrored():
                self._append(row_of(event.result))
            case SlotSkipped():
                self._append(row_of_skipped(event))
            case CheckRegistered():
                self._ledger.register(event)
            case CheckDeleted():
                self._ledger.delete(event)
            case ConfigReloaded():
                self._ledger.retire_others(event.loaded.config.checks, event.at)
            case SlotsMissed():
                self._gaps.append(event)
            case HeartbeatReceived():
                self._heartbeats[self._ledger.locate(event.check_id, event.at)[0]] = event.at
            case TargetsFound():
                groups = self._groups[event.discovery]
                for source in event.gone:
                    groups.pop(source, None)
                groups.update({group.source: group for group in event.changed})
            case CheckStatusChanged():
                self._flips[self._ledger.locate(event.flip.check_id, event.flip.at)[0]] = event.flip
            case _:
                pass  # what is not history (a rejected configuration, a service's roll-up)

    def _append(self, row: Row) -> None:
        self._rows[self._ledger.locate(row.check_id, row.slot)[0]].append(row)

    async def prune(self, before: Instant) -> int:
        gone = 0
        for rows in self._rows.values():
            kept = [row for row in rows if row.slot >= before]
            gone += len(rows) - len(kept)
            rows[:] = kept
        for spans in self._spans.values():
            spans[:] = [span for span in spans if span.closed_at is None or span.closed_at >= before]
        self._gaps = [gap for gap in self._gaps if gap.end > before]
        self._kept_since = max(self._kept_since, before)
        return gone

    async def reopen(self) -> None:
        return

    async def close(self) -> None:
        return

    def copied(self) -> AbstractAsyncContextManager[HistoryCopy]:
        """:raises StorageError: always."""
        raise StorageError("history is kept in memory only; there is nothing to copy", retryable=False)

    def statistics(self) -> StorageStatistics:
        return StorageStatistics("memory:")

    # --- reading ------------------------------------------------------------------------------------

    async def opening(self, location: str) -> Opening:
        accounted_until = self._accounted.get(location)
        if accounted_until is None:
            return Opening()
        names = {identity.key: identity for identity in self._ledger.current()}
        spans = {
            names[span.key].check_id: span.named(names[span.key].check_id)
            for span in self._ledger.open_spans(location)
            if span.key in names
        }
        counts: Counter[str] = Counter()
        latest: dict[str, Row] = {}
        longest = max((span.interval for span in spans.values()), default=0)
        for key, identity in names.items():
            rows = [row for row in self._rows.get(key, ()) if row.location == location]
            counts[identity.check_id] = sum(
                row.slot >= accounted_until and row.trigger == Trigger.SCHEDULE for row in rows
            )
            if found := _newest(rows, after=latest_horizon(accounted_until, longest)):
                latest[identity.check_id] = found
        return Opening(
            accounted_until=accounted_until,
            spans=spans,
            latest={check_id: replace(result_of(row), check_id=check_id) for check_id, row in latest.items()},
            statuses={names[key].check_id: flip.after for key, flip in self._flips.items() if key in names},
            rows_since={check_id: count for check_id, count in counts.items() if count},
            registered_at={identity.check_id: identity.valid_from for identity in names.values()},
            heartbeats={names[key].check_id: at for key, at in self._heartbeats.items() if key in names},
            targets={
                name: tuple(in_order(groups.values())) for name, groups in self._groups.items() if groups
            },
            newest=self._newest_instant(location),
        )

    def _newest_instant(self, location: str) -> Instant:
        spans = (span for spans in self._spans.values() for span in spans if span.location == location)
        ends = (max(span.opened_at, span.closed_at or 0) for span in spans)
        slots = (row.slot for rows in self._rows.values() for row in rows if row.location == location)
        return max((*ends, *slots), default=0)

    async def spans(self, check_id: str) -> Sequence[Span]:
        found = [span for key in self._ledger.keys_named(check_id) for span in self._spans[key]]
        return [
            span.named(check_id) for span in sorted(found, key=lambda span: (span.opened_at, span.location))
        ]

    async def results(
        self, check_id: str, *, since: Instant, until: Instant, limit: int
    ) -> Sequence[StoredResult]:
        rows = [
            row
            for key in self._ledger.keys_named(check_id)
            for row in self._rows[key]
            if since <= row.slot < until
        ]
        rows.sort(key=lambda row: row.slot, reverse=True)
        return [replace(stored_result_of(row), check_id=check_id) for row in rows[:limit]]

    async def coverage(self, *, since: Instant, until: Instant) -> Sequence[Coverage]:
        kept = {
            location: _Kept(
                max(since, self._kept_since), min(until, accounted), _merged(self._gaps, location)
            )
            for location, accounted in self._accounted.items()
        }
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for key in sorted(self._spans.keys() | self._rows.keys()):
            for location in kept:
                groups[self._ledger.name_of(key), location].append(key)
        answers = [
            self._covered(check_id, location, keys, kept[location])
            for (check_id, location), keys in sorted(groups.items())
        ]
        return [answer for answer in answers if answer is not None]

    def _covered(self, check_id: str, location: str, keys: Sequence[int], kept: _Kept) -> Coverage | None:
        spans = [span.named("") for key in keys for span in self._spans[key] if span.location == location]
        rows = [
            row
            for key in keys
            for row in self._rows[key]
            if row.location == location
            and row.trigger == Trigger.SCHEDULE
            and kept.since <= row.slot < kept.until
        ]
        # Slots in [since, until) are those in (since - 1, until - 1].
        expected = sum(span.expected(kept.since - 1, kept.until - 1) for span in spans)
        if not expected and not rows:
            return None
        outcomes = Counter(row.outcome for row in rows)
        missed = sum(
            span.expected(max(start, kept.since) - 1, min(end, kept.until) - 1)
            for span in spans
            for start, end in kept.gaps
        ) - sum(_inside(kept.gaps, row.slot) for row in rows)
        latencies = sorted(
            row.duration / SECOND
            for row in rows
            if row.outcome == Outcome.SUCCESS and row.duration is not None and row.stalled is None
        )
        revision = self._ledger.revision_of(keys[-1])
        return Coverage(
            check_id=check_id,
            location=location,
            service=revision.service,
            type=revision.type,
            expected=expected,
            success=outcomes[Outcome.SUCCESS],
            failure=outcomes[Outcome.FAILURE],
            error=outcomes[Outcome.ERROR],
            skipped=outcomes[Outcome.SKIPPED],
            excused=outcomes[Outcome.EXCUSED],
            missed=missed,
            unaccounted=expected - len(rows) - missed,
            latency_p50=quantile(latencies, 0.5),
            latency_p95=quantile(latencies, 0.95),
            latency_p99=quantile(latencies, 0.99),
        )


def _newest(rows: Iterable[Row], *, after: Instant) -> Row | None:
    found = [row for row in rows if row.outcome in VERDICTS and row.slot >= after]
    return max(found, key=lambda row: row.slot, default=None)


def _merged(gaps: Iterable[SlotsMissed], location: str) -> list[tuple[Instant, Instant]]:
    """Gaps may overlap: a slot that lies in two of them was missed once."""
    merged: list[tuple[Instant, Instant]] = []
    for start, end in sorted((gap.start, gap.end) for gap in gaps if gap.location == location):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _inside(gaps: Sequence[tuple[Instant, Instant]], slot: Instant) -> bool:
    place = bisect_left(gaps, (slot + 1,)) - 1
    return place >= 0 and gaps[place][0] <= slot < gaps[place][1]
