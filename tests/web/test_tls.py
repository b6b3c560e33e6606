"""HTTPS over real sockets: who gets in, and that what holds in the clear holds there too."""

from __future__ import annotations

import datetime
import gc
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from tests.web.certificates import (
    Party,
    authority,
    client_context,
    live_tls,
    tls_settings,
)
from tests.web.test_server import REQUEST, Served, serving

from watchbill.domain.web import (
    WebSettings,
    WebSettingsError,
)
from watchbill.web import opened, server
from watchbill.web.encrypted import MOST_RECORDS_AT_A_STRETCH, Encrypted

pytestmark = pytest.mark.anyio
CLOSING = REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
REFUSED = (ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the exporter runs on; :mod:`tests.web.test_server` tries both."""
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def connected(served: Served, context: ssl.SSLContext | None = None) -> AsyncIterator[TLSStream]:
    stream = await anyio.connect_tcp("127.0.0.1", served.port)
    async with stream:
        yield await TLSStream.wrap(
            stream, hostname="localhost", ssl_context=context or client_context(), standard_compatible=False
        )


async def rest_of(stream: ByteStream) -> bytes:
    received = []
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
        while True:
            received.append(await stream.receive())
    return b"".join(received)


async def asked(served: Served, context: ssl.SSLContext | None = None, request: bytes = CLOSING) -> bytes:
    async with connected(served, context) as stream:
        await stream.send(request)
        return await rest_of(stream)


async def gets_in(served: Served, context: ssl.SSLContext | None = None) -> bool:
    try:
        return (await asked(served, context)).endswith(b"\r\n\r\nok")
    except REFUSED:
        return False


# --- what holds in the clear, too ---------------------------------------------------------------------


async def test_a_request_is_answered_and_the_scheme_is_https() -> None:
    async with serving(live_tls()) as served:
        answer = await asked(served)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok")


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with serving(live_tls()) as served, connected(served) as stream:
        for _ in range(3):
            await stream.send(REQUEST)
            received = b""
            while not received.endswith(b"\r\n\r\nok"):
                received += await stream.receive()


async def test_an_answer_larger_than_every_buffer_comes_whole() -> None:
    async with serving(live_tls()) as served:
        answer = await asked(served, request=CLOSING.replace(b"/", b"/once", 1))
    assert len(answer.partition(b"\r\n\r\n")[2]) == 64 << 20


async def test_what_has_come_already_waits_in_the_records_until_it_is_its_turn() -> None:
    """More requests than may lie behind each other, each in a record of its own, all in one piece."""
    requests = server.MOST_PIPELINED + 10
    async with serving(live_tls()) as served, await served.connect() as stream:
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        client.set_connect_state()
        await _shaken(client, stream)
        client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(requests):
            client.send(REQUEST)
        await stream.send(client.bio_read(1 << 20))
        await served.app.hanging.wait()
        served.app.release.set()
        received = b""
        while received.count(b"\r\n\r\nok") < requests + 1:
            client.bio_write(await stream.receive())
            with suppress(SSL.WantReadError):
                while True:
                    received += client.recv(65_536)
        assert received.count(b"HTTP/1.1 200") == requests + 1


async def test_who_says_with_the_request_that_no_more_will_come_is_answered() -> None:
    async with serving(live_tls()) as served, await served.connect() as stream:
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        client.set_connect_state()
        await _shaken(client, stream)
        client.send(REQUEST)
        client.shutdown()
        await stream.send(client.bio_read(1 << 20))
        received = await _decrypted(client, stream)
        assert received.endswith(b"\r\n\r\nok")


async def test_a_request_in_records_of_one_byte_leaves_others_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stretches: list[int] = []
    decrypted = Encrypted.decrypted

    def counted(encrypted: Encrypted) -> Iterator[bytes]:
        stretches.append(0)
        for part in decrypted(encrypted):
            stretches[-1] += 1
            yield part

    monkeypatch.setattr(Encrypted, "decrypted", counted)
    async with serving(live_tls()) as served, await served.connect() as stream:
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        client.set_connect_state()
        await _shaken(client, stream)
        request = CLOSING.replace(b"\r\n", b"\r\nX-Long: " + b"x" * 5_000 + b"\r\n", 1)
        for byte in request:
            client.send(bytes([byte]))
        await stream.send(client.bio_read(1 << 20))
        assert b"200 OK" in await _decrypted(client, stream)
    assert sum(stretches) == len(request)
    assert max(stretches) == MOST_RECORDS_AT_A_STRETCH


async def test_a_client_that_is_slow_to_shake_hands_or_to_ask_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    live = live_tls()
    async with serving(live) as served:
        for sent in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            assert await served.ask(sent) == b""
        assert live.handshake_failures["timeout"] == 3
        async with connected(served) as stream:
            await stream.send(b"GET / HT")
            assert await rest_of(stream) == b""


async def test_a_client_that_does_not_read_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RESPONSE_SECONDS", 0.5)
    async with serving(live_tls()) as served, connected(served) as stream:
        await stream.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await anyio.sleep(1)
        assert len(await rest_of(stream)) < 64 << 20


async def test_connections_that_never_shake_hands_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 4)
    async with serving(live_tls()) as served:
        silent = [await served.connect() for _ in range(8)]
        assert await gets_in(served)
        for stream in silent:
            await stream.aclose()


async def test_what_is_no_request_is_refused_through_tls() -> None:
    async with serving(live_tls()) as served:
        assert (await asked(served, request=b"GARBAGE\r\n\r\n")).startswith(b"HTTP/1.1 400")


async def test_a_connection_that_has_ended_leaves_nothing_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        async with serving(live_tls()) as served:
            assert await gets_in(served)
            hanging = await served.connect()
            await hanging.send(b"\x16\x03\x01")
            await hanging.aclose()
            while any(isinstance(found, server.Protocol) for found in gc.get_objects()):
                await anyio.sleep(0.001)
    finally:
        gc.enable()


# --- what comes instead of TLS ------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [REQUEST, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"G"])
async def test_a_request_in_the_clear_is_told_to_come_again_over_https(sent: bytes) -> None:
    live = opened(WebSettings(tls=tls_settings(), headers={"Strict-Transport-Security": "max-age=1"}), at=0)
    async with serving(live) as served:
        answer = await served.ask(sent)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(server.NOT_ENCRYPTED.encode())
        assert b"\r\nStrict-Transport-Security: max-age=1\r\n" in answer
        assert served.app.asked == 0
        assert await gets_in(served)
    assert live.handshake_failures["plaintext"] == 1


@pytest.mark.parametrize(
    "sent",
    [b"\x16" * 400, b"\x16\x03\x01\x00\x05hello" + bytes(200), b"\x16\x03\x01\x40\x00" + b"\xff" * 20_000],
)
async def test_what_is_no_handshake_is_refused_and_counted(sent: bytes) -> None:
    live = live_tls()
    async with serving(live) as served:
        answer = await served.ask(sent)
        assert answer[:1] in {b"", b"\x15"}  # at most an alert
        assert await gets_in(served)
    assert live.handshake_failures["protocol"] == 1


async def test_a_client_that_tampers_after_the_handshake_loses_its_connection() -> None:
    async with serving(live_tls()) as served, await served.connect() as below:
        stream = await TLSStream.wrap(below, hostname="localhost", ssl_context=client_context())
        await stream.send(REQUEST)
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await below.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        await rest_of(below)
        assert await gets_in(served)


async def test_handshakes_are_not_repeated_within_a_connection() -> None:
    """Each would cost us a signature, and the client nothing."""
    async with serving(live_tls(max_version="TLS12")) as served, await served.connect() as stream:
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        client.set_connect_state()
        await _shaken(client, stream)
        client.renegotiate()
        with pytest.raises((SSL.Error, anyio.EndOfStream)):
            await _shaken(client, stream)


async def _decrypted(client: SSL.Connection, stream: SocketStream) -> bytes:
    """All that the server says until it ends its side."""
    received = b""
    with suppress(anyio.EndOfStream, SSL.ZeroReturnError):
        while True:
            client.bio_write(await stream.receive())
            with suppress(SSL.WantReadError):
                while True:
                    received += client.recv(65_536)
    return received


async def _shaken(client: SSL.Connection, stream: SocketStream) -> None:
    while True:
        try:
            client.do_handshake()
        except SSL.WantReadError:
            with suppress(SSL.WantReadError):
                await stream.send(client.bio_read(65_536))
            client.bio_write(await stream.receive())
        else:
            with suppress(SSL.WantReadError):
                await stream.send(client.bio_read(65_536))
            return


# --- who gets in --------------------------------------------------------------------------------------


def _client(kind: str) -> Party | None:
    match kind:
        case "none":
            return None
        case "ours":
            return authority().issue("prometheus.test", "scraper@test.example")
        case _:
            return authority("theirs").issue("prometheus.test")


WHO_GETS_IN = {
    "NoClientCert": {"none", "ours", "theirs"},
    "RequestClientCert": {"none", "ours", "theirs"},
    "RequireAnyClientCert": {"ours", "theirs"},
    "VerifyClientCertIfGiven": {"none", "ours"},
    "RequireAndVerifyClientCert": {"ours"},
}


@pytest.mark.parametrize("auth", WHO_GETS_IN)
async def test_client_certificates_are_asked_for_and_judged_as_the_type_says(auth: str) -> None:
    ca = None if auth == "NoClientCert" else authority().pem
    live = live_tls(client_auth=auth, client_ca=ca)
    async with serving(live) as served:
        let_in = {
            kind
            for kind in ("none", "ours", "theirs")
            if await gets_in(served, client_context(_client(kind)))
        }
    assert let_in == WHO_GETS_IN[auth]
    assert sum(live.handshake_failures.values()) == live.handshake_failures["certificate"] == 3 - len(let_in)


@pytest.mark.parametrize(
    ("allowed", "let_in"),
    [
        ({"prometheus.test"}, True),
        ({"scraper@test.example", "other"}, True),
        ({"Prometheus.test"}, False),
        ({"*.test"}, False),
        (set(), False),
    ],
)
async def test_only_names_that_are_listed_get_in(allowed: set[str], let_in: bool) -> None:
    how = {"client_auth": "RequireAndVerifyClientCert", "client_ca": authority().pem}
    live = live_tls(**how, allowed_sans=frozenset(allowed))
    async with serving(live) as served:
        assert await gets_in(served, client_context(_client("ours"))) is let_in


@pytest.mark.parametrize("name", ["192.0.2.7", "spiffe://test/prometheus"])
async def test_addresses_and_uris_are_names_too(name: str) -> None:
    party = _with_uri(name) if "://" in name else authority().issue(name)
    how = {"client_auth": "RequireAnyClientCert", "allowed_sans": frozenset({name})}
    async with serving(live_tls(**how)) as served:
        assert await gets_in(served, client_context(party))
        assert not await gets_in(served, client_context(_client("ours")))


X400_ADDRESS = "3004a3023000"
WRONG_ADDRESS = "30058703010203"
NOT_ASCII = "30038201ff"


@pytest.mark.parametrize("names", [X400_ADDRESS, WRONG_ADDRESS, NOT_ASCII])
async def test_who_shows_names_that_cannot_be_read_is_refused_as_one_without(names: str) -> None:
    strange = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, bytes.fromhex(names))
    how = {"client_auth": "RequireAnyClientCert", "allowed_sans": frozenset({"a"})}
    live = live_tls(**how)
    async with serving(live) as served:
        assert not await gets_in(served, client_context(_with(strange)))
    assert sum(live.handshake_failures.values()) == live.handshake_failures["certificate"] == 1


def _with_uri(uri: str) -> Party:
    return _with(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]))


def _with(names: x509.ExtensionType) -> Party:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    cert_pem = cert.public_bytes(Encoding.PEM)
    return Party(cert_pem, key_pem, trustme.LeafCert(key_pem, cert_pem, []))


async def test_a_new_context_holds_for_the_next_connection_and_ends_those_of_the_old_one() -> None:
    live = live_tls()
    strict = tls_settings(client_auth="RequireAndVerifyClientCert", client_ca=authority().pem)
    async with serving(live) as served, connected(served) as idle, connected(served) as busy:
        await idle.send(REQUEST)
        assert (await idle.receive()).startswith(b"HTTP/1.1 200")
        await busy.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await served.app.hanging.wait()
        settings = WebSettings(tls=strict)
        live.replace(settings, live.prepared(settings), at=1)
        await rest_of(idle)
        served.app.release.set()
        assert (await rest_of(busy)).endswith(b"ok")
        assert not await gets_in(served)
        assert await gets_in(served, client_context(_client("ours")))


async def test_tls_is_never_turned_off_while_it_runs() -> None:
    live = live_tls()
    with pytest.raises(WebSettingsError, match="by a restart alone"):
        live.replace(WebSettings(), None, at=1)
    assert live.context is not None
    assert live.settings.tls is not None
