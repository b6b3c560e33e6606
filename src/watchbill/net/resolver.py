"""Names to addresses: a stub resolver over hosts(5) and resolv.conf(5), asking anew each time.

Not getaddrinfo, which holds one of a few threads while a server is silent, hides retries behind caches, and takes
``127.1`` and ``0x7f.1`` for addresses. Only the hosts file and DNS are asked (no mDNS, no NIS). Nothing is cached;
of several addresses the first that the server lists is taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import anyio
import dns.name
import dns.rcode

from watchbill.dnsquery import EDNS_PAYLOAD, follow_cnames, make_query, parse_name, show_name
from watchbill.domain.reach import DNS_PORT, IpChoice, IpFamily, is_chosen, preferred_family, split_server
from watchbill.domain.results import Reason
from watchbill.net.hostfiles import (
    Address,
    ResolvConf,
    WatchedFile,
    as_address,
    kind_of,
    parse_hosts,
    parse_interfaces,
    parse_resolv_conf,
)
from watchbill.net.nameservers import FailingServersError, NameServers
from watchbill.ports import Connection, Datagrams, NetworkError

_RECORDS: dict[IpFamily, str] = {4: "A", 6: "AAAA"}
_LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True)
class _Found:
    """What DNS says of one name and one record type; ``said`` by whom and how, where there are no addresses."""

    addresses: tuple[Address, ...]
    said: str = ""


class Resolver:
    """One literal address for a name.

    Order: literals (as they are), ``localhost`` (always loopback, RFC 6761), the hosts file, DNS with the search
    list. Where no family is asked for, A and AAAA are asked at once and IPv6 is taken, provided that this machine
    has an IPv6 address of the same kind (global for global, unique local for unique local: RFC 6724 sorts alike).
    A machine without any IPv6 address beyond its links is given IPv4, and AAAA is asked only where there is no A.
    A loopback name that has both is given IPv4, since that is where most servers listen. A choice of family is
    followed whatever addresses this machine has.

    With ``server`` (``address[:port]``) only that one is asked, with neither the hosts file nor a search list:
    what it says of the name is what was declared to matter.
    """

    def __init__(
        self,
        *,
        open_datagrams: Callable[[str, int], Awaitable[Datagrams]],
        connect: Callable[[str, int], Awaitable[Connection]],
        hosts: Path = Path("/etc/hosts"),
        resolv_conf: Path = Path("/etc/resolv.conf"),
        interfaces: Path = Path("/proc/net/if_inet6"),
        port: int = DNS_PORT,
        server: str | None = None,
    ) -> None:
        self._hosts = WatchedFile(hosts, parse_hosts)
        self._conf = WatchedFile(resolv_conf, parse_resolv_conf)
        self._interfaces = WatchedFile(interfaces, parse_interfaces)
        self._port = port
        self._chosen: ResolvConf | None = None
        if server is not None:
            address, self._port = split_server(server)
            self._chosen = ResolvConf(nameservers=(address,))
        self._servers = NameServers(
            open_datagrams=open_datagrams, connect=connect, port=self._port, declared=server is not None
        )

    def nameserver(self) -> tuple[str, int]:
        """The first name server of resolv.conf.

        :raises NetworkError: ``resolver`` where none is configured.
        """
        return self._configured().nameservers[0], self._port

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        """One address of that family, or of the preferred one.

        :raises NetworkError: ``dns`` where the servers say there is none, or fail for this name; ``resolver`` where
            none of them is in order; ``timeout`` where there was too little time to tell.
        """
        literal = as_address(host)
        if literal is not None:
            if not is_chosen(literal, family):
                raise NetworkError(Reason.DNS, f"{host} is not an IPv{family} address")
            return host
        name = _name(host)
        known = self._choose(self._known(name), family)
        if known is not None:
            return str(known)
        return str(await self._look_up(name, family, absolute=host.endswith(".")))

    async def records(self, host: str, record: str) -> tuple[str, ...]:
        """The texts of all records of that type, of the first name of the search list that exists; none where none does.

        Nothing but DNS is asked. That all of those names do not exist is an answer; that one of them could not be
        asked for is none, as it may be the one, unless a later one has such records.

        :raises NetworkError: nobody can tell, since not all could be asked for; ``protocol``, ``dns``: the answer makes
            no sense.
        """
        try:
            name = parse_name(host)
        except ValueError as error:
            raise NetworkError(Reason.DNS, str(error)) from None
        conf, failed = self._configured(), list[NetworkError]()
        for candidate in _candidates(name, conf, absolute=host.endswith(".")):
            query = make_query(candidate, record, payload=EDNS_PAYLOAD)
            try:
                _, answer = await self._servers.ask(query, conf)
            except NetworkError as error:
                failed.append(error)
                continue
            if answer.rcode == dns.rcode.NOERROR:
                texts = tuple(follow_cnames(answer, query))
                if texts or not failed:
                    return texts
        if failed:
            raise NetworkError(failed[0].reason, failed[0].message)
        return ()

    # --- without asking anybody ---------------------------------------------------------------------

    def _known(self, name: dns.name.Name) -> tuple[Address, ...]:
        text = show_name(name).lower()
        listed = self._hosts.value().get(text, ()) if self._chosen is None else ()
        if text == "localhost" or text.endswith(".localhost"):
            return (*(address for address in listed if address.is_loopback), *_LOOPBACK)
        return listed

    def _choose(self, addresses: Iterable[Address], family: IpChoice | None) -> Address | None:
        """The preferred one of several; ``None`` of none."""
        fitting = [address for address in addresses if is_chosen(address, family)]
        preferred = (address for address in fitting if self._prefers(address, family))
        others = (address for address in fitting if address.version == 4)
        return next(preferred, None) or next(others, None) or next(iter(fitting), None)

    def _prefers(self, address: Address, choice: IpChoice | None) -> bool:
        family = preferred_family(choice)
        if family is not None:
            return address.version == family
        if isinstance(address, IPv4Address) or address.is_loopback:
            return False
        return kind_of(address) in self._interfaces.value()

    def _configured(self) -> ResolvConf:
        if self._chosen is not None:
            return self._chosen
        conf = self._conf.value()
        if not conf.nameservers:
            raise NetworkError(Reason.RESOLVER, "no name server is configured in /etc/resolv.conf")
        return conf

    # --- DNS ----------------------------------------------------------------------------------------

    async def _look_up(self, name: dns.name.Name, family: IpChoice | None, *, absolute: bool) -> Address:
        conf = self._configured()
        said: dict[dns.name.Name, str] = {}
        failing = ""
        for candidate in _candidates(name, conf, absolute=absolute):
            try:
                found = await self._addresses(candidate, family, conf)
            except NetworkError as error:
                # A search domain that is out of order, or is refused, does not hide the name itself.
                if candidate == name or not (
                    error.reason is Reason.DNS or isinstance(error, FailingServersError)
                ):
                    raise
                failing = failing or (error.message if error.reason is Reason.RESOLVER else "")
                continue
            chosen = self._choose(found.addresses, family)
            if chosen is not None:
                return chosen
            said[candidate] = found.said
        if failing and len(name.labels) == 2:  # that one label alone is no name, servers say by themselves
            raise FailingServersError(Reason.RESOLVER, failing)
        # What was said of the name as it is declared tells more than the same of the search list.
        wanted = f"IPv{family} address" if family in (4, 6) else "address"
        raise NetworkError(Reason.DNS, f"{show_name(name)} has no {wanted} ({said[name]})")

    async def _addresses(self, name: dns.name.Name, family: IpChoice | None, conf: ResolvConf) -> _Found:
        if isinstance(family, int):
            return await self._records(name, _RECORDS[family], conf)
        if family is not None or self._interfaces.value():
            return await self._both(name, family, conf)
        found = await self._records(name, "A", conf)
        if found.addresses or "NXDOMAIN" in found.said:
            return found
        other = await self._records(name, "AAAA", conf)
        return _joined(found, other)

    async def _both(self, name: dns.name.Name, choice: IpChoice | None, conf: ResolvConf) -> _Found:
        found: dict[str, _Found] = {}
        # Kept as exceptions they would be in a cycle with this frame.
        errors: list[tuple[type[NetworkError], Reason, str]] = []

        async def ask(record: str) -> None:
            try:
                found[record] = await self._records(name, record, conf)
            except NetworkError as error:
                errors.append((type(error), error.reason, error.message))
            else:
                if any(self._prefers(address, choice) for address in found[record].addresses):
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for record in ("AAAA", "A"):
                group.start_soon(partial(ask, record), name=f"resolve {record}")
        if not any(answer.addresses for answer in found.values()) and errors:
            raised, reason, message = errors[0]
            raise raised(reason, message)
        return _joined(*(found[record] for record in ("A", "AAAA") if record in found))

    async def _records(self, name: dns.name.Name, record: str, conf: ResolvConf) -> _Found:
        query = make_query(name, record)
        server, answer = await self._servers.ask(query, conf)
        if answer.rcode == dns.rcode.NXDOMAIN:
            return _Found((), f"NXDOMAIN from {server}")
        texts = follow_cnames(answer, query)
        if not texts:
            return _Found((), f"no {record} record from {server}")
        return _Found(tuple(address for text in texts if (address := as_address(text)) is not None))


@lru_cache(maxsize=16_384)
def _name(host: str) -> dns.name.Name:
    try:
        name = parse_name(host)
    except ValueError as error:
        raise NetworkError(Reason.DNS, str(error)) from None
    last = name.labels[-2] if len(name.labels) > 1 else b""
    if not last or last.isdigit() or last.lower().startswith(b"0x"):
        # No top-level domain is a number (RFC 3696 §2), so this is an address that somebody abbreviated.
        raise NetworkError(Reason.DNS, f"{host} is neither a name nor an IP address in full")
    return name


def _candidates(name: dns.name.Name, conf: ResolvConf, *, absolute: bool) -> Iterator[dns.name.Name]:
    """The names to ask for, in order, as resolv.conf(5) has it; the name itself is always one of them."""
    dots = len(name.labels) - 2
    if absolute or dots >= conf.ndots:
        yield name
    if not absolute:
        for domain in conf.search:
            try:
                yield name.relativize(dns.name.root).concatenate(parse_name(domain))
            except (ValueError, dns.name.NameTooLong):
                continue
        if dots < conf.ndots:
            yield name


def _joined(*answers: _Found) -> _Found:
    addresses = tuple(address for answer in answers for address in answer.addresses)
    return _Found(addresses, "; ".join(dict.fromkeys(answer.said for answer in answers if answer.said)))
