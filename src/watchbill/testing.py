"""Fakes that stand in for the ports, held to the same contracts as the real ones.

They run on asyncio and on trio, also on a virtual clock, and need no network, disk or thread.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from watchbill.clock import Timeline
from watchbill.domain.checks import Check, parse_check
from watchbill.domain.config import Config, LoadedConfig, config_digest
from watchbill.domain.credentials import TlsOptions
from watchbill.domain.messages import Command, Event
from watchbill.domain.reach import IpChoice
from watchbill.domain.results import Failure, Outcome, Reason, Result, Trigger
from watchbill.domain.units import SECOND, Instant, Micros
from watchbill.ports import Connection, Datagrams, EchoReply, HttpAnswer, HttpError, NetworkError, TlsSession

T = TypeVar("T")
START: Instant = 1_800_000_000 * SECOND


def virtual_clock(*, start: Instant = START) -> Timeline:
    """A timeline over the running event loop's clock, so that it is virtual where the loop's is."""
    origin = anyio.current_time()

    def elapsed() -> float:
        return anyio.current_time() - origin

    return Timeline(monotonic=elapsed, wall=lambda: start + round(elapsed() * SECOND))


@dataclass(slots=True)
class ManualClock:
    """A clock that stands until it is moved. ``sleep_until`` returns when it has been moved far enough."""

    instant: Instant = START
    wall: Instant = START
    moved: anyio.Event = field(default_factory=anyio.Event)

    def now(self) -> Instant:
        return self.instant

    def monotonic(self) -> float:
        return self.instant / SECOND

    async def sleep_until(self, instant: Instant) -> None:
        while self.instant < instant:
            await self.moved.wait()

    def move(self, micros: Micros) -> None:
        self.instant += micros
        self.wall += micros
        self.moved.set()
        self.moved = anyio.Event()

    def drift(self) -> Micros:
        return self.wall - self.instant

    def correct(self) -> Micros:
        return 0

    def not_before(self, instant: Instant) -> Micros:
        behind = max(0, instant - self.instant)
        self.instant += behind
        return behind


async def inline(function: Callable[..., T], *args: Any) -> T:
    """An :class:`~watchbill.ports.Offload` that does not."""
    return function(*args)


async def judge_inline(function: Callable[..., T], content: Sequence[bytes], *arguments: Any) -> T:
    """A :class:`~watchbill.ports.Judge` that holds everybody."""
    return function(b"".join(content), *arguments)


# --- configuration ------------------------------------------------------------------------------------


def check(check_id: str = "home", **declared: Any) -> Check:
    """A check with as little declared as will do."""
    return parse_check({"id": check_id, "type": "http", "url": f"http://{check_id}.test/", **declared})


def config_of(*checks: Check, **sections: Any) -> LoadedConfig:
    services: dict[str, Any] = {one.service: {} for one in checks if one.service}
    config = Config.model_validate(
        {"services": services, "checks": {one.id: one for one in checks}, **sections}
    )
    return LoadedConfig(config, config_digest(config))


@dataclass(slots=True)
class FakeConfigFile:
    """What ``load_config`` reads: set ``content`` to a configuration or to an error to raise."""

    content: LoadedConfig | Exception

    async def load(self, _: Mapping[str, Check]) -> LoadedConfig:
        await anyio.lowlevel.checkpoint()
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


# --- probing ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class FakeExecute:
    """An :data:`~watchbill.ports.Execute` that is told how long probes take and what they find.

    ``takes`` and ``finds`` are by check id; ``raises`` holds ids whose probe raises.
    """

    clock: Timeline | ManualClock
    takes: dict[str, float] = field(default_factory=dict)
    finds: dict[str, tuple[Failure, ...]] = field(default_factory=dict)
    raises: set[str] = field(default_factory=set)
    started: list[tuple[str, Instant | None, Trigger]] = field(default_factory=list)
    under_way: set[str] = field(default_factory=set)
    overlaps: int = 0

    async def __call__(
        self, check: Check, *, slot: Instant | None = None, trigger: Trigger = Trigger.SCHEDULE
    ) -> Result:
        self.overlaps += check.id in self.under_way
        self.under_way.add(check.id)
        self.started.append((check.id, slot, trigger))
        begun = self.clock.now()
        try:
            await anyio.sleep(self.takes.get(check.id, 0))
        finally:
            self.under_way.discard(check.id)
        if check.id in self.raises:
            raise ZeroDivisionError(check.id)
        failures = self.finds.get(check.id, ())
        return Result(
            check_id=check.id,
            location="",
            slot=begun if slot is None else slot,
            trigger=trigger,
            started_at=begun,
            duration_seconds=(self.clock.now() - begun) / SECOND,
            outcome=Outcome.FAILURE if failures else Outcome.SUCCESS,
            failures=failures,
        )


@dataclass(slots=True)
class Recorder:
    """A subscriber that keeps what it is told, in order."""

    events: list[Event | Command] = field(default_factory=list)

    def __call__(self, event: Event | Command) -> None:
        self.events.append(event)

    def of(self, event_type: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, event_type)]


# --- the network --------------------------------------------------------------------------------------

Answer = Callable[[bytes], "bytes | Awaitable[bytes]"]
"""From all that was received so far to what is said next; ``b""`` waits for more."""


@dataclass(slots=True)
class FakeConnection:
    """A stream whose other end is a function."""

    answer: Answer
    closed: bool = False
    _received: bytes = b""
    _ready: bytes = b""
    _said: anyio.Event = field(default_factory=anyio.Event)
    _ended: bool = False

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self._received += data
        said = self.answer(self._received)
        said = said if isinstance(said, bytes) else await said
        if said:
            self._ready += said
            self._received, self._ended = b"", True
            self._said.set()

    async def receive(self) -> bytes:
        await self._said.wait()
        await anyio.lowlevel.checkpoint()
        data, self._ready = self._ready, b""
        return data

    async def start_tls(
        self, options: TlsOptions, *, server_name: str, alpn: tuple[str, ...] = ()
    ) -> TlsSession:
        await anyio.lowlevel.checkpoint()
        raise NetworkError(Reason.TLS, "this fake speaks no TLS")

    def is_idle(self) -> bool:
        return not (self.closed or self._ready)

    async def close(self) -> None:
        self.closed = True


@dataclass(slots=True)
class FakeNetwork:
    """Names, and what answers behind them: ``servers`` maps (host, port) to an answer or an error."""

    servers: dict[tuple[str, int], Answer | NetworkError] = field(default_factory=dict)
    connections: list[FakeConnection] = field(default_factory=list)
    echoes: Mapping[str, EchoReply | None] = field(default_factory=dict)
    _addresses: dict[str, str] = field(default_factory=dict)

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        await anyio.lowlevel.checkpoint()
        if not any(host == name for name, _ in self.servers):
            raise NetworkError(Reason.DNS, f"{host} has no address (NXDOMAIN)")
        place = sorted({name for name, _ in self.servers}).index(host)
        address = f"192.0.{2 + place // 254}.{1 + place % 254}"
        self._addresses[address] = host
        return address

    async def connect(self, address: str, port: int) -> Connection:
        await anyio.lowlevel.checkpoint()
        server = self.servers.get((self._addresses.get(address, address), port))
        if server is None:
            raise NetworkError(Reason.REFUSED, f"{address}:{port} refused the connection")
        if isinstance(server, NetworkError):
            raise server
        self.connections.append(FakeConnection(server))
        return self.connections[-1]

    async def connect_unix(self, path: str) -> Connection:
        return await self.connect(path, 0)

    def via(self, *, resolver: str | None = None, source: str | None = None) -> FakeNetwork:
        return self

    async def open_datagrams(self, address: str, port: int) -> Datagrams:
        raise NetworkError(Reason.REFUSED, f"{address}:{port} refused the datagram")

    async def echo(self, address: str, *, timeout_seconds: float) -> EchoReply | None:
        reply = self.echoes.get(address)
        await anyio.sleep(timeout_seconds if reply is None else reply.round_trip_seconds)
        return reply

    def nameserver(self) -> tuple[str, int]:
        return "192.0.2.53", 53


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What an :class:`~watchbill.ports.HttpClient` was asked for."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    tls: TlsOptions | None = None


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What a fake server says: ``body`` in the chunks given; ``then`` breaks it off."""

    status: int = 200
    body: Sequence[bytes] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    then: HttpError | None = None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for chunk in self.body:
            await anyio.lowlevel.checkpoint()
            yield chunk
        if self.then is not None:
            raise self.then


@dataclass(slots=True)
class FakeHttp:
    """An :class:`~watchbill.ports.HttpClient` whose servers are one function; an error it returns is raised."""

    answer: Callable[[HttpRequest], HttpReply | HttpError]
    requests: list[HttpRequest] = field(default_factory=list)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        timeout_seconds: float | None,
        idle_seconds: float | None = None,
        tls: TlsOptions | None = None,
        follow_redirects: bool = False,
        allow_link_local: bool = False,
    ) -> AsyncIterator[HttpAnswer]:
        await anyio.lowlevel.checkpoint()
        request = HttpRequest(method, url, headers, body, tls)
        self.requests.append(request)
        reply = self.answer(request)
        if isinstance(reply, HttpError):
            raise reply
        lower = {name.lower(): value for name, value in reply.headers.items()}
        async with aclosing(reply.chunks()) as chunks:
            yield HttpAnswer(reply.status, lower, chunks)


def http_answer(status: int = 200, body: bytes = b"ok", headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """A server that answers every complete request alike."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    response = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    return lambda received: response if b"\r\n\r\n" in received else b""
