"""The whole exposition: every check's cached lines, family by family, and the families over all checks.

The lines of a check are made anew only when its state has changed, or its result has grown stale. With many
checks that is done in slices, so that a scrape never holds the event loop for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version as version_of

from anyio import sleep
from anyio.lowlevel import checkpoint

from watchbill.board import Board, CheckState
from watchbill.clock import Clock
from watchbill.domain.checks import Check
from watchbill.domain.messages import ConfigRejected, ConfigReloaded
from watchbill.domain.status import Status
from watchbill.domain.units import Instant
from watchbill.metrics.checks import CHECK_FAMILIES, Row, fresh_until, row_of
from watchbill.metrics.exposition import OPENMETRICS, OPENMETRICS_END, TEXT, Family, prefers_openmetrics
from watchbill.metrics.labels import CheckLabels, labels_of
from watchbill.metrics.own import OwnFamilies
from watchbill.metrics.samples import reading_of
from watchbill.metrics.sources import Sources
from watchbill.readings import Reading

SLICE_SECONDS = 0.001
PAUSE_SECONDS = 0.005
PATIENCE_SECONDS = 2.0
"""For so long from when it was asked for a scrape lets late probes go first; ten seconds is what Prometheus waits for it."""


@dataclass(slots=True)
class _Kept:
    """A check's lines and what they were made from."""

    state: CheckState
    check: Check
    version: int
    status: Status
    fresh_until: Instant
    stale: bool
    labels: CheckLabels
    row: Row

    def is_of(self, state: CheckState) -> bool:
        """Made from this very revision of this check."""
        return self.state is state and self.check is state.check

    def holds_for(self, state: CheckState, now: Instant) -> bool:
        return (
            self.version == state.version
            and self.status is state.status
            and (now > self.fresh_until) is self.stale
            and self.is_of(state)
        )


class Metrics:
    """``/metrics``: a projection of the board and of the parts' own numbers."""

    def __init__(
        self,
        board: Board,
        clock: Clock,
        sources: Sources | None = None,
        *,
        version: str | None = None,
        slots_are_late: Callable[[], bool] = lambda: False,
    ) -> None:
        self._board = board
        self._clock = clock
        self._slots_are_late = slots_are_late
        self._own = OwnFamilies(
            board=board,
            clock=clock,
            sources=sources or Sources(),
            version=version_of("watchbill") if version is None else version,
        )
        self._kept: dict[str, _Kept] = {}

    # --- subscribers --------------------------------------------------------------------------------

    def reloaded(self, event: ConfigReloaded) -> None:
        self._own.reloads.reloaded(event)

    def rejected(self, event: ConfigRejected) -> None:
        self._own.reloads.rejected(event)

    # --- for others ---------------------------------------------------------------------------------

    def read(self, state: CheckState, now: Instant) -> Reading:
        """The same numbers as values."""
        return reading_of(state, now, options=self._board.options)

    # --- the page -----------------------------------------------------------------------------------

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and body, at once; for a few checks, and for tests."""
        now = self._clock.now()
        rows = [self._row(state, now) for state in self._board.checks.values()]
        openmetrics = prefers_openmetrics(accept)
        return _type(openmetrics), b"".join(self._parts(rows, openmetrics=openmetrics))

    async def expose(self, accept: str = "", *, asked_at: float | None = None) -> tuple[str, list[bytes]]:
        """The same in parts, letting others run in between. A check deleted meanwhile is not there.

        ``asked_at``: since when (monotonic) somebody waits for it, maybe behind other scrapes: now, if nothing is said.
        """
        now, monotonic = self._clock.now(), self._clock.monotonic
        rows: dict[str, Row] = {}
        patience = (monotonic() if asked_at is None else asked_at) + PATIENCE_SECONDS
        slice_ends = monotonic() + SLICE_SECONDS
        for check_id, state in list(self._board.checks.items()):
            rows[check_id] = self._row(state, now)
            if monotonic() >= slice_ends:
                await self._make_way(patience)
                slice_ends = monotonic() + SLICE_SECONDS
        await self._make_way(patience)
        openmetrics = prefers_openmetrics(accept)
        body = []
        present = [row for check_id, row in rows.items() if check_id in self._board.checks]
        for part in self._parts(present, openmetrics=openmetrics):
            body.append(part)
            await self._make_way(patience)
        return _type(openmetrics), body

    async def _make_way(self, patience: float) -> None:
        """A scrape can wait, a slot that is due cannot."""
        await checkpoint()
        while self._slots_are_late() and self._clock.monotonic() < patience:
            await sleep(PAUSE_SECONDS)

    def _parts(self, rows: list[Row], *, openmetrics: bool) -> Iterator[bytes]:
        """One part a family that has samples."""
        self._forget_deleted()
        columns: Iterable[Row] = zip(*rows, strict=True)
        for family, column in zip(CHECK_FAMILIES, columns, strict=False):
            yield _block(family, column, openmetrics=openmetrics)
        for family, text in self._own.blocks():
            yield _block(family, (text.encode(),), openmetrics=openmetrics)
        if openmetrics:
            yield OPENMETRICS_END.encode()

    def _row(self, state: CheckState, now: Instant) -> Row:
        kept = self._kept.get(state.check.id)
        if kept is not None and kept.holds_for(state, now):
            return kept.row
        labels = kept.labels if kept is not None and kept.is_of(state) else labels_of(state)
        until = fresh_until(state)
        stale = now > until
        row = row_of(state, labels, stale=stale, options=self._board.options)
        self._kept[state.check.id] = _Kept(
            state, state.check, state.version, state.status, until, stale, labels, row
        )
        return row

    def _forget_deleted(self) -> None:
        if len(self._kept) > len(self._board.checks):
            self._kept = {key: kept for key, kept in self._kept.items() if key in self._board.checks}


def _type(openmetrics: bool) -> str:
    return OPENMETRICS if openmetrics else TEXT


def _block(family: Family, lines: Row, *, openmetrics: bool) -> bytes:
    """The family with its header; nothing where it has no sample."""
    if not any(lines):
        return b""
    return b"".join((family.header(openmetrics=openmetrics).encode(), *lines))
