"""``POST /api/v1/backup``: the whole history as one file, sent to whoever asked.

The client decides where it is written; a request never names a place on the server. It holds as much as the history
file itself, so it is off unless the lifecycle is enabled, and only one is made at a time.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from watchbill.domain.errors import StorageError
from watchbill.ports import Copies
from watchbill.web.guard import refuse_cross_site

NO_BACKUP = "backups over HTTP are off; start the exporter with --web.enable-lifecycle"
COPYING_SECONDS = 3_600.0
A_PIECE_SECONDS = 60.0
MORE_TIME = "watchbill.more_time"
"""An extension of the server: ``from_now(seconds)`` is when the answer under way has to be there."""

MoreTime = Callable[[float], None]


class Backups:
    """The endpoint. ``copies`` is ``None`` where history is kept nowhere that could be copied."""

    def __init__(self, copies: Copies | None, *, allowed: bool) -> None:
        self._copies = copies
        self._allowed = allowed
        self.taking = False

    async def take(self, request: Request) -> Response:
        """Everything committed before this request, as a DuckDB file. ``X-Watchbill-Rows``: how many results it holds."""
        if not self._allowed:
            raise HTTPException(403, NO_BACKUP)
        refuse_cross_site(request)
        if self._copies is None:
            raise HTTPException(409, "history is kept in memory only; there is nothing to copy")
        if self.taking:
            raise HTTPException(503, "another backup is being taken; try again later", {"Retry-After": "30"})
        return _Sent(self, self._copies)


class _Sent(Response):
    """Copies first, then sends; a client that goes on reading is given time for every piece."""

    def __init__(self, backups: Backups, copies: Copies) -> None:
        super().__init__()
        self._backups = backups
        self._copies = copies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extension = (scope.get("extensions") or {}).get(MORE_TIME) or {}
        more_time: MoreTime = extension.get("from_now", lambda _: None)
        more_time(COPYING_SECONDS)
        self._backups.taking = True
        try:
            await self._answer(send, more_time)
        except StorageError as error:
            raise HTTPException(503, f"no backup could be taken: {error}") from None
        finally:
            self._backups.taking = False

    async def _answer(self, send: Send, more_time: MoreTime) -> None:
        async with self._copies.copied() as copy:
            headers = {
                "Content-Type": "application/vnd.duckdb",
                "Content-Length": str(copy.size_bytes),
                "X-Watchbill-Rows": str(copy.rows),
            }
            raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            async for piece in copy.chunks:
                more_time(A_PIECE_SECONDS)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
