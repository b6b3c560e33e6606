"""Connections that outlive a probe, for checks that declare ``connection: reuse``: at most one for each check.

One is closed when its check is deleted or changes, when the process stops, after an hour (so that a new address or
certificate is seen), and wherever the server closed it or said something unasked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from watchbill.domain.checks import Http
from watchbill.domain.messages import CheckDeleted, CheckRegistered
from watchbill.domain.units import SECOND, Instant, Micros
from watchbill.ports import Connection, TlsSession
from watchbill.probes.answer import Answer
from watchbill.probes.connections import shut
from watchbill.probes.http2 import Http2Session

LONGEST_KEPT: Micros = 3_600 * SECOND
Origin = tuple[bool, str, int]
"""Whether over TLS, the host, the port."""


@dataclass(slots=True)
class Link:
    """A connection to an origin with all that is known of it.

    ``foreign``: a stranger led there, so no later probe takes it. ``facts`` are those that a probe over it repeats.
    """

    origin: Origin
    connection: Connection
    opened_at: Instant
    foreign: bool = False
    session: TlsSession | None = None
    http2: Http2Session | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def is_fresh(self, now: Instant) -> bool:
        expiry = self.session.earliest_expiry if self.session is not None else None
        return now < self.opened_at + LONGEST_KEPT and (expiry is None or now < expiry)


class Kept:
    """The idle links, by check. Leaving the block closes them, and whatever comes later."""

    def __init__(self, now: Callable[[], Instant]) -> None:
        self._now = now
        self._links: dict[str, tuple[Http, Link]] = {}
        self._owners: dict[str, Http] = {}
        self._closed = False

    async def take(self, check: Http, origin: Origin) -> Link | None:
        """The check's link, if it still leads there and can be used; it is the caller's from now on."""
        self._owners[check.id] = check
        owner, link = self._links.pop(check.id, (None, None))
        if link is None:
            return None
        if (
            owner is check
            and link.origin == origin
            and link.is_fresh(self._now())
            and link.connection.is_idle()
        ):
            return link
        await shut(link.connection)
        return None

    async def put(self, check: Http, link: Link) -> None:
        """A probe that outlived its check, or this revision of it, keeps nothing for the next."""
        if self._owners.get(check.id) is not check:
            await shut(link.connection)
            return
        await self._forget(check.id)
        if self._closed or not link.is_fresh(self._now()):
            await shut(link.connection)
        else:
            self._links[check.id] = check, link

    async def on_deleted(self, event: CheckDeleted) -> None:
        self._owners.pop(event.check.id, None)
        await self._forget(event.check.id)

    async def on_registered(self, event: CheckRegistered) -> None:
        self._owners.pop(event.check.id, None)
        await self._forget(event.check.id)

    def __len__(self) -> int:
        return len(self._links)

    async def __aenter__(self) -> Kept:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for check_id in list(self._links):
            await self._forget(check_id)

    async def _forget(self, check_id: str) -> None:
        _, link = self._links.pop(check_id, (None, None))
        if link is not None:
            await shut(link.connection)


class KeepableAnswer(Answer):
    """An answer that knows whether another request may follow it. ``heard``: any byte of it came."""

    def __init__(self, connection: Connection, *, bodiless: bool, upgradable: bool = False) -> None:
        super().__init__(connection, bodiless=bodiless, upgradable=upgradable)
        self._delimited = bodiless
        self._more = False

    @property
    def heard(self) -> bool:
        return self._head_bytes > 0

    @property
    def again(self) -> bool:
        """It is complete by its own account, nothing follows, and the server lets the connection stand."""
        if not (self._done and self._delimited) or self._more or self.version != "1.1" or self.status == 101:
            return False
        return b"close" not in b",".join(self.values(b"connection")).lower().replace(b" ", b"").split(b",")

    def on_message_begin(self) -> None:
        self._more = self._more or self._done

    def on_body(self, data: bytes) -> None:
        self._more = self._more or self._done
        super().on_body(data)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._delimited = self._delimited or self._head_done
