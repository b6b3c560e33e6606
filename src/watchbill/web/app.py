"""The HTTP surface: ``/metrics``, health, reload, the landing page and the API, as one ASGI application."""

from __future__ import annotations

import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import anyio
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from watchbill.domain.errors import WatchbillError
from watchbill.domain.messages import ConfigReloaded
from watchbill.domain.places import NOWHERE, Places
from watchbill.ports import Copies, Offload, ResultRepository
from watchbill.web.access import Admitted, Prefixed
from watchbill.web.answers import change_answer, rejection_answer, reload_answer
from watchbill.web.api import Api
from watchbill.web.backup import Backups
from watchbill.web.encoding import encoded, encoded_list, object_of
from watchbill.web.guard import Guarded, refuse_cross_site
from watchbill.web.large import Outbox
from watchbill.web.live import Live
from watchbill.web.page import landing_page
from watchbill.web.parts import Parts, Running
from watchbill.web.passwords import Passwords
from watchbill.web.reloads import Reloads
from watchbill.web.tally import CLIENT_GONE, HttpTally, Tallied, our_error

T = TypeVar("T")

GZIP_LEVEL = 1
_REFUSED = re.compile(r"q=0(\.0*)?")
NO_LIFECYCLE = (
    "Reloading over HTTP is off. Start the exporter with --web.enable-lifecycle, or send it SIGHUP.\n"
)


async def _inline(function: Callable[..., T], *args: object) -> T:
    return function(*args)


def create_app(
    running: Running,
    *,
    storage: ResultRepository,
    copies: Copies | None = None,
    http: HttpTally,
    offload: Offload = _inline,
    enable_lifecycle: bool = False,
    version: str = "",
    live: Live | None = None,
    passwords: Passwords | None = None,
    places: Places = NOWHERE,
) -> ASGIApp:
    """``offload`` takes the encoding of large answers off the event loop. ``live`` says who may ask; by default everybody."""
    parts = Parts(running, storage, offload, version, enable_lifecycle, Outbox(), places)
    app: ASGIApp = application(parts, Backups(copies, allowed=enable_lifecycle))
    app, monotonic = Prefixed(app, prefix=places.prefix), running.clock.monotonic
    if live is None or passwords is None:
        guarded = Guarded(app)
    else:
        admitted = Admitted(app, live=live, passwords=passwords, monotonic=monotonic, prefix=places.prefix)
        guarded = Guarded(admitted, configured=lambda: live.settings.headers)
    return Tallied(guarded, tally=http, monotonic=monotonic)


def application(parts: Parts, backups: Backups) -> FastAPI:
    """Every route, without what guards and counts the requests."""
    app = FastAPI(
        title="Watchbill",
        version=parts.version or "0",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.add_exception_handler(HTTPException, _as_json)
    app.add_exception_handler(RequestValidationError, _as_bad_request)
    app.add_exception_handler(ClientDisconnect, _as_gone)
    app.add_exception_handler(Exception, _as_our_error)
    Api(parts, backups).add_to(app)
    for path, (endpoint, methods) in Site(parts).routes().items():
        app.add_api_route(path, endpoint, methods=methods, response_model=None, include_in_schema=False)
    return app


class Site:
    """Everything outside the API."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._running = parts.running
        # One after the other: scrapers that come all at once must not share the event loop with probes.
        self._exposing = anyio.Lock()
        self._reloads = Reloads(parts.running.bus.send)

    def routes(self) -> Mapping[str, tuple[Callable[[Request], Awaitable[Response]], list[str]]]:
        read = ["GET", "HEAD"]
        return {
            "/": (self.page, read),
            "/metrics": (self.metrics, read),
            "/-/healthy": (self.healthy, read),
            "/health": (self.healthy, read),
            "/-/ready": (self.ready, read),
            "/health/ready": (self.ready, read),
            "/-/reload": (self.reload, ["POST", "PUT"]),
        }

    async def page(self, request: Request) -> Response:
        return landing_page(self._parts, request.query_params)

    async def metrics(self, request: Request) -> Response:
        zipped = accepts_gzip(request.headers.get("accept-encoding", ""))
        asked_at = self._running.clock.monotonic()
        async with self._exposing:
            content_type, body = await self._running.metrics.expose(
                request.headers.get("accept", ""), asked_at=asked_at
            )
            if zipped:
                body = await self._parts.offload(gzipped, body)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return self._parts.outbox.response(body, headers)

    async def healthy(self, _: Request) -> Response:
        if self._running.healthy():
            return PlainTextResponse("Healthy\n")
        return PlainTextResponse("The event loop has stood still for 30 seconds.\n", 503)

    async def ready(self, _: Request) -> Response:
        if self._running.ready():
            return PlainTextResponse("Ready\n")
        return PlainTextResponse("Not ready: the configuration is being loaded.\n", 503)

    async def reload(self, request: Request) -> Response:
        """Read the configuration again. JSON unless text is asked for."""
        if not self._parts.enable_lifecycle:
            return PlainTextResponse(NO_LIFECYCLE, 403)
        refuse_cross_site(request)
        mass_delete = request.query_params.get("allow_mass_delete", "").lower() in {"true", "1"}
        try:
            events = await self._reloads.ask(allow_mass_delete=mass_delete)
        except WatchbillError as error:
            return _answer(request, rejection_answer(error), 500)
        for event in events:
            if isinstance(event, ConfigReloaded):
                return await self._reloaded(request, event)
        return _answer(request, {"error": "the reload did not say what it did"}, 500)

    async def _reloaded(self, request: Request, event: ConfigReloaded) -> Response:
        answer, plan = reload_answer(event), event.plan
        if request.headers.get("accept", "").startswith("text/plain"):
            return _answer(request, answer, 200)
        checks = {
            "added": encoded(plan.added),
            "changed": await encoded_list(plan.changed, change_answer),
            "removed": encoded(plan.removed),
            "moved": await encoded_list(plan.moved, change_answer),
        }
        members = {name: encoded(value) for name, value in answer.items()}
        return self._parts.outbox.json(object_of({**members, "checks": object_of(checks)}))


def accepts_gzip(header: str) -> bool:
    """RFC 9110 §12.5.3; a weight of 0 refuses."""
    for part in header.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        if coding == "gzip":
            return not any(_REFUSED.fullmatch(parameter) for parameter in parameters)
    return False


def gzipped(parts: Sequence[bytes]) -> list[bytes]:
    """The parts as one gzip stream; zlib lets go of the interpreter while it works."""
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    packed = [packer.compress(part) for part in parts]
    return [*filter(None, packed), packer.flush()]


def _answer(request: Request, answer: dict[str, object], status: int) -> Response:
    """JSON, or ``key: value`` lines for whoever asks for plain text."""
    if request.headers.get("accept", "").startswith("text/plain"):
        return PlainTextResponse("".join(_lines(answer)), status)
    return JSONResponse(answer, status)


def _lines(answer: dict[str, object]) -> list[str]:
    problems = answer.get("problems")
    if isinstance(problems, list):
        return [f"{line}\n" for line in problems]
    return [f"{key}: {value}\n" for key, value in answer.items() if not isinstance(value, dict)]


async def _as_json(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _as_gone(_: Request, error: Exception) -> Response:
    """Nobody reads it; it is counted."""
    return Response(status_code=CLIENT_GONE)


async def _as_our_error(_: Request, error: Exception) -> Response:
    return our_error()


async def _as_bad_request(_: Request, error: Exception) -> Response:
    """What FastAPI could not read of a request; the values stay out of the answer."""
    if not isinstance(error, RequestValidationError):
        raise error
    wrong = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
    return JSONResponse({"error": f"not a valid request: {wrong}"}, 400)
