"""What the web is given: the running application as far as it is shown, and its own limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from watchbill.board import Board
from watchbill.bus import Bus
from watchbill.clock import Clock
from watchbill.domain.config import LoadedConfig
from watchbill.domain.places import NOWHERE, Places
from watchbill.ports import Offload, ResultRepository
from watchbill.web.large import Outbox


class Exposition(Protocol):
    """``/metrics``: content type and body, in parts. ``asked_at``: since when somebody waits for it, on the monotonic clock."""

    async def expose(self, accept: str, *, asked_at: float) -> tuple[str, list[bytes]]: ...


class Running(Protocol):
    """The application as the web sees it."""

    @property
    def loaded(self) -> LoadedConfig: ...
    @property
    def location(self) -> str: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def bus(self) -> Bus: ...
    @property
    def board(self) -> Board: ...
    @property
    def metrics(self) -> Exposition: ...
    def ready(self) -> bool: ...
    def healthy(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Parts:
    running: Running
    storage: ResultRepository
    offload: Offload
    version: str
    enable_lifecycle: bool
    outbox: Outbox
    places: Places = NOWHERE
