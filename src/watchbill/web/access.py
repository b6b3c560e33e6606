"""Who may ask how often: the rate limit and basic authentication of the web configuration, and the route prefix.

Health is asked by service managers, which know no password and must not be told that others ask too much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from watchbill.domain.web import RateLimit
from watchbill.web.live import Live
from watchbill.web.passwords import Passwords, Verdict

HEALTH_PATHS: Final = frozenset({"/-/healthy", "/-/ready", "/health", "/health/ready"})
CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="watchbill", charset="UTF-8"'}


class Prefixed:
    """ASGI around ASGI: routes lie below a prefix (``""``: none), ``/`` leads there, and nothing is outside of it."""

    def __init__(self, app: ASGIApp, *, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._prefix:
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path.startswith(f"{self._prefix}/"):
            scope["root_path"] = (
                self._prefix
            )  # routes are matched on what follows (ASGI, HTTP connection scope)
            await self._app(scope, receive, send)
        elif path in {"/", self._prefix} and scope["method"] in {"GET", "HEAD"}:
            await RedirectResponse(f"{self._prefix}/", 302)(scope, receive, send)
        else:
            error = f"nothing is here; everything lies below {self._prefix}/"
            await JSONResponse({"error": error}, 404)(scope, receive, send)


class Admitted:
    """ASGI around ASGI: what may not come in ends here; health lies below ``prefix``."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        live: Live,
        passwords: Passwords,
        monotonic: Callable[[], float],
        prefix: str = "",
    ) -> None:
        self._app = app
        self._live = live
        self._passwords = passwords
        self._bucket = Bucket(monotonic)
        self._open = frozenset(f"{prefix}{path}" for path in HEALTH_PATHS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open:
            refusal = await self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> ASGIApp | None:
        settings = self._live.settings
        if settings.rate_limit is not None and not self._bucket.takes(settings.rate_limit):
            return _too_many("more requests than rate_limit allows")
        if not settings.users:
            return None
        said = Headers(scope=scope).get("authorization", "")
        client = scope.get("client")
        verdict = await self._passwords.judge(settings.users, said, address=client[0] if client else "")
        match verdict:
            case Verdict.RIGHT:
                return None
            case Verdict.BUSY:
                return _too_many("too many passwords wait to be checked")
            case Verdict.WRONG:
                what = "this user or password is wrong" if said else "a user and a password are needed"
                return PlainTextResponse(f"Unauthorized: {what}.\n", 401, headers=CHALLENGE)


def _too_many(error: str) -> ASGIApp:
    return PlainTextResponse(f"Too Many Requests: {error}; try again.\n", 429, headers={"Retry-After": "1"})


class Bucket:
    """A token bucket, full at first. Another limit begins with a full one."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._limit: RateLimit | None = None
        self._tokens = 0.0
        self._seen = 0.0

    def takes(self, limit: RateLimit) -> bool:
        now = self._monotonic()
        if limit != self._limit:
            self._limit, self._tokens, self._seen = limit, float(limit.burst), now
        self._tokens = min(limit.burst, self._tokens + (now - self._seen) / limit.interval_seconds)
        self._seen = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
