"""What every request must be and every response carries, whatever the route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY_BYTES = 64 << 10
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NOTHING_ALLOWED = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
PLAIN_HEADERS = {**_HEADERS, "Content-Security-Policy": NOTHING_ALLOWED}
"""On what is no page."""


class Guarded:
    """ASGI around ASGI: bounded request bodies, and the same headers on every response.

    ``configured`` are those of the web configuration; they replace ours, and those of a page.
    """

    def __init__(self, app: ASGIApp, *, configured: Callable[[], Mapping[str, str]] = dict) -> None:
        self._app = app
        self._configured = configured

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._configured().items():
                    headers[name] = value
                for name, value in PLAIN_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if _declared_length(scope) > LARGEST_BODY_BYTES:
            await _too_large()(scope, receive, with_headers)
        else:
            await self._app(scope, _bounded(receive), with_headers)


def _declared_length(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "0")
    return int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 20 else 0


def _bounded(receive: Receive) -> Receive:
    """Bodies of unknown length are counted while they come."""
    seen = 0

    async def receive_bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > LARGEST_BODY_BYTES:
            raise HTTPException(413, f"a request body is at most {LARGEST_BODY_BYTES} bytes")
        return message

    return receive_bounded


def _too_large() -> JSONResponse:
    error = f"a request body is at most {LARGEST_BODY_BYTES} bytes"
    return JSONResponse({"error": error}, 413, headers={"Connection": "close"})


def refuse_cross_site(request: Request) -> None:
    """Let only programs and our own pages change things: a browser says where a request comes from.

    Fetch Metadata where the browser sends it, else Origin against Host; a program sends neither.

    :raises HTTPException: 403 for a page of another site.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        allowed = site in {"same-origin", "none"}
    else:
        origin = request.headers.get("origin")
        allowed = origin is None or _authority(origin) == request.headers.get("host", "").lower()
    if not allowed:
        raise HTTPException(403, "a page of another site may not do this")


def _authority(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
