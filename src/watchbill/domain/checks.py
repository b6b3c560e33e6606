"""What a user declares: one frozen class per kind of check, told apart by ``type``.

The declared models are the domain: nothing mirrors them. Secrets are ``SecretStr`` where the field's type
says so; where a plain field was built from a secret reference, the loader names it in ``references``.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StrictBool,
    TypeAdapter,
    model_validator,
)

from watchbill.domain.credentials import Auth, TlsOptions
from watchbill.domain.expectations import DnsExpect, HttpExpect, IcmpExpect, TcpExpect, TlsExpect
from watchbill.domain.fields import CheckFields
from watchbill.domain.proxies import Proxy
from watchbill.domain.reach import (
    ByName,
    Host,
    Outbound,
    SocketPath,
    check_host,
    dns_url,
    split_server,
    split_url,
)
from watchbill.domain.rules import HeaderName, declared_problem
from watchbill.domain.units import Duration, format_duration

REPEATABLE = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")
"""Methods that may be sent again where nobody knows whether they arrived (RFC 9110 §9.2.2)."""
RECORD_TYPES = (
    "A",
    "AAAA",
    "CAA",
    "CNAME",
    "DNSKEY",
    "DS",
    "HTTPS",
    "MX",
    "NAPTR",
    "NS",
    "PTR",
    "SOA",
    "SRV",
    "SVCB",
    "TLSA",
    "TXT",
)


Port = Annotated[int, Field(ge=1, le=65535, strict=True)]


def _http_url(url: str) -> str:
    parts = split_url(url)
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"a url starts with http:// or https://, got {parts.scheme or 'none'}")
    if not parts.hostname:
        raise ValueError("a url names a host, such as https://shop.example/")
    check_host(parts.hostname)
    return url


def _method(method: str) -> str:
    if not method.isascii() or not method.replace("-", "").isalpha():
        raise ValueError("a method is a word such as GET, HEAD or POST")
    return method.upper()


def _one_line(value: SecretStr) -> SecretStr:
    if any(c in value.get_secret_value() for c in "\r\n\0"):
        raise ValueError("a header value is one line")
    return value


HeaderValue = Annotated[SecretStr, AfterValidator(_one_line)]


class Http(ByName, CheckFields):
    """An HTTP or HTTPS request and what its response must meet."""

    type: Literal["http"] = "http"
    """An HTTP or HTTPS request."""
    url: Annotated[str, AfterValidator(_http_url)]
    """What to ask for. `user:password@` in it is sent as basic auth and is a secret."""
    method: Annotated[str, AfterValidator(_method)] = "GET"
    """The request's method."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, max_length=200)
    """Headers to send; their values are secrets. Another origin that a redirect leads to does not get them."""
    body: SecretStr | None = None
    """The request's body, a secret."""
    auth: Auth | None = None
    """Credentials to send: exactly one of `basic` and `bearer`."""
    follow_redirects: StrictBool = True
    """Whether a redirect is followed, or is itself the response that is judged."""
    max_redirects: Annotated[int, Field(ge=0, le=20, strict=True)] = 5
    """How many redirects are followed at most."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=64 << 20, strict=True)] = 1 << 20
    """How much of the body is read; a longer one cannot be judged and fails what is expected of it."""
    tls: TlsOptions = TlsOptions()
    """How the TLS handshake is made."""
    http2: StrictBool = False
    """Offer HTTP/2 in the TLS handshake; what is spoken is what the server chooses."""
    connection: Literal["new", "reuse"] = "new"
    """`reuse`: keep one connection between probes. A method that must not be sent twice cannot have it."""
    proxy: Proxy | None = None
    """The proxy to go through: `http://`, `https://`, `socks5://` or `socks5h://`, credentials within it or beside it."""
    unix_socket: SocketPath | None = None
    """The path of a socket to connect to instead of the url's host."""
    traceparent: StrictBool = False
    """Send a `traceparent` header (W3C Trace Context) with every request, so that the target's traces name the probe."""
    expect: HttpExpect = HttpExpect()
    """What the response must meet; without `status` it must be 2xx."""

    @model_validator(mode="before")
    @classmethod
    def _userinfo_is_auth(cls, value: Any) -> Any:
        """Move ``user:password@`` out of the url, so that nothing that shows a url can show it."""
        url = value.get("url") if isinstance(value, dict) else None
        if not isinstance(url, str) or "@" not in url:
            return value
        try:
            parts = split_url(url)
        except ValueError:  # the field's own validator says so, at the field
            return value
        if parts.username is None:
            return value
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        if value.get("auth") is not None:
            raise declared_problem(
                "url", "credentials stand both in the url and under auth; keep those under auth"
            )
        basic = {"username": unquote(parts.username), "password": unquote(parts.password or "")}
        return {**value, "url": bare, "auth": {"basic": basic}}

    @model_validator(mode="after")
    def _possible_way(self) -> Http:
        if self.connection == "reuse" and self.method not in REPEATABLE:
            raise declared_problem(
                "connection",
                f"connection: reuse takes a method that may be sent twice ({', '.join(REPEATABLE)}), got {self.method}",
            )
        if self.unix_socket is not None:
            _only_a_socket(self, "proxy", "ip_family", "source_address", "resolver")
        if self.traceparent and any(name.lower() == "traceparent" for name in self.headers):
            raise declared_problem(
                "traceparent", "traceparent is among the headers, too; leave one of them out"
            )
        return self


def _only_a_socket(check: CheckFields, *others: str) -> None:
    for name in others:
        if getattr(check, name) is not None:
            raise declared_problem(name, f"{name} has no meaning beside unix_socket; leave one of them out")


class Tcp(ByName, CheckFields):
    """A TCP connection; ``send`` is sent as it is, and ``expect.response`` judged on what comes back."""

    type: Literal["tcp"] = "tcp"
    """A TCP connection."""
    host: Host | None = None
    """The name or address to connect to."""
    port: Port | None = None
    """The port to connect to."""
    unix_socket: SocketPath | None = None
    """The path of a socket to connect to instead of a host and a port."""
    send: SecretStr | None = None
    """Text to send once connected, a secret."""
    expect: TcpExpect = TcpExpect()
    """What the service must meet beyond taking the connection."""

    @model_validator(mode="after")
    def _one_place(self) -> Tcp:
        if self.unix_socket is not None:
            _only_a_socket(self, "host", "port", "ip_family", "source_address", "resolver")
        elif self.host is None or self.port is None:
            missing = "host" if self.host is None else "port"
            raise declared_problem("", f"`{missing}` is missing; tcp needs host and port, or unix_socket")
        return self


class Tls(ByName, CheckFields):
    """A TLS handshake and the certificate it shows."""

    type: Literal["tls"] = "tls"
    """A TLS handshake and the certificate it shows."""
    host: Host
    """The name or address to connect to."""
    port: Port = 443
    """The port to connect to."""
    tls: TlsOptions = TlsOptions()
    """How the handshake is made."""
    expect: TlsExpect = TlsExpect()
    """What the certificate and the handshake must meet."""


def _server(server: str) -> str:
    if "://" in server:
        dns_url(server)
    else:
        split_server(server)
    return server


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _dns_name(name: str) -> str:
    """A name as it is written in zone files, or an address (whose reverse name a PTR question asks for)."""
    labels = name.removesuffix(".").split(".")
    too_long = any(len(label) > 63 for label in labels)
    if name != "." and ("" in labels or too_long) and ":" not in name:
        raise ValueError(
            "a DNS name is labels of at most 63 characters between single dots, such as shop.example"
        )
    if any(c.isspace() or ord(c) < 32 for c in name):
        raise ValueError("a DNS name has no spaces or control characters")
    return name


DnsName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_dns_name)]


class Dns(Outbound, CheckFields):
    """A DNS question to ``server``, or to the system's first name server."""

    type: Literal["dns"] = "dns"
    """A DNS question."""
    name: DnsName
    """The name to ask for."""
    record: Annotated[Literal[RECORD_TYPES], BeforeValidator(_upper)] = "A"  # type: ignore[valid-type]
    """The record type to ask for."""
    server: Annotated[str, AfterValidator(_server)] | None = None
    """The name server to ask, `host` or `host:port`, over https also a URL; the system's first by default."""
    transport: Literal["udp", "tcp", "tls", "https"] = "udp"
    """How to ask. An answer cut off over UDP is asked for again over TCP."""
    tls: TlsOptions = TlsOptions()
    """How the TLS handshake is made, for the transports `tls` and `https`."""
    expect: DnsExpect = DnsExpect()
    """What the answer must meet; without `rcode` it must be NOERROR."""

    @model_validator(mode="after")
    def _fits_the_transport(self) -> Dns:
        over_tls = self.transport in ("tls", "https")
        if over_tls and self.server is None:
            raise declared_problem(
                "server",
                f"transport {self.transport} takes a server, such as dns.example: what the system has is asked without TLS",
            )
        if self.transport != "https" and self.server is not None and "://" in self.server:
            raise declared_problem("server", "a server that is a URL takes transport: https")
        if not over_tls and "tls" in self.model_fields_set:
            raise declared_problem(
                "tls", "tls is for the transports tls and https; name one of them, or leave it out"
            )
        if not over_tls and self.expect.certificate_valid_for is not None:
            raise declared_problem(
                "expect",
                "certificate_valid_for is for the transports tls and https, which show a certificate; leave it out",
            )
        return self


class Icmp(ByName, CheckFields):
    """Echo requests; they are spread over the time that the timeout leaves."""

    type: Literal["icmp"] = "icmp"
    """ICMP echo requests (ping)."""
    host: Host
    """The name or address to ping."""
    count: Annotated[int, Field(ge=1, le=20, strict=True)] = 1
    """How many requests one probe sends."""
    packet_interval: Duration | None = None
    """The time between two requests; by default they are spread over the timeout, at most a second apart."""
    expect: IcmpExpect = IcmpExpect()
    """What the replies must meet; by default one reply must come."""

    @model_validator(mode="after")
    def _leaves_time_for_the_last_reply(self) -> Icmp:
        if self.packet_interval is None:
            return self
        sending = (self.count - 1) * self.packet_interval
        if sending > 0.9 * self.timeout:
            raise declared_problem(
                "packet_interval",
                f"{self.count} requests at that interval take {format_duration(sending)}, which must be at most nine tenths of the timeout ({format_duration(self.timeout)})",
            )
        return self


class Heartbeat(CheckFields):
    """A job that calls in: late when nothing came for ``every`` + ``grace``."""

    type: Literal["heartbeat"] = "heartbeat"
    """A job that calls `POST /api/v1/heartbeats/ID`."""
    every: Duration
    """How often the job calls."""
    grace: Duration = timedelta(minutes=1)
    """How late a call may be."""
    token: SecretStr | None = None
    """A token, a secret, that a call must bring as `Authorization: Bearer`."""


Check: TypeAlias = Http | Tcp | Tls | Dns | Icmp | Heartbeat
CHECK_TYPES: tuple[type[CheckFields], ...] = (Http, Tcp, Tls, Dns, Icmp, Heartbeat)
TYPE_NAMES = ("http", "tcp", "tls", "dns", "icmp", "heartbeat")
_adapter: TypeAdapter[Check] = TypeAdapter(Annotated[Check, Field(discriminator="type")])


def parse_check(declared: dict[str, Any]) -> Check:
    """A check from plain values, ``id`` and ``type`` among them.

    :raises pydantic.ValidationError: listing every mistake.
    """
    return _adapter.validate_python(declared)


def target_of(check: Check) -> str:
    """What is probed, for a label and for people: no credentials, no query, secrets by their reference."""

    def shown(field: str) -> str:
        return check.references.get(field, str(getattr(check, field)))

    match check:
        case Http():
            return re.split("[?#]", shown("url"), maxsplit=1)[0]
        case Tcp() if check.unix_socket is not None:
            return f"unix:{shown('unix_socket')}"
        case Tcp() | Tls():
            host = shown("host")
            return f"[{host}]:{shown('port')}" if ":" in (check.host or "") else f"{host}:{shown('port')}"
        case Dns():
            return f"{shown('server')}/{shown('name')}" if check.server else shown("name")
        case Icmp():
            return shown("host")
        case Heartbeat():
            return check.id
