"""Everything that is not a pure function, as the shapes the core asks for.

Implementations do not inherit these; a typing test assigns each of them. Fakes are in
:mod:`watchbill.testing`, the real ones in ``net``, ``storage``, ``config`` and ``serve``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from watchbill.clock import Clock
from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.credentials import TlsOptions
from watchbill.domain.history import Batch, Coverage, StoredResult
from watchbill.domain.opening import Opening
from watchbill.domain.reach import IpChoice
from watchbill.domain.results import Reason, Result
from watchbill.domain.schedule import Span
from watchbill.domain.units import Instant
from watchbill.exchange import HttpAnswer as HttpAnswer  # noqa: PLC0414 - mypy: these are part of this module
from watchbill.exchange import HttpClient as HttpClient  # noqa: PLC0414
from watchbill.exchange import HttpError as HttpError  # noqa: PLC0414
from watchbill.exchange import NoHttp as NoHttp  # noqa: PLC0414

T = TypeVar("T")

# --- the network --------------------------------------------------------------------------------------


class NetworkError(Exception):
    """What the network answered instead of working, already as a reason.

    ``reason`` is of our own side (``descriptors``, ``network``, ``resolver``, ``permission``) only where that
    is certain.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate as it was shown. Instants are in microseconds since the epoch, 0 where none could be read."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: Instant
    not_after: Instant
    sha256: str
    serial: str


@dataclass(frozen=True, slots=True)
class TlsSession:
    """A finished handshake. ``problem`` says which rule the certificate broke; ``None``: it verified.

    ``chain`` is what the server sent, leaf first. ``protocol`` is what was agreed on of those offered (ALPN).
    """

    version: str
    cipher: str
    chain: tuple[Certificate, ...]
    problem: str | None
    protocol: str = ""

    @property
    def earliest_expiry(self) -> Instant | None:
        """Of those whose end could be read."""
        return min((shown.not_after for shown in self.chain if shown.not_after), default=None)


class Connection(Protocol):
    """A stream to one address."""

    async def send(self, data: bytes) -> None:
        """:raises NetworkError: ``reset``, when the peer is gone."""
        ...

    async def receive(self) -> bytes:
        """The next bytes, at most 64 KiB; ``b""`` at the end.

        :raises NetworkError: ``reset``, or ``tls`` where the record layer fails.
        """
        ...

    async def start_tls(
        self, options: TlsOptions, *, server_name: str, alpn: tuple[str, ...] = ()
    ) -> TlsSession:
        """Shake hands without refusing; the caller looks at ``problem`` before it sends anything.

        Once more on the same connection is TLS within TLS, as through a proxy.

        ``alpn``: the protocols to offer (``http/1.1``), none by default: a strict server refuses a wrong one.

        :raises NetworkError: ``tls`` where the handshake fails (an alert, no TLS spoken, a reset).
        """
        ...

    def is_idle(self) -> bool:
        """Whether it can be used again: nothing came that was not received, and the peer did not hang up."""
        ...

    async def close(self) -> None:
        """Idempotent; never suspends, so that it needs no shield, and never raises."""
        ...


class Datagrams(Protocol):
    """UDP to and from one address."""

    async def send(self, data: bytes) -> None:
        """:raises NetworkError: ``internal`` where it cannot leave this machine, or what was said of the last one."""
        ...

    async def receive(self) -> bytes:
        """:raises NetworkError: ``refused`` where the host says that nobody listens."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EchoReply:
    """One ICMP echo answered."""

    round_trip_seconds: float
    hop_limit: int | None


class Network(Protocol):
    """The world outside. No call has a time limit of its own: callers cancel."""

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        """One literal address for ``host`` (a literal is returned as it is), IPv6 first if none is asked for.

        :raises NetworkError: ``dns`` where the name has no such address, ``resolver`` where nobody could be asked.
        """
        ...

    async def connect(self, address: str, port: int) -> Connection:
        """One attempt to one literal address.

        :raises NetworkError: ``refused``, ``unreachable``, ``reset``, ``descriptors``, ``network``, ``permission``.
        """
        ...

    async def connect_unix(self, path: str) -> Connection:
        """The same to a socket in the file system. :raises NetworkError: as ``connect``."""
        ...

    def via(self, *, resolver: str | None = None, source: str | None = None) -> Network:
        """This network, but with that DNS server (``address[:port]``) for names and that address to send from."""
        ...

    async def open_datagrams(self, address: str, port: int) -> Datagrams: ...

    async def echo(self, address: str, *, timeout_seconds: float) -> EchoReply | None:
        """One ICMP echo request; ``None`` when no reply came in time.

        :raises NetworkError: ``unreachable``, ``network``, or ``permission`` where the kernel allows no ICMP socket.
        """
        ...

    def nameserver(self) -> tuple[str, int]:
        """The system's first name server, address and port.

        :raises NetworkError: ``resolver`` where none is configured.
        """
        ...


class LookUp(Protocol):
    """Ask DNS for all records of one type of a name."""

    async def __call__(self, name: str, record: str, *, resolver: str | None = None) -> Sequence[str]:
        """In the form of a zone file, aliases followed; none where the name does not exist or has none of them.

        ``resolver``: the server to ask (``address[:port]``), without the search list that the system's get.

        :raises NetworkError: nobody can tell.
        """
        ...


async def no_look_up(name: str, record: str, *, resolver: str | None = None) -> Sequence[str]:
    """A :class:`LookUp` where none was handed in."""
    raise NetworkError(Reason.INTERNAL, "no way to ask DNS was handed in")


# --- history ------------------------------------------------------------------------------------------


class CheckRepository(Protocol):
    """What was declared when: identities and spans."""

    async def opening(self, location: str) -> Opening: ...

    async def spans(self, check_id: str) -> Sequence[Span]:
        """All spans of a check (under its present id, renames followed), the oldest first."""
        ...


class ResultRepository(Protocol):
    """What was found: rows, and what they add up to."""

    async def results(
        self, check_id: str, *, since: Instant, until: Instant, limit: int
    ) -> Sequence[StoredResult]:
        """Rows with a slot in [since, until), the newest first."""
        ...

    async def coverage(self, *, since: Instant, until: Instant) -> Sequence[Coverage]:
        """Slots in [since, until) that are accounted for, by check and location; ids sorted."""
        ...


@dataclass(frozen=True, slots=True)
class HistoryCopy:
    """All of a history at one moment, as a file to be read once: ``rows`` of results in ``size_bytes``."""

    size_bytes: int
    rows: int
    chunks: AsyncIterator[bytes]


class Copies(Protocol):
    """What can be copied while it is written to."""

    def copied(self) -> AbstractAsyncContextManager[HistoryCopy]:
        """What had been committed until now; gone with the end of the block.

        :raises StorageError: it cannot be made, for want of room above all.
        """
        ...


@dataclass(frozen=True, slots=True)
class StorageStatistics:
    """What a store knows of itself.

    ``memory_bytes``: what it keeps in memory, of history above all, so that it need not read it again;
    ``repairs``: how often it had to mend itself; ``lost_batches``: acknowledged, and gone all the same.
    """

    url: str
    size_bytes: int | None = None
    memory_bytes: int | None = None
    repairs: int = 0
    lost_batches: int = 0


class Storage(CheckRepository, ResultRepository, Protocol):
    """A store: both repositories, and the one way into it."""

    async def commit(self, batch: Batch) -> None:
        """All or nothing, durable on return. Committing the same batch again after an unknown outcome is safe.

        :raises StorageError: nothing of the batch was kept.
        """
        ...

    async def prune(self, before: Instant) -> int:
        """Delete rows of slots before that instant; how many went."""
        ...

    async def reopen(self) -> None:
        """After a failure: close what is left of the store and open it again.

        :raises StorageError: it still does not work.
        """
        ...

    def statistics(self) -> StorageStatistics: ...

    async def close(self) -> None: ...


# --- the rest -----------------------------------------------------------------------------------------

LoadConfig: TypeAlias = Callable[[Mapping[str, Check]], Awaitable[LoadedConfig]]
"""``load(running)``: read and validate the configuration, others running meanwhile.

What is declared as it runs is better the object that runs: it need not be compared. Raises
:class:`~watchbill.domain.errors.ConfigError`.
"""

WayLost: TypeAlias = Callable[[str, str | None], str | None]
"""``way_lost(address, source)``: why nothing can leave this machine for there just now, by what the kernel says at
once; ``None`` where it can."""

RandomBytes: TypeAlias = Callable[[int], bytes]
"""``random_bytes(count)``: as many bytes that nobody can foresee."""

Execute: TypeAlias = Callable[..., Awaitable[Result]]
"""``execute(check, slot=..., trigger=...)``: one probe, bounded by the check's timeout; never raises for a target."""


class Offload(Protocol):
    """Run a pure function where it does not hold the event loop (a thread; inline in simulation)."""

    async def __call__(self, function: Callable[..., T], *args: Any) -> T: ...


class FilesError(Exception):
    """A file, or what files there are, cannot be read; its text says why in one line."""


class Files(Protocol):
    """Files that change while the exporter runs, looked at where it holds nobody."""

    async def look(self, patterns: Sequence[str]) -> Mapping[str, str]:
        """Every file that fits one of the patterns, sorted, and what tells one state of it from another.

        :raises FilesError: it cannot be said what is there; what does not exist is simply not among them.
        """
        ...

    async def read(self, path: str, most: int) -> bytes:
        """:raises FilesError: it cannot be read, or has more than ``most`` bytes."""
        ...


class NoFiles:
    """:class:`Files` of which there are none, where none were handed in."""

    async def look(self, patterns: Sequence[str]) -> Mapping[str, str]:
        raise FilesError(f"nobody looks for {', '.join(patterns)} here")

    async def read(self, path: str, most: int) -> bytes:
        raise FilesError(f"nobody reads {path} here")


class UnjudgedError(Exception):
    """What was sent could not be judged; its text says why. That is our own side's failure."""


class Judge(Protocol):
    """Hold what a stranger sent against what is expected, where it holds nobody else (a process; inline in simulation)."""

    async def __call__(self, function: Callable[..., T], content: Sequence[bytes], *arguments: Any) -> T:
        """``function(content, *arguments)``, the parts of the content joined; all of it can be pickled.

        No time limit of its own: cancelling ends it, whatever it is doing.

        :raises UnjudgedError: it took too much memory, or its process ended.
        """
        ...


def no_randomness(_count: int) -> bytes:
    raise LookupError("nobody brought random bytes")


@dataclass(frozen=True, slots=True)
class Ports:
    """All that the application needs from outside; ``serve.py`` brings the real ones."""

    clock: Clock
    network: Network
    storage: Storage
    load_config: LoadConfig
    offload: Offload
    judge: Judge
    way_lost: WayLost = lambda _address, _source: None
    http: HttpClient = field(default_factory=NoHttp)
    look_up: LookUp = no_look_up
    files: Files = field(default_factory=NoFiles)
    random_bytes: RandomBytes = no_randomness
    environment: Mapping[str, str] = field(default_factory=dict)
    """Where a pod is told of its cluster."""


Checks: TypeAlias = Mapping[str, Check]
