"""What the web is given: the running application as far as it is shown, and its own limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from anyio.lowlevel import checkpoint
from starlette.responses import Response

from watchbill.board import Board, CheckState
from watchbill.bus import Bus
from watchbill.clock import Clock
from watchbill.domain.config import LoadedConfig
from watchbill.ports import Offload, ResultRepository

T = TypeVar("T")

SLICE = 100


class Exposition(Protocol):
    """``/metrics``: content type and body, in parts."""

    async def expose(self, accept: str) -> tuple[str, list[bytes]]: ...


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

    async def each(self, states: Iterable[CheckState], shown: Callable[[CheckState], T]) -> list[T]:
        """Show many checks, letting probes run in between."""
        answers = []
        for index, state in enumerate(list(states)):
            answers.append(shown(state))
            if index % SLICE == SLICE - 1:
                await checkpoint()
        return answers

    async def json(self, document: Any, status: int = 200) -> Response:
        """A large document as JSON, encoded where it does not hold the event loop."""
        body = await self.offload(_encoded, document)
        return Response(body, status, media_type="application/json")


def _encoded(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"), default=str).encode()
