"""The name servers of a machine: one question to one after the other, and whose fault it is where none answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import isfinite

import anyio
import dns.name
import dns.rcode

from watchbill.dnsquery import (
    Query,
    Reply,
    ask_datagrams,
    ask_stream,
    is_truncated,
    make_query,
    read_reply,
    show_name,
)
from watchbill.domain.results import Reason
from watchbill.net.hostfiles import ResolvConf
from watchbill.ports import Connection, Datagrams, NetworkError

LAST_WORD_SECONDS = 0.1
LAST_WORD_SHARE = 0.1
"""How long before the caller's deadline a lookup gives up, so that it can still say who was silent: more than the
event loop lags, but no more than that share of what is left."""
CONFIRMED_WITHIN_SECONDS = 1.0
CONFIRMED_WITHIN_SHARE = 0.25
"""How long before that a server that said nothing is asked once more, beside a question of which it knows the answer."""
_SPOKE = frozenset({Reason.PROTOCOL, Reason.TOO_LARGE})
_GOOD = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})
_FATAL = frozenset({Reason.DESCRIPTORS, Reason.PERMISSION, Reason.INTERNAL})


@dataclass(slots=True)
class _Inquiry:
    """One question on its way through the servers: who said what instead of answering it, and who answered another."""

    silent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    fatal: list[tuple[Reason, str]] = field(default_factory=list)
    others_answered: list[str] = field(default_factory=list)


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
        self._answered: deque[Query] = deque(maxlen=2)
        """The last two questions of different names that had a good answer."""

    async def ask(self, query: Query, conf: ResolvConf) -> tuple[str, Reply]:
        """Ask one server after the other until one gives an answer, be it that there is nothing.

        :raises NetworkError: ``dns`` where it is the name's fault, ``resolver`` where the servers answer nothing.
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
        between two lookups is not taken for silence about one name. Who has failed is asked the other question alone.
        """
        found: list[tuple[str, Reply]] = []
        within = anyio.current_effective_deadline() - anyio.current_time()
        within = min(within, CONFIRMED_WITHIN_SECONDS) / 2

        async def once_more(server: str) -> None:
            with anyio.move_on_after(within):
                if await self._answers_another(server, query, good=bool(failed)):
                    inquiry.others_answered.append(server)
            if failed:
                return
            try:
                answer = await self._ask(server, query, inquiry, within=within)
            except NetworkError as error:
                inquiry.fatal.append((error.reason, error.message))
                return
            if answer is not None:
                found.append((server, answer))
                group.cancel_scope.cancel()

        failed = tuple(inquiry.failed)
        async with anyio.create_task_group() as group:
            for server in failed or conf.nameservers:
                group.start_soon(once_more, server, name=f"ask {server} once more")
        if inquiry.fatal and not found:
            raise NetworkError(*inquiry.fatal[0])
        return found[0] if found else None

    async def _answers_another(self, server: str, query: Query, *, good: bool) -> bool:
        """Whether it answers at all; with ``good``, whether it still knows a name that it knew before."""
        known = next((each for each in self._answered if each.text != query.text), None)
        if good and known is None:
            return True  # of one name alone nobody can tell whose fault it is
        other = known or make_query(dns.name.root, "NS")
        try:
            answer = read_reply(await self._exchange(server, other), other)
        except NetworkError as error:
            return error.reason in _SPOKE and not good
        return not good or answer.rcode in _GOOD

    async def _ask(self, server: str, query: Query, inquiry: _Inquiry, *, within: float) -> Reply | None:
        inquiry.silent[server] = f"{server} is silent"
        try:
            with anyio.move_on_after(within) as waiting:
                packet = await self._exchange(server, query)
            if waiting.cancelled_caught:
                return None
            answer = read_reply(packet, query)
        except NetworkError as error:
            if error.reason in _FATAL:
                raise
            told = inquiry.failed if error.reason in _SPOKE else inquiry.silent
            told[server] = error.message
            return None
        if answer.rcode in _GOOD:
            if not any(query.text == each.text for each in self._answered):
                self._answered.appendleft(query)
            return answer
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
        name, others = show_name(query.name), bool(inquiry.others_answered)
        if inquiry.failed:
            failures = "; ".join(inquiry.failed.values())
            if others or self._declared:
                return NetworkError(Reason.DNS, f"{name} cannot be resolved ({failures})")
            return NetworkError(Reason.RESOLVER, f"no name server knows any name ({failures})")
        silence = "; ".join(inquiry.silent.values()) or "there was no time to ask"
        if others:
            return NetworkError(
                Reason.DNS, f"{name} cannot be resolved (no answer, while others get theirs: {silence})"
            )
        return NetworkError(Reason.RESOLVER, f"no name server answers ({silence})")


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
