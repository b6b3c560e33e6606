"""HTTP by another way than a new connection to the url's host: over a proxy, a unix socket, a kept connection, h2.

The plain way is :class:`~watchbill.probes.transport.ProbeTransport`, which this one extends; a check that declares
nothing of the kind never gets here.
"""

from __future__ import annotations

import re

import anyio

from watchbill.domain.checks import Http
from watchbill.domain.proxies import Proxy
from watchbill.domain.reach import is_literal, is_numeric
from watchbill.domain.results import Reason
from watchbill.domain.units import Instant
from watchbill.fence import GuardedAddressError, judge
from watchbill.ports import Connection, Network, NetworkError
from watchbill.probes import http2, proxies
from watchbill.probes.answer import Reply
from watchbill.probes.attempt import Attempt
from watchbill.probes.connections import connect, open_socket, record_session, resolve, shut
from watchbill.probes.http2 import Http2Answer, Http2Session
from watchbill.probes.kept import KeepableAnswer, Kept, Link, Origin
from watchbill.probes.transport import ALPN, Outgoing, ProbeTransport, forget_the_last_hop

MOST_DRAINED_BYTES = 64 * 1024
"""Of a redirect's body, to use its connection again; a longer one costs more than a new connection..."""
MOST_DRAINED_SECONDS = 0.1
"""...and so does one that is not sent at once."""
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_LOST = frozenset({Reason.RESET, Reason.TLS})


def is_plain(check: Http) -> bool:
    """Whether the check takes a new connection to its host and nothing else."""
    return check.proxy is None and check.unix_socket is None and not check.http2 and check.connection == "new"


class WayTransport(ProbeTransport):
    """``kept``: where a connection to be used again stays between probes; without it none is."""

    def __init__(
        self, check: Http, attempt: Attempt, network: Network, *, kept: Kept | None, opened_at: Instant
    ) -> None:
        super().__init__(network, attempt, tls=check.tls, ip_family=check.ip_family)
        self._check = check
        self._declared = network
        self._kept = kept if check.connection == "reuse" else None
        self._opened_at = opened_at
        self._home: Origin | None = None
        self._link: Link | None = None
        self._reply: KeepableAnswer | Http2Answer | None = None

    async def exchange(self, outgoing: Outgoing) -> Reply:
        """As the plain one does. A kept connection that turns out to be closed is replaced, once."""
        origin = (outgoing.secure, outgoing.host, outgoing.port)
        first = self._home is None
        self._home = self._home or origin
        if not first:
            await self._drain()
        link = self._link if self._link is not None and self._link.origin == origin else None
        if link is None or self._foreign or not self._can_go_on(link):
            await self.aclose()
            link = await self._take(origin) if first else None
        if first and self._kept is not None:
            self._attempt.facts["connection_reused"] = link is not None
        if link is None:
            return await self._ask(await self._open(outgoing, origin), outgoing)
        try:
            return await self._ask(link, outgoing)
        except NetworkError as error:
            if error.reason not in _LOST or (self._reply is not None and self._reply.heard):
                raise
        # Closed while it was idle, which is no fault of the target's (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
        self._attempt.facts |= {"connection_reused": False, "connection_reopened": True}
        await self._close()
        return await self._ask(await self._open(outgoing, origin), outgoing)

    async def aclose(self) -> None:
        link = self._link
        if (
            link is not None
            and self._kept is not None
            and link.origin == self._home
            and self._can_go_on(link)
        ):
            self._link = None
            await self._kept.put(self._check, link)
        await self._close()

    # --- connections --------------------------------------------------------------------------------

    async def _close(self) -> None:
        link, self._link = self._link, None
        self._forget_reply()
        if link is not None:
            await shut(link.connection)

    def _forget_reply(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.release()

    async def _take(self, origin: Origin) -> Link | None:
        link = await self._kept.take(self._check, origin) if self._kept is not None else None
        if link is not None:
            self._link, self.session = link, link.session
            self._attempt.facts |= link.facts
            if link.session is not None:
                record_session(link.session, self._attempt)
        return link

    def _can_go_on(self, link: Link) -> bool:
        """Whether another request may follow the last one, now or with the next probe."""
        if self._kept is None or link.foreign or self._reply is None:
            return False
        return self._reply.again

    async def _drain(self) -> None:
        """Receive the rest of a redirect, so that its connection can be used again."""
        size = 0
        if self._kept is None or self._reply is None:
            return
        try:
            with anyio.move_on_after(MOST_DRAINED_SECONDS):
                async for piece in self._reply:
                    size += len(piece)
                    if size > MOST_DRAINED_BYTES:
                        return
        except NetworkError:
            return  # nobody judges that body

    async def _open(self, outgoing: Outgoing, origin: Origin) -> Link:
        facts = self._attempt.facts
        forget_the_last_hop(facts)
        self.session, facts["ssl"] = None, False
        connection = await self._reach(outgoing)
        self._link = link = Link(origin, connection, self._opened_at, self._foreign)
        if self._check.proxy is not None:
            self._attempt.facts["proxy"] = self._check.proxy.url
            by_address = self._check.proxy.scheme == "socks5"
            host = await self._looked_up(outgoing.host) if by_address else outgoing.host
            async with proxies.told_of(self._check.proxy):
                await self._pass(connection, self._check.proxy, host, outgoing)
        if outgoing.secure:
            alpn = http2.ALPN if self._check.http2 else ALPN
            link.session = await self._start_tls(connection, outgoing.host, alpn)
            if link.session.protocol == "h2" and self._check.http2:
                link.http2 = Http2Session(connection)
        known = ("address", "ip_protocol", "proxy", "ssl")
        link.facts = {name: facts[name] for name in known if name in facts}
        return link

    async def _reach(self, outgoing: Outgoing) -> Connection:
        """Connect to the first thing on the way: the socket, the proxy or the host."""
        if self._check.unix_socket is not None:
            return await self._reach_socket(self._check.unix_socket, outgoing)
        if self._check.proxy is not None:
            self._judge_unresolved(outgoing.host)
            async with proxies.told_of(self._check.proxy):
                host, port = self._check.proxy.place
                address = await resolve(self._declared, self._attempt, host, self._ip_family)
                return await connect(self._declared, self._attempt, address, port)
        address = await resolve(self._network, self._attempt, outgoing.host, self._ip_family)
        return await self._connect_to(address, outgoing.port)

    async def _reach_socket(self, path: str, outgoing: Outgoing) -> Connection:
        if (outgoing.secure, outgoing.host, outgoing.port) != self._home:
            raise NetworkError(
                Reason.REDIRECT,
                f"redirect to {outgoing.host}:{outgoing.port} refused: a unix socket leads only to the url's own origin",
            )
        return await open_socket(self._network, self._attempt, path)

    async def _pass(self, connection: Connection, proxy: Proxy, host: str, outgoing: Outgoing) -> None:
        """From the proxy on: its own TLS, then a tunnel, unless it forwards plain requests by itself."""
        if proxy.scheme == "https":
            await proxies.secure(connection, proxy)
        if proxy.scheme.startswith("socks") or outgoing.secure:
            await proxies.open_tunnel(connection, proxy, host, outgoing.port)

    async def _looked_up(self, host: str) -> str:
        self._attempt.phases.start("resolve")
        address = await self._network.resolve(host, self._ip_family)
        self._attempt.phases.start("connect")
        self._judge(address)
        return address

    def _judge_unresolved(self, host: str) -> None:
        """What the proxy may have to look up. One that asks the C library takes more for an address than we do."""
        if is_literal(host):
            self._judge(host)
        elif is_numeric(host) or not _NAME.fullmatch(host):
            whose = f"redirect to {host} refused: it" if self._foreign else host
            raise NetworkError(
                Reason.REDIRECT if self._foreign else Reason.DNS,
                f"{whose} is neither a name nor an IP address in full",
            )

    def _judge(self, address: str) -> None:
        """What somebody else connects to for us."""
        try:
            judge(self._network, address)
        except GuardedAddressError as error:
            raise self._refused(error) from None

    # --- requests -----------------------------------------------------------------------------------

    async def _ask(self, link: Link, outgoing: Outgoing) -> Reply:
        phases = self._attempt.phases
        phases.start("processing")
        self._forget_reply()
        if link.http2 is not None:
            reply: KeepableAnswer | Http2Answer = link.http2.ask(outgoing)
        else:
            reply = KeepableAnswer(
                link.connection, bodiless=outgoing.bodiless, upgradable=outgoing.upgradable
            )
            self._reply = reply
            await link.connection.send(self._wire(outgoing))
        self._reply = self.answer = reply
        await reply.read_head()
        phases.start("transfer")
        self._attempt.facts["http_version"] = reply.version
        self._judge_proxy(reply)
        return reply

    def _wire(self, outgoing: Outgoing) -> bytes:
        proxy = self._check.proxy
        if proxy is None or outgoing.secure or proxy.scheme.startswith("socks"):
            return outgoing.wire
        return proxies.forwarded(outgoing, proxy).wire

    def _judge_proxy(self, reply: Reply) -> None:
        proxy = self._check.proxy
        if proxy is None or proxy.scheme.startswith("socks"):
            return  # who answers is the target
        if reply.status == 407 and not (self._link and self._link.origin[0]):
            self._attempt.status_code = reply.status
            raise NetworkError(Reason.REFUSED, f"proxy {proxy.url}: it wants a login it takes (407)")
