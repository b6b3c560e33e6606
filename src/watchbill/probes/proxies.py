"""The way through a proxy: the tunnel that HTTP's CONNECT or SOCKS 5 opens, or a request that the proxy forwards.

What a proxy refuses is told in its name. Its credentials go to it alone.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from watchbill.domain.credentials import TlsOptions
from watchbill.domain.proxies import Proxy
from watchbill.domain.results import OWN_SIDE, Reason
from watchbill.ports import Connection, NetworkError
from watchbill.probes.answer import Answer
from watchbill.probes.transport import Outgoing

_NO_LOGIN, _BY_PASSWORD, _NO_WAY = 0, 2, 0xFF
# RFC 1928 §6.
_REPLIES: dict[int, tuple[Reason, str]] = {
    1: (Reason.UNREACHABLE, "general failure"),
    2: (Reason.REFUSED, "its rules do not allow it"),
    3: (Reason.UNREACHABLE, "the network is unreachable"),
    4: (Reason.UNREACHABLE, "the host is unreachable"),
    5: (Reason.REFUSED, "the target refused the connection"),
    6: (Reason.UNREACHABLE, "the time to live expired"),
    7: (Reason.PROTOCOL, "it does not know the command"),
    8: (Reason.PROTOCOL, "it does not know the kind of address"),
}


@asynccontextmanager
async def told_of(proxy: Proxy) -> AsyncIterator[None]:
    """What fails within is the proxy's failure, and says so."""
    try:
        yield
    except NetworkError as error:
        if error.reason in OWN_SIDE:
            raise
        raise NetworkError(error.reason, f"proxy {proxy.url}: {error.message}") from error


async def secure(connection: Connection, proxy: Proxy) -> None:
    """TLS to a proxy that wants it. :raises NetworkError: ``tls``, ``certificate``."""
    session = await connection.start_tls(
        TlsOptions(ca_file=proxy.ca_file), server_name=proxy.place[0], alpn=("http/1.1",)
    )
    if session.problem is not None:
        raise NetworkError(Reason.CERTIFICATE, session.problem)


async def open_tunnel(connection: Connection, proxy: Proxy, host: str, port: int) -> None:
    """From here on the connection leads to that host.

    :raises NetworkError: ``refused``, ``unreachable`` or ``protocol``, as the proxy says.
    """
    if proxy.scheme.startswith("socks"):
        await _Socks(connection).open(proxy, host, port)
    else:
        await _connect(connection, proxy, host, port)


def forwarded(outgoing: Outgoing, proxy: Proxy) -> Outgoing:
    """A plain request as a proxy wants it (RFC 9112 §3.2.2)."""
    start, _, rest = outgoing.wire.partition(b"\r\n")
    method, target, version = start.split(b" ")
    place = _authority(outgoing.host, outgoing.port).encode("ascii")
    lines = [b"%s http://%s%s %s" % (method, place, target, version), *_login(proxy), rest]
    return replace(outgoing, wire=b"\r\n".join(lines))


async def _connect(connection: Connection, proxy: Proxy, host: str, port: int) -> None:
    place = _authority(host, port).encode("ascii")
    lines = [b"CONNECT %s HTTP/1.1" % place, b"Host: %s" % place, *_login(proxy), b"", b""]
    await connection.send(b"\r\n".join(lines))
    answer = Answer(connection, bodiless=True)
    try:
        await answer.read_head()
    finally:
        answer.release()
    if not 200 <= answer.status < 300:
        reason = Reason.REFUSED if answer.status < 500 else Reason.UNREACHABLE
        raise NetworkError(reason, f"it answers {answer.status} to CONNECT {place.decode()}")


def _login(proxy: Proxy) -> list[bytes]:
    if proxy.credentials is None:
        return []
    return [b"Proxy-Authorization: Basic " + b64encode(":".join(proxy.credentials).encode())]


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Socks:
    """SOCKS 5 (RFC 1928, RFC 1929), step by step."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._received = b""

    async def open(self, proxy: Proxy, host: str, port: int) -> None:
        await self._log_in(proxy.credentials)
        await self._connection.send(b"\x05\x01\x00" + _place(host) + port.to_bytes(2, "big"))
        version, reply, _, kind = await self._exactly(4)
        self._check(version)
        if reply != 0:
            reason, said = _REPLIES.get(reply, (Reason.UNREACHABLE, f"reply {reply}"))
            raise NetworkError(reason, f"no way to {_authority(host, port)}: {said}")
        length = {1: 4, 4: 16}.get(kind)
        if length is None:
            length = (await self._exactly(1))[0]
        await self._exactly(length + 2)
        if self._received:
            raise NetworkError(Reason.PROTOCOL, "it says more than it was asked for")

    async def _log_in(self, credentials: tuple[str, str] | None) -> None:
        offered = bytes([_NO_LOGIN]) if credentials is None else bytes([_NO_LOGIN, _BY_PASSWORD])
        await self._connection.send(bytes([5, len(offered)]) + offered)
        version, chosen = await self._exactly(2)
        self._check(version)
        if chosen == _NO_WAY or chosen not in offered:
            wanted = "it wants a login" if credentials is None else "it takes no login by password"
            raise NetworkError(Reason.REFUSED, wanted)
        if chosen == _BY_PASSWORD and credentials is not None:
            user, password = (text.encode() for text in credentials)
            await self._connection.send(bytes([1, len(user)]) + user + bytes([len(password)]) + password)
            _, status = await self._exactly(2)
            if status != 0:
                raise NetworkError(Reason.REFUSED, "it does not take the login")

    async def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            data = await self._connection.receive()
            if not data:
                raise NetworkError(Reason.RESET, "it hung up before it opened the way")
            self._received += data
        taken, self._received = self._received[:count], self._received[count:]
        return taken

    def _check(self, version: int) -> None:
        if version != 5:
            raise NetworkError(Reason.PROTOCOL, "it does not speak SOCKS 5")


def _place(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        return b"\x03" + bytes([len(name)]) + name
    match address:
        case IPv4Address():
            return b"\x01" + address.packed
        case IPv6Address():
            return b"\x04" + address.packed
