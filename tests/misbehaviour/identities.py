"""Servers that show the wrong certificate, an absurd one, or speak TLS as nobody should any more."""

from __future__ import annotations

import ssl
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.misbehaviour.rows import Misbehaviour, Open
from tests.servers import DAY, LOOPBACK, NOW, Authority, Caller, Issued, hang, serving, shake_hands
from watchbill.domain.results import Reason

CERTIFICATE, TLS = Reason.CERTIFICATE, Reason.TLS
Show = Callable[[Authority], ssl.SSLContext]


def showing(show: Show, **declared: Any) -> Open:
    """A server that shakes hands and says nothing more; its authority is trusted."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority(Path(folder))
            context = show(authority)

            async def converse(caller: Caller) -> None:
                await shake_hands(caller, context)
                await hang(caller)

            async with serving(converse) as server:
                trust = {"tls": {"ca_file": authority.ca_file}}
                yield {"host": LOOPBACK, "port": server.port, "timeout": "10s", **trust, **declared}

    return opened


def issued(*names: str | x509.GeneralName, **how: Any) -> Show:
    return lambda authority: authority.issue(*(names or (LOOPBACK,)), **how).context()


def changed(change: Callable[[Issued], None], *names: str) -> Show:
    """As issued, and then the files it stands in are changed."""

    def show(authority: Authority) -> ssl.SSLContext:
        made = authority.issue(*(names or (LOOPBACK,)))
        change(made)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(made.cert_file, made.key_file)
        return context

    return show


def long_chain(made: Issued) -> None:
    chain = Path(made.cert_file)
    chain.write_bytes(chain.read_bytes() * 400)


def weakly_signed(bits: int) -> Callable[[Issued], None]:
    def change(made: Issued) -> None:
        key = rsa.generate_private_key(65_537, bits)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + 90 * DAY)
        Path(made.cert_file).write_bytes(
            builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        Path(made.key_file).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    return change


def of_version(version: ssl.TLSVersion) -> Show:
    def show(authority: Authority) -> ssl.SSLContext:
        context = authority.issue(LOOPBACK).context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that nobody should is the point
            context.minimum_version = context.maximum_version = version
        return context

    return show


def wanting_a_client(authority: Authority) -> ssl.SSLContext:
    context = authority.issue(LOOPBACK).context(client_ca=authority.ca_file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the refusal is part of the handshake
    return context


def of_another(authority: Authority) -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        return Authority(Path(folder), "Unknown Root").issue(LOOPBACK).context()


MANY = [f"host-{number}.test" for number in range(3000)]
ODD = ("*", "not a name", "-", "xn--\x7f", "a" * 300, "..", "*.*.test")

IDENTITIES: tuple[Misbehaviour, ...] = tuple(
    Misbehaviour(f"tls: {name}", reason, said, showing(show, **declared), "tls")
    for name, show, reason, said, declared in (
        ("expired", issued(valid_until=NOW - timedelta(hours=1)), CERTIFICATE, "expired on", {}),
        ("not yet valid", issued(valid_from=NOW + DAY), CERTIFICATE, "not valid before", {}),
        ("self-signed", issued(self_signed=True), CERTIFICATE, "self-signed", {}),
        ("for another name", issued("other.test"), CERTIFICATE, "is not for 127.0.0.1 but for other.test", {}),
        ("for no name", issued(x509.RFC822Name("a@b.test")), CERTIFICATE, "names no host", {}),
        ("of an unknown authority", of_another, CERTIFICATE, "", {}),
        ("three thousand names", issued(*MANY), CERTIFICATE, "is not for 127.0.0.1", {}),
        ("names that are none", issued(*map(x509.DNSName, ODD)), CERTIFICATE, "is not for 127.0.0.1", {}),
        ("a chain of 200 KB", changed(long_chain), TLS, "TLS handshake failed", {}),
        ("a weak key", changed(weakly_signed(1024)), CERTIFICATE, "a key that is too short", {}),
        ("TLS 1.0", of_version(ssl.TLSVersion.TLSv1), TLS, "", {}),
        ("TLS 1.1", of_version(ssl.TLSVersion.TLSv1_1), TLS, "", {}),
        ("a client certificate wanted", wanting_a_client, TLS, "the server refused", {}),
        ("soon expired", issued(valid_until=NOW + DAY), CERTIFICATE, "", {"expect": {"certificate_valid_for": "14d"}}),
    )
)  # fmt: skip
