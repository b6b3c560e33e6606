"""Whose fault it is that a name server has no answer for a name: its own, or the name's.

Something outside the name's zone tells: a name of another zone that had addresses before, and where that has none, the
name servers of the root. Whoever knows one of them is in order; whoever knows neither is out of order.

- A zone is taken to be the last two labels, since nobody can tell from a name where the next one begins.
- Only addresses make a witness: a name server without any way out still says NXDOMAIN of what lies in its own zones. And
  no name within the search list is one, since it is those zones that a name server has from elsewhere, or is itself.
- A name server that refuses to speak of the root and yet treats the name in another way has a rule about the root, and
  its refusal says nothing of it; the name's failure is then the name's. One that refuses both serves us nothing.
- That one is out of order is remembered for a while, so that an outage is not asked about by every check. That it is in
  order is not, since it may have ceased to be: who blames a name has asked for another one just now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import anyio
import dns.name
import dns.rcode

from watchbill.dnsquery import Query, Reply, make_query, parse_name
from watchbill.domain.results import Reason
from watchbill.ports import NetworkError

ZONES_KEPT = 8
OUTAGE_SECONDS = 3.0
"""How long the finding holds that a name server is out of order."""
TELLING_SECONDS = 0.05
"""Silence that is shorter says nothing of a name server."""
FATAL = frozenset({Reason.DESCRIPTORS, Reason.PERMISSION, Reason.INTERNAL})
_GOOD = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})
_Zone: TypeAlias = tuple[bytes, ...]


@dataclass(slots=True)
class _Outage:
    """``refuses``: what it says of everything, names as well."""

    until: float
    refuses: bool


class Witnesses:
    """``ask``: one question to one server, whose answer it returns."""

    def __init__(self, ask: Callable[[str, Query], Awaitable[Reply]]) -> None:
        self._ask = ask
        self._known: dict[_Zone, Query] = {}
        """The last question of each zone that was answered with addresses, the latest last."""
        self._outages: dict[str, _Outage] = {}

    def note(self, query: Query, reply: Reply) -> None:
        """What a server has just answered."""
        if not _has_addresses(query, reply):
            return
        zone = _zone(query.name)
        self._known.pop(zone, None)
        self._known[zone] = query
        if len(self._known) > ZONES_KEPT:
            del self._known[next(iter(self._known))]

    async def is_in_order(
        self, server: str, query: Query, *, refused: bool, search: Iterable[str], within_seconds: float
    ) -> bool | None:
        """What its failure or silence about ``query`` says of a server; ``None``: there was no time to tell.

        ``refused``: that was its answer. ``search``: the domains of the search list.

        :raises NetworkError: this machine could not ask.
        """
        now, outage = anyio.current_time(), self._outages.get(server)
        if outage is not None and (refused or not outage.refuses):
            if now < outage.until:
                return False
            outage.until = now + within_seconds  # meanwhile one asks for all
        if await self._knows_another(server, self._other(query, search), within_seconds / 2):
            self._outages.pop(server, None)
            return True
        said = await self._said_of_the_root(server, now + within_seconds - anyio.current_time())
        if said is None and within_seconds < TELLING_SECONDS:
            return None
        if said in _GOOD or (said == dns.rcode.REFUSED and not refused):
            self._outages.pop(server, None)
            return True
        until = anyio.current_time() + OUTAGE_SECONDS
        self._outages[server] = _Outage(until, refuses=said == dns.rcode.REFUSED)
        return False

    def _other(self, query: Query, search: Iterable[str]) -> Query | None:
        """The latest that is of another zone, and of none in the search list."""
        zone, domains = _zone(query.name), list(_names(search))
        return next(
            (
                known
                for place, known in reversed(self._known.items())
                if place != zone and not any(known.name.is_subdomain(domain) for domain in domains)
            ),
            None,
        )

    async def _knows_another(self, server: str, other: Query | None, within_seconds: float) -> bool:
        if other is None:
            return False
        with anyio.move_on_after(within_seconds):
            reply = await self._reply(server, other)
            return reply is not None and _has_addresses(other, reply)
        return False

    async def _said_of_the_root(self, server: str, within_seconds: float) -> int | None:
        """A response code, that of a failure for what cannot be read; ``None``: nothing."""
        with anyio.move_on_after(within_seconds):
            reply = await self._reply(server, make_query(dns.name.root, "NS"))
            return dns.rcode.SERVFAIL if reply is None else reply.rcode
        return None

    async def _reply(self, server: str, query: Query) -> Reply | None:
        """``None``: nobody was there to give one, or it cannot be read."""
        try:
            return await self._ask(server, query)
        except NetworkError as error:
            if error.reason in FATAL:
                raise
            return None


def _has_addresses(query: Query, reply: Reply) -> bool:
    return any(kind == query.record for _, kind in reply.answers)


def _zone(name: dns.name.Name) -> _Zone:
    return tuple(label.lower() for label in name.labels[-3:-1])


def _names(texts: Iterable[str]) -> Iterable[dns.name.Name]:
    for text in texts:
        try:
            yield parse_name(text)
        except ValueError:
            continue
