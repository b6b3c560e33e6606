"""``/api/v1``: what runs and what was found, as JSON."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio
from anyio.lowlevel import checkpoint
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from watchbill.board import CheckState
from watchbill.domain.checks import Heartbeat
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import StorageError, UnknownCheckError
from watchbill.domain.messages import RecordHeartbeat
from watchbill.domain.specs import spec_of
from watchbill.domain.units import SECOND, Instant, Micros
from watchbill.web.answers import (
    Json,
    check_answer,
    check_detail,
    coverage_answer,
    moment,
    settings_answer,
    spec_answer,
    stored_answer,
)
from watchbill.web.backup import Backups
from watchbill.web.encoding import SLICE, encoded, encoded_list, encoded_object, object_of
from watchbill.web.guard import refuse_cross_site
from watchbill.web.instants import parse_instant, parse_limit
from watchbill.web.parts import Parts
from watchbill.web.targets import Targets

T = TypeVar("T")

MOST_RESULTS = 10_000
MOST_QUESTIONS = 16
COMPARE_EVERY: Micros = SECOND


class Digests(BaseModel):
    """Secrets to compare without showing them: id -> path -> HMAC-SHA256(nonce, secret), in hex."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    nonce: str = Field(pattern="^([0-9a-f]{2}){8,64}$")
    digests: dict[str, dict[str, str]]


class Api:
    """The endpoints. The configuration's answer is kept for as long as that configuration runs."""

    def __init__(self, parts: Parts, backups: Backups) -> None:
        self._parts = parts
        self._backups = backups
        self._targets = Targets(parts)
        self._running = parts.running
        self._compared_at: Instant | None = None
        self._asking = 0
        # Many clients at once must not take turns on the event loop: a probe would wait for a slice of each.
        self._encoding = anyio.Lock()
        self._config_answer: tuple[LoadedConfig, bytes] | None = None

    def add_to(self, app: FastAPI) -> None:
        for path, endpoint, method, summary in (
            ("/config", self.config, "GET", "The running configuration, secrets as their reference text"),
            ("/config/compare", self.compare, "POST", "Which secrets differ, without showing one"),
            ("/checks", self.checks, "GET", "Every check as it stands"),
            ("/checks/{check_id}", self.check, "GET", "One check with all that its last probe saw"),
            ("/checks/{check_id}/results", self.results, "GET", "Stored results, the newest first"),
            ("/report", self.report, "GET", "Every check's slots over a period, by how they ended"),
            (
                "/backup",
                self._backups.take,
                "POST",
                "The whole history as a DuckDB file; needs --web.enable-lifecycle",
            ),
            (
                "/targets/http_sd",
                self._targets.http_sd,
                "GET",
                "The checks as targets, for Prometheus' http_sd",
            ),
            ("/heartbeats/{check_id}", self.heartbeat, "POST", "A job says that it lives"),
        ):
            app.add_api_route(
                f"/api/v1{path}", endpoint, methods=[method], summary=summary, response_model=None
            )

    # --- what runs ----------------------------------------------------------------------------------

    async def config(self) -> Response:
        """Digest, revision, location, and for each check its ``spec``: what was declared beside the defaults."""
        loaded = self._running.loaded
        if self._config_answer is None or self._config_answer[0] is not loaded:
            self._config_answer = (loaded, await self._described(loaded))
        return self._parts.outbox.json(self._config_answer[1])

    async def _described(self, loaded: LoadedConfig) -> bytes:
        rest: Json = {
            "digest": loaded.digest,
            "revision": loaded.revision,
            "location": self._running.location,
            "version": self._parts.version,
            **settings_answer(loaded),
        }
        async with self._encoding:
            checks = await encoded_object(loaded.declared().items(), spec_answer)
        return object_of({**{name: encoded(value) for name, value in rest.items()}, "checks": checks})

    async def compare(self, request: Request) -> Response:
        """Body: ``{"nonce": hex, "digests": {id: {path: hex}}}`` with HMAC-SHA256(nonce, secret).

        Answers the paths of secrets that both sides know and that differ. At most one call a second.
        """
        refuse_cross_site(request)
        now = self._running.clock.now()
        if self._compared_at is not None and now - self._compared_at < COMPARE_EVERY:
            raise HTTPException(429, "secrets are compared once a second", {"Retry-After": "1"})
        self._compared_at = now
        try:
            asked = Digests.model_validate_json(await request.body())
        except ValidationError:
            raise HTTPException(400, 'the body is {"nonce": hex, "digests": {id: {path: hex}}}') from None
        return JSONResponse({"differ": await self._differing(asked)})

    async def _differing(self, asked: Digests) -> dict[str, list[str]]:
        nonce, checks = bytes.fromhex(asked.nonce), self._running.loaded.config.checks
        differ: dict[str, list[str]] = {}
        for index, (check_id, digests) in enumerate(asked.digests.items()):
            secrets = spec_of(checks[check_id]).secrets if check_id in checks else {}
            for path, digest in digests.items():
                secret = secrets.get(path)
                if secret is None:
                    continue
                own = hmac.new(nonce, secret.get_secret_value().encode(), "sha256").hexdigest()
                if not hmac.compare_digest(own.encode(), digest.encode(errors="replace")):
                    differ.setdefault(check_id, []).append(path)
            if index % SLICE == SLICE - 1:
                await checkpoint()
        return differ

    async def checks(self) -> Response:
        """Status, slots by outcome, availability and the latest result of every check, in declared order."""
        board = self._running.board
        async with self._encoding:
            origins = self._running.loaded.discovered
            checks = await encoded_list(list(board.checks.values()), partial(check_answer, origins))
        services = {name: status.value for name, status in board.services.items()}
        return self._parts.outbox.json(object_of({"checks": checks, "services": encoded(services)}))

    async def check(self, check_id: str) -> Response:
        """What ``/checks`` says of it, its spec, and the facts of the last probe."""
        return self._parts.outbox.json(
            encoded(check_detail(self._running.loaded.discovered, self._state(check_id)))
        )

    def _state(self, check_id: str) -> CheckState:
        state = self._running.board.checks.get(check_id)
        if state is None:
            raise _unknown(check_id)
        return state

    # --- what was found -----------------------------------------------------------------------------

    async def results(
        self, check_id: str, since: str = "24h", until: str = "", limit: str = "100"
    ) -> Response:
        """Rows with a slot in [since, until), also of a check that was deleted.

        ``since`` and ``until``: RFC 3339, seconds since the epoch, or a duration back from now.
        """
        start, end = self._period(since, until)
        try:
            most = parse_limit(limit, most=MOST_RESULTS)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        rows = await self._asked(
            partial(self._parts.storage.results, check_id, since=start, until=end, limit=most)
        )
        if not rows and check_id not in self._running.board.checks:
            raise _unknown(check_id)
        async with self._encoding:
            results = await encoded_list(rows, stored_answer)
        return self._parts.outbox.json(object_of({"results": results}))

    async def report(self, since: str = "24h", until: str = "") -> Response:
        """Coverage and latency of every check over [since, until), as far as it is accounted for."""
        start, end = self._period(since, until)
        rows = await self._asked(partial(self._parts.storage.coverage, since=start, until=end))
        async with self._encoding:
            checks = await encoded_list(rows, coverage_answer)
        period = {"since": encoded(moment(start)), "until": encoded(moment(end))}
        return self._parts.outbox.json(object_of({**period, "checks": checks}))

    async def _asked(self, question: Callable[[], Awaitable[T]]) -> T:
        """What history says. Questions outlive a client that hangs up, so those that wait are bounded."""
        if self._asking >= MOST_QUESTIONS:
            raise HTTPException(503, "history is busy with other questions", {"Retry-After": "5"})
        self._asking += 1
        try:
            return await question()
        except StorageError as error:
            raise _unreadable(error) from None
        finally:
            self._asking -= 1

    def _period(self, since: str, until: str) -> tuple[Instant, Instant]:
        now = self._running.clock.now()
        try:
            start = parse_instant(since, now=now)
            end = parse_instant(until, now=now) if until else now
        except (ValueError, OverflowError) as error:
            raise HTTPException(400, str(error)) from None
        if start >= end:
            raise HTTPException(400, f"since must be before until, got {moment(start)} and {moment(end)}")
        return start, end

    # --- what jobs say ------------------------------------------------------------------------------

    async def heartbeat(self, check_id: str, request: Request) -> Response:
        """Where the check declares a token: ``Authorization: Bearer TOKEN`` or ``X-Watchbill-Token: TOKEN``."""
        refuse_cross_site(request)
        state = self._running.board.checks.get(check_id)
        if state is None or not isinstance(state.check, Heartbeat):
            raise HTTPException(404, f"there is no heartbeat check {check_id!r}")
        _authorize(request, state.check)
        try:
            await self._running.bus.send(RecordHeartbeat(check_id))
        except UnknownCheckError:
            raise _unknown(check_id) from None
        return JSONResponse({"check": check_id, "received_at": moment(self._running.clock.now())}, 202)


def _authorize(request: Request, check: Heartbeat) -> None:
    if check.token is None:
        return
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    given = bearer.strip() if scheme.lower() == "bearer" else request.headers.get("x-watchbill-token", "")
    # Header bytes arrive as Latin-1 whatever they mean.
    if not hmac.compare_digest(given.encode("latin-1"), check.token.get_secret_value().encode()):
        raise HTTPException(
            401, "this heartbeat needs its token", {"WWW-Authenticate": 'Bearer realm="watchbill"'}
        )


def _unknown(check_id: str) -> HTTPException:
    return HTTPException(404, f"there is no check {check_id!r}")


def _unreadable(error: StorageError) -> HTTPException:
    return HTTPException(503, f"history cannot be read now: {error}")
