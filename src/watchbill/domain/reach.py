"""How a check reaches its target: which addresses of a name, who is asked for them, and from where."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, StrictBool, model_validator

from watchbill.domain.guarded import is_guarded
from watchbill.domain.rules import Declared, declared_problem

IpFamily: TypeAlias = Literal[4, 6]
IpChoice: TypeAlias = Literal[4, 6, "prefer-4", "prefer-6"]
"""One family only, or one rather than the other."""
DNS_PORT = 53
MOST_SOCKET_PATH_BYTES = 107
"""What Linux takes (unix(7))."""


def check_host(host: str) -> str:
    """A name or an address, without the brackets of an address in a URL."""
    bare = host.strip("[]") if host.startswith("[") else host
    if (
        not bare
        or len(bare) > 253
        or any(c.isspace() or ord(c) < 32 or c in "/@?#\\%" for c in bare)
        or bare.startswith("-")
    ):
        raise ValueError("a host is a name or an IP address, without scheme, port or path")
    return bare


Host = Annotated[str, AfterValidator(check_host)]


def _socket_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or len(path.encode()) > MOST_SOCKET_PATH_BYTES:
        raise ValueError(
            f"a unix_socket is an absolute path of at most {MOST_SOCKET_PATH_BYTES} bytes, such as /run/app.sock"
        )
    return path


SocketPath = Annotated[str, AfterValidator(_socket_path)]


_NOT_IN_URLS = re.compile(r"[\s\x00-\x1f]")


def split_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        possible = parts.port != 0
    except ValueError:  # whose text may repeat a password
        raise ValueError("not a url: host or port cannot be read") from None
    if not possible:
        raise ValueError("a port is 1 to 65535, got 0")
    if _NOT_IN_URLS.search(url):
        raise ValueError("a url has no spaces or control characters; write %20 for a space")
    return parts


@lru_cache(maxsize=4096)  # each probe of a check with a resolver of its own asks, and parsing takes 5 us
def split_server(server: str, port: int = DNS_PORT) -> tuple[str, int]:
    """``9.9.9.9``, ``9.9.9.9:53``, ``[::1]:53`` or ``dns.example`` as host and port (``port`` if none)."""
    if server.count(":") > 1 and not server.startswith("["):
        return check_host(server), port
    parts = split_url("//" + server)
    if parts.path or parts.query or parts.username or not parts.hostname:
        raise ValueError("a DNS server is a host or host:port, such as 9.9.9.9 or 127.0.0.1:5353")
    return check_host(parts.hostname), parts.port or port


def dns_url(server: str) -> str:
    """Where a DNS server takes questions over HTTPS: its URL, whose path is ``/dns-query`` by default."""
    if "://" not in server:
        host, port = split_server(server, 443)
        return f"https://[{host}]:{port}/dns-query" if ":" in host else f"https://{host}:{port}/dns-query"
    parts = split_url(server)
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "a DNS server over HTTPS is a host or a URL without credentials and query, such as https://dns.example/dns-query"
        )
    check_host(parts.hostname)
    return parts._replace(path="/dns-query").geturl() if parts.path in ("", "/") else server


def _resolver(server: str) -> str:
    try:
        ip_address(split_server(server)[0])
    except ValueError:
        raise ValueError(
            "a resolver is the IP address of a DNS server, with or without a port, such as 9.9.9.9 or [::1]:5353"
        ) from None
    return server


def _source(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError("a source_address is an IP address of this machine, such as 192.0.2.7") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"a source_address is one that packets can come from, got {text}")
    return text


class Outbound(Declared):
    """What a check may say of its way out of this machine."""

    ip_family: IpChoice | None = None
    """4 or 6: use only addresses of this family. `prefer-4`, `prefer-6`: the other one where the name has none of this."""
    source_address: Annotated[str, AfterValidator(_source)] | None = None
    """The address of this machine to probe from; only targets of its family are reached."""
    allow_link_local: StrictBool = False
    """Whether it may reach link-local addresses and the metadata services of clouds; a redirect to another origin never may."""

    @model_validator(mode="after")
    def _source_of_that_family(self) -> Outbound:
        if self.source_address is not None and self.ip_family is not None:
            version = ip_address(self.source_address).version
            if self.ip_family != version:
                raise declared_problem(
                    "ip_family",
                    f"ip_family can only be {version} (or left out), since source_address is an IPv{version} address",
                )
        return self

    @model_validator(mode="after")
    def _no_guarded_address(self) -> Outbound:
        for field in _hosts_in(type(self)):
            declared = getattr(self, field)
            host = None if declared is None or self.allow_link_local else _HOST_OF[field](declared)
            if host and is_literal(host) and is_guarded(host):
                raise declared_problem(
                    field, "a link-local or metadata address is reached only with allow_link_local: true"
                )
        return self


ResolverAddress = Annotated[str, AfterValidator(_resolver)]


class ByName(Outbound):
    """The same for a check whose host is looked up."""

    resolver: ResolverAddress | None = None
    """The DNS server to ask for addresses instead of the system's: its IP address, with or without a port."""


_HOST_OF: Mapping[str, Callable[[Any], str | None]] = {
    "host": lambda host: host,
    "url": lambda url: split_url(url).hostname,
    "server": lambda server: split_url(server).hostname if "://" in server else split_server(server)[0],
    "resolver": lambda resolver: split_server(resolver)[0],
    "proxy": lambda proxy: proxy.place[0],
}
"""The fields that say whom a check asks this machine to reach, and where in them."""


@cache
def _hosts_in(model: type[Outbound]) -> list[str]:
    return [field for field in _HOST_OF if field in model.model_fields]


def is_literal(host: str) -> bool:
    """Whether it is an address in its full spelling."""
    if ":" not in host and not host[-1:].isdigit():
        return False  # which is most often so, and an exception costs more than all else
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_numeric(host: str) -> bool:
    """Whether it ends like an address: ``127.1`` or ``0x7f000001``, since no top-level domain is a number (RFC 3696 §2)."""
    last = host.removesuffix(".").rpartition(".")[2].lower()
    return last.isdigit() or last.startswith("0x")


def family_of(address: str) -> IpFamily:
    return 6 if ":" in address else 4


def is_chosen(address: IPv4Address | IPv6Address, choice: IpChoice | None) -> bool:
    """Whether that choice allows the address at all."""
    return choice not in (4, 6) or address.version == choice


def preferred_family(choice: IpChoice | None) -> IpFamily | None:
    """The family that the choice names; ``None`` where it names none."""
    match choice:
        case None:
            return None
        case "prefer-4":
            return 4
        case "prefer-6":
            return 6
        case _:
            return choice
