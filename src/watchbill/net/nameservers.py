"""The name servers of a machine: one question to one after the other, and whose fault it is where none answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import isfinite

import anyio
import dns.rcode

from watchbill.dnsquery import (
    Query,
    Reply,
    ask_datagrams,
    ask_stream,
    is_truncated,
    read_reply,
    show_name,
)
from watchbill.domain.results import Reason
from watchbill.net.hostfiles import ResolvConf
from watchbill.net.witnesses import FATAL, Witnesses
from watchbill.ports import Connection, Datagrams, NetworkError

LAST_WORD_SECONDS = 0.1
LAST_WORD_SHARE = 0.1
"""How long before the caller's deadline a lookup gives up, so that it can still say who was silent: more than the
event loop lags, but no more than that share of what is left."""
CONFIRMED_WITHIN_SECONDS = 1.0
CONFIRMED_WITHIN_SHARE = 0.25
"""How long before that a server that said nothing is asked once more, after a question of another name."""
_SPOKE = frozenset({Reason.PROTOCOL, Reason.TOO_LARGE})
_GOOD = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})


class FailingServersError(NetworkError):
    """``resolver``: the servers answered, which leaves time, but know nothing."""


@dataclass(slots=True)
class _Inquiry:
    """One question on its way through the servers: who said what instead of answering it, and who is in order."""

    silent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    fatal: list[tuple[Reason, str]] = field(default_factory=list)
    in_order: list[bool | None] = field(default_factory=list)

    def blames_the_name(self) -> bool | None:
        """Whether one server at least is in order; ``None``: nobody can tell of all of them."""
        if True in self.in_order:
            return True
        return None if None in self.in_order or not self.in_order else False


class NameServers:
    """``declared``: a check's own, of which it matters what it says, and not this machine's."""

    def __init__(
        self,
        *,
        open_datagrams: Callable[[str, int], Awaitable[Datagrams]],
        connect: Callable[[str, int], Awaitable[Connection]],
        port: int,
        declared: bool,
    ) -> None:
        self._open_datagrams = open_datagrams
        self._connect = connect
        self._port = port
        self._declared = declared
        self._witnesses = Witnesses(self._answer)

    async def ask(self, query: Query, conf: ResolvConf) -> tuple[str, Reply]:
        """Ask one server after the other until one gives an answer, be it that there is nothing.

        :raises NetworkError: ``dns`` where it is the name's fault, ``resolver`` where it is the servers', ``timeout``
            where there was too little time to tell.
        """
        inquiry, last = _Inquiry(), _last_moment()
        with anyio.CancelScope(deadline=_moment_to_confirm(last)):
            for _ in range(conf.attempts):
                for server in conf.nameservers:
                    if server in inquiry.failed:
                        continue
                    answer = await self._ask(server, query, inquiry, within=conf.timeout_seconds)
                    if answer is not None:
                        return server, answer
        with anyio.CancelScope(deadline=last):
            found = await self._confirm(query, conf, inquiry)
            if found is not None:
                return found
        raise self._unanswered(query, inquiry)

    async def _confirm(self, query: Query, conf: ResolvConf, inquiry: _Inquiry) -> tuple[str, Reply] | None:
        """Ask once more, after another question: who says nothing to either is out of order.

        Who answers the other one was there just before this one is asked again, so that an outage that begins or ends
        between two lookups is not taken for silence about one name. Who has failed is asked the other question alone;
        a declared server not even that, since its failure matters whatever else it knows.
        """
        found: list[tuple[str, Reply]] = []
        failed = tuple(inquiry.failed)
        if failed and self._declared:
            return None
        within = anyio.current_effective_deadline() - anyio.current_time()
        within = min(within, CONFIRMED_WITHIN_SECONDS) / 2

        async def once_more(server: str) -> None:
            refused = server in inquiry.refused
            try:
                inquiry.in_order.append(
                    await self._witnesses.is_in_order(
                        server, query, refused=refused, search=conf.search, within_seconds=within
                    )
                )
                answer = None if failed else await self._ask(server, query, inquiry, within=within)
            except NetworkError as error:
                inquiry.fatal.append((error.reason, error.message))
                return
            if answer is not None:
                found.append((server, answer))
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for server in failed or conf.nameservers:
                group.start_soon(once_more, server, name=f"ask {server} once more")
        if inquiry.fatal and not found:
            raise NetworkError(*inquiry.fatal[0])
        return found[0] if found else None

    async def _answer(self, server: str, query: Query) -> Reply:
        return read_reply(await self._exchange(server, query), query)

    async def _ask(self, server: str, query: Query, inquiry: _Inquiry, *, within: float) -> Reply | None:
        inquiry.silent[server] = f"{server} is silent"
        try:
            with anyio.move_on_after(within) as waiting:
                packet = await self._exchange(server, query)
            if waiting.cancelled_caught:
                return None
            answer = read_reply(packet, query)
        except NetworkError as error:
            if error.reason in FATAL:
                raise
            told = inquiry.failed if error.reason in _SPOKE else inquiry.silent
            told[server] = error.message
            return None
        if answer.rcode in _GOOD:
            self._witnesses.note(query, answer)
            return answer
        if answer.rcode == dns.rcode.REFUSED:
            inquiry.refused.add(server)
        inquiry.failed[server] = f"{dns.rcode.to_text(dns.rcode.Rcode(answer.rcode))} from {server}"
        return None

    async def _exchange(self, server: str, query: Query) -> bytes:
        channel = await self._open_datagrams(server, self._port)
        try:
            packet = await ask_datagrams(query, channel)
        finally:
            await channel.close()
        if not is_truncated(packet):
            return packet
        connection = await self._connect(server, self._port)
        try:
            return await ask_stream(query, connection)
        finally:
            await connection.close()

    def _unanswered(self, query: Query, inquiry: _Inquiry) -> NetworkError:
        """It is our own side's fault only where the servers have nothing to say of other names either."""
        name, failures = show_name(query.name), "; ".join(inquiry.failed.values())
        said = failures or "; ".join(inquiry.silent.values()) or "there was no time to ask"
        blames_the_name = True if failures and self._declared else inquiry.blames_the_name()
        if blames_the_name:
            others = "" if failures else "no answer, while others get theirs: "
            return NetworkError(Reason.DNS, f"{name} cannot be resolved ({others}{said})")
        if blames_the_name is None:
            return NetworkError(Reason.TIMEOUT, f"{name} could not be looked up in the time left ({said})")
        if failures:
            return FailingServersError(Reason.RESOLVER, f"no name server knows any name ({said})")
        return NetworkError(Reason.RESOLVER, f"no name server answers ({said})")


def _last_moment() -> float:
    deadline = anyio.current_effective_deadline()
    left = deadline - anyio.current_time()
    return deadline - min(LAST_WORD_SECONDS, LAST_WORD_SHARE * max(left, 0.0)) if isfinite(left) else deadline


def _moment_to_confirm(last: float) -> float:
    left = last - anyio.current_time()
    return (
        last - min(CONFIRMED_WITHIN_SECONDS, CONFIRMED_WITHIN_SHARE * max(left, 0.0))
        if isfinite(left)
        else last
    )
