"""Counting what HTTP clients asked for, and the border where an unforeseen error ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watchbill.board import Histogram

BOUNDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
CLIENT_GONE = 499
"""Counted where a client hung up before its answer."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HttpStatistics:
    """``requests`` by route template, method and status code; ``durations`` by route template."""

    requests: Mapping[tuple[str, str, int], int]
    durations: Mapping[str, Histogram]


class HttpTally:
    """The counts. A route is its template and a method one of a closed set, so that nobody can swell them."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, Histogram] = {}

    def add(self, *, route: str, method: str, code: int, seconds: float) -> None:
        key = (route, method if method in METHODS else "other", code)
        self._requests[key] = self._requests.get(key, 0) + 1
        if route not in self._durations:
            self._durations[route] = Histogram.over(BOUNDS)
        self._durations[route].observe(seconds)

    def statistics(self) -> HttpStatistics:
        return HttpStatistics(self._requests, self._durations)


class Tallied:
    """ASGI around ASGI: one count a request, whatever happens inside."""

    def __init__(self, app: ASGIApp, *, tally: HttpTally, monotonic: Callable[[], float]) -> None:
        self._app = app
        self._tally = tally
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, code = self._monotonic(), 0

        async def watched(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:  # the border: a defect in one page must not end the server
            log.exception("http.failed", path=scope["path"])
            if not code:
                await our_error()(scope, receive, watched)
        finally:
            self._tally.add(
                route=template_of(scope),
                method=scope["method"],
                code=code or CLIENT_GONE,
                seconds=self._monotonic() - started,
            )


def our_error() -> JSONResponse:
    return JSONResponse({"error": "an error of our own; the log says more"}, 500)


def template_of(scope: Scope) -> str:
    """The matched route as it was declared, such as ``/api/v1/checks/{check_id}``."""
    return str(getattr(scope.get("route"), "path", UNMATCHED))
