"""Loopback servers that behave as they are told, and the certificates they show."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import resource
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TypeAlias, TypeVar

import anyio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK = "127.0.0.1"
T = TypeVar("T")

# --- conversations ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Caller:
    """One accepted connection, as a conversation sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """A request's head and the body that its content-length tells of."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                return head + await self.reader.readexactly(int(value))
        return head

    async def say(self, data: bytes) -> None:
        """:raises ConnectionError: the client has gone."""
        if self.writer.is_closing():
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with an RST, as a crashed process or a firewall does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Conversation: TypeAlias = Callable[[Caller], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """A listening server; ``requests`` holds what HTTP conversations were asked, in order."""

    port: int
    host: str = LOOPBACK
    requests: list[bytes] = field(default_factory=list)
    accepted: int = 0

    def url(self, path: str = "/", *, scheme: str = "http", host: str | None = None) -> str:
        return f"{scheme}://{host or self.host}:{self.port}{path}"


@asynccontextmanager
async def serving(
    conversation: Conversation, *, tls: ssl.SSLContext | None = None, host: str = LOOPBACK
) -> AsyncIterator[Server]:
    """Serve until the block is left; then every connection is gone too."""
    tasks: set[asyncio.Task[None]] = set()
    running: Server

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with suppress(ConnectionError, EOFError, ssl.SSLError, asyncio.CancelledError):
                await conversation(Caller(reader, writer))
        finally:
            writer.close()
            tasks.discard(task)

    async with _listening(converse, tls, host) as port:
        running = Server(port, host)
        try:
            yield running
        finally:
            for task in list(tasks):
                task.cancel()
            while tasks:
                await asyncio.sleep(0)


@asynccontextmanager
async def _listening(
    converse: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None,
    host: str,
) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_expect_broken_handshakes)
    server = await asyncio.start_server(converse, host, 0, ssl=tls, ssl_handshake_timeout=30 if tls else None)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def _expect_broken_handshakes(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Clients that hang up during a handshake are what some tests are about."""
    if not isinstance(context.get("exception"), ssl.SSLError | ConnectionError):
        loop.default_exception_handler(context)


Respond: TypeAlias = Callable[[bytes], bytes]


@asynccontextmanager
async def http_server(
    respond: bytes | Respond, *, tls: ssl.SSLContext | None = None, host: str = LOOPBACK
) -> AsyncIterator[Server]:
    """Answer one request per connection with those very bytes, or with what the function makes of the request."""
    server: Server

    async def conversation(caller: Caller) -> None:
        request = await caller.request()
        server.requests.append(request)
        await caller.say(respond if isinstance(respond, bytes) else respond(request))

    async with serving(conversation, tls=tls, host=host) as server:
        yield server


def response(
    body: bytes = b"ok", *, status: str = "200 OK", headers: Sequence[str] = (), length: int | None = None
) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def path_of(request: bytes) -> str:
    return request.split(b" ", 2)[1].decode()


def header_of(request: bytes, name: str) -> str | None:
    for line in request.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.decode().lower() == name.lower():
            return value.strip().decode()
    return None


async def hang(caller: Caller) -> None:
    """Accept, read, and never say a word."""
    while await caller.reader.read(65_536):
        pass


async def shake_hands(caller: Caller, context: ssl.SSLContext) -> TlsCaller:
    """A handshake whose alerts do reach the client, which asyncio's own server cuts off.

    :raises ssl.SSLError: the client was refused, and has been told so.
    """
    secure = TlsCaller(caller, context)
    await secure.run(secure.tls.do_handshake)
    return secure


class TlsCaller:
    """A caller behind a finished handshake."""

    def __init__(self, caller: Caller, context: ssl.SSLContext) -> None:
        self._caller = caller
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def run(self, step: Callable[[], T]) -> T:
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._caller.reader.read(65_536)
                if not data:
                    raise EOFError from None
                self._incoming.write(data)
            except ssl.SSLError:
                await self._flush()
                raise
            else:
                await self._flush()
                return done

    async def answer(self, data: bytes) -> bytes:
        """Read one request and say ``data``; what was asked."""
        request = await self.run(lambda: self.tls.read(65_536))
        await self.run(lambda: self.tls.write(data))
        return request

    async def _flush(self) -> None:
        if outgoing := self._outgoing.read():
            await self._caller.say(outgoing)


# --- listeners that never accept ----------------------------------------------------------------------


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue of connections is full, so that one more is never answered."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(2)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            yield address[1]
        finally:
            for one in waiting:
                one.close()


def closed_port() -> int:
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        port: int = bound.getsockname()[1]
        return port


# --- what is left behind ------------------------------------------------------------------------------


def open_sockets() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def no_socket_left() -> AsyncIterator[None]:
    """Fails unless every socket that was opened within is closed soon after."""
    before = open_sockets()
    yield
    with anyio.move_on_after(5):
        while open_sockets() > before:
            await anyio.sleep(0.002)
    assert open_sockets() <= before, f"{open_sockets() - before} sockets are left open"


# --- certificates -------------------------------------------------------------------------------------

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, its key and the chain to show, in PEM, on disk."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: str
    key_file: str

    def encrypted_key(self, passphrase: bytes) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase),
        )

    def odd(self) -> bytes:
        """The certificate as if of version 6, in PEM: OpenSSL takes it, a strict reader does not."""
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return ssl.DER_cert_to_PEM_cert(
            der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1)
        ).encode()

    def context(self, *, client_ca: str | None = None) -> ssl.SSLContext:
        """A server's side. ``client_ca``: whose client certificates are required."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class Authority:
    """A root, or below ``parent`` an intermediate, that issues whatever is asked for into one folder."""

    def __init__(
        self,
        folder: Path,
        name: str = "Test Root",
        *,
        parent: Authority | None = None,
        valid_from: datetime = NOW - 90 * DAY,
        valid_until: datetime = NOW + 3650 * DAY,
    ) -> None:
        self._folder = folder
        self._count = 0
        self._parent = parent
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(
            name,
            self.key,
            parent.key if parent else self.key,
            parent._own_name if parent else name,
            names=(),
            valid_from=valid_from,
            valid_until=valid_until,
            ca=True,
        )
        self.ca_file = self._write(f"{name}.pem", _pem(self.certificate))

    def issue(
        self,
        *names: str | x509.GeneralName,
        valid_from: datetime = NOW - DAY,
        valid_until: datetime = NOW + 90 * DAY,
        client: bool = False,
        self_signed: bool = False,
        common_name: str = "",
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        common_name = common_name or next((name for name in names if isinstance(name, str)), "nameless")
        certificate = self._sign(
            common_name,
            key,
            key if self_signed else self.key,
            common_name if self_signed else self._own_name,
            names=names,
            valid_from=valid_from,
            valid_until=valid_until,
            usage=ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH,
        )
        self._count += 1
        chain = _pem(certificate) + (_pem(self.certificate) if self._parent else b"")
        cert_file = self._write(f"{self._own_name}-cert-{self._count}.pem", chain)
        key_file = self._write(f"{self._own_name}-key-{self._count}.pem", _key_pem(key))
        return Issued(certificate, key, cert_file, key_file)

    @cached_property
    def _own_name(self) -> str:
        value = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        return value if isinstance(value, str) else value.decode()

    def _sign(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey,
        issuer_key: ec.EllipticCurvePrivateKey,
        issuer: str,
        *,
        names: Sequence[str | x509.GeneralName],
        valid_from: datetime,
        valid_until: datetime,
        usage: x509.ObjectIdentifier | None = None,
        ca: bool = False,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_common_name(subject))
            .issuer_name(_common_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(valid_from)
            .not_valid_after(valid_until)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
            )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    def _write(self, name: str, content: bytes) -> str:
        path = self._folder / name
        path.write_bytes(content)
        return str(path)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str | x509.GeneralName) -> x509.GeneralName:
    if isinstance(name, x509.GeneralName):
        return name
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
