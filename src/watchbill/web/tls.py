"""TLS of the HTTP server: a context from what the web configuration asks for, and one connection's side of it.

OpenSSL over memory: certificates and keys never touch a file of ours, a client's certificate may be asked for without being
judged, and each connection takes the context of the moment it is made.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from watchbill.domain.web import CIPHER_SUITES, CURVES, TLS13_SUITES, TlsSettings, WebSettingsError

READ_AT_ONCE = 64 << 10
LARGEST_RECORD = 16 << 10
MOST_RECORDS_AT_A_STRETCH = 256
"""A record may hold a single byte, and costs as much as a full one: what one read brings could hold 11,000."""
WRITE_AT_ONCE = 1 << 20
HANDSHAKE_RECORD = 0x16
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z]+ )?PRIVATE KEY|ENCRYPTED PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL
)
_VERSIONS = {
    "TLS10": SSL.TLS1_VERSION,
    "TLS11": SSL.TLS1_1_VERSION,
    "TLS12": SSL.TLS1_2_VERSION,
    "TLS13": SSL.TLS1_3_VERSION,
}
_MODERN = ("ECDHE+AESGCM", "ECDHE+CHACHA20")
_OLD = ("ECDHE+AES", "RSA+AES", "@SECLEVEL=0")
"""TLS 1.0 and 1.1 know no better, and sign with SHA-1, which OpenSSL calls level 0."""
_ASKING = SSL.VERIFY_PEER
_VERIFY = {
    "NoClientCert": SSL.VERIFY_NONE,
    "RequestClientCert": _ASKING,
    "RequireAnyClientCert": _ASKING | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
    "VerifyClientCertIfGiven": _ASKING,
    "RequireAndVerifyClientCert": _ASKING | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
_UNJUDGED = frozenset({"RequestClientCert", "RequireAnyClientCert"})

_UNREADABLE = (
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
    ValueError,
)
"""What cryptography raises for the certificates of strangers, which OpenSSL takes; they have no common class."""

Context: TypeAlias = SSL.Context

HANDSHAKE_FAILURES = ("plaintext", "certificate", "timeout", "protocol", "gone")


# --- contexts -----------------------------------------------------------------------------------------


def server_context(settings: TlsSettings) -> SSL.Context:
    """What a connection is made with.

    :raises WebSettingsError: a certificate, a key or a choice cannot be used.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    # Every connection shakes hands anew: a certificate that has been revoked is not taken from a session.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_alpn_select_callback(_only_http1)
    _set_versions(context, settings)
    _set_suites(context, settings)
    _set_curves(context, settings.curves)
    _set_certificate(context, settings)
    _set_clients(context, settings)
    return context


def _only_http1(_: SSL.Connection, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _set_versions(context: SSL.Context, settings: TlsSettings) -> None:
    lowest = settings.min_version
    if settings.cipher_suites and not _older(settings):
        lowest = "TLS13"  # all suites that are allowed are its own
    context.set_min_proto_version(_VERSIONS[lowest])
    context.set_max_proto_version(_VERSIONS[settings.max_version])


def _older(settings: TlsSettings) -> list[str]:
    return [CIPHER_SUITES[name] for name in settings.cipher_suites if name in CIPHER_SUITES]


def _set_suites(context: SSL.Context, settings: TlsSettings) -> None:
    old = settings.min_version in {"TLS10", "TLS11"}
    asked = _older(settings)
    suites = [*(asked or _MODERN), *(_OLD if old and not asked else ()), *(_OLD[-1:] if old else ())]
    newest = [name for name in settings.cipher_suites if name in TLS13_SUITES]
    try:
        context.set_cipher_list(":".join(suites).encode())
        if newest:
            context.set_tls13_ciphersuites(":".join(newest).encode())
    except SSL.Error as error:
        raise WebSettingsError(
            "tls_server_config.cipher_suites", f"OpenSSL takes none of these cipher_suites: {_said(error)}"
        ) from None
    if settings.prefer_server_cipher_suites:
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)


def _set_curves(context: SSL.Context, curves: tuple[str, ...]) -> None:
    if not curves:
        return
    library: Any = Binding().lib
    choose = getattr(library, "SSL_CTX_set1_curves_list", None)
    names = ":".join(CURVES[name] for name in curves).encode()
    # pyOpenSSL offers a single curve; the list is one call below it.
    if choose is None or choose(context._context, names) != 1:  # noqa: SLF001 - as above
        library.ERR_clear_error()
        raise WebSettingsError(
            "tls_server_config.curve_preferences",
            f"the OpenSSL at hand cannot be limited to curve_preferences {', '.join(curves)}; leave the key out",
        )


def _set_certificate(context: SSL.Context, settings: TlsSettings) -> None:
    chain = certificates(settings.cert, settings.cert_key)
    key = _private_key(settings.key, settings.key_key)
    try:
        context.use_certificate(chain[0])
        for issuer in chain[1:]:
            context.add_extra_chain_cert(issuer)
    except SSL.Error as error:
        raise WebSettingsError(settings.cert_key, f"the certificate cannot be used: {_said(error)}") from None
    try:
        context.use_privatekey(key)
        context.check_privatekey()
    except (SSL.Error, TypeError) as error:
        raise WebSettingsError(
            settings.key_key,
            f"the key does not belong to the certificate ({_said(error)}); were both renewed?",
        ) from None


def certificates(pem: bytes, key: str) -> list[x509.Certificate]:
    """:raises WebSettingsError: there is none, or one cannot be read."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        name = key.rpartition(".")[2]
        raise WebSettingsError(key, f"{name} holds no certificate in PEM that can be read") from None


def _private_key(pem: bytes, key: str) -> Any:
    name = key.rpartition(".")[2]
    found = _PRIVATE_KEY.search(pem)
    if found is None:
        raise WebSettingsError(key, f"{name} holds no private key in PEM")
    if b"ENCRYPTED" in found[0]:
        raise WebSettingsError(
            key, f"the key in {name} is encrypted; take its password away with `openssl pkey`"
        )
    try:
        return load_pem_private_key(found[0], password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise WebSettingsError(key, f"the key in {name} cannot be read") from None


def _set_clients(context: SSL.Context, settings: TlsSettings) -> None:
    context.set_verify(_VERIFY[settings.client_auth], _judge(settings))
    if settings.client_ca is not None:
        authorities = certificates(settings.client_ca, settings.client_ca_key)
        store = context.get_cert_store()
        if store is not None:
            for authority in authorities:
                store.add_cert(crypto.X509.from_cryptography(authority))
            # What is named as an authority is one, also where it is no root.
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for named in {each.subject.public_bytes(): each for each in authorities}.values():
            context.add_client_ca(named)
    elif settings.client_auth in {"VerifyClientCertIfGiven", "RequireAndVerifyClientCert"}:
        context.set_default_verify_paths()  # as the format has it: the system's authorities


def _judge(settings: TlsSettings) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    allowed, unjudged = settings.allowed_sans, settings.client_auth in _UNJUDGED

    def judge(_: SSL.Connection, certificate: crypto.X509, __: int, depth: int, fine: int) -> bool:
        if not (unjudged or fine):
            return False
        return depth > 0 or allowed is None or not allowed.isdisjoint(alternative_names(certificate))

    return judge


def alternative_names(certificate: crypto.X509) -> Iterator[str]:
    """DNS names, e-mail addresses, IP addresses and URIs; of a certificate that cannot be read, none."""
    try:
        extensions = certificate.to_cryptography().extensions
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _UNREADABLE:
        return
    for name in found:
        if isinstance(name, x509.DNSName | x509.RFC822Name | x509.UniformResourceIdentifier):
            yield name.value
        elif isinstance(name, x509.IPAddress):
            yield str(name.value)


# --- connections --------------------------------------------------------------------------------------


class BrokenError(Exception):
    """What came over an established connection is no TLS, or has been tampered with."""


class HandshakeError(Exception):
    """The client is none that may talk to us; its text is one of ``HANDSHAKE_FAILURES``."""


class Encrypted(asyncio.Transport):
    """A transport whose other side is TLS: what is written is encrypted, what :meth:`received` yields was decrypted.

    Reading that is paused stays paused for what has been decrypted, too: ``resumed`` is called when there may be more, and
    is to read on in a later turn of the loop.
    """

    def __init__(
        self, context: SSL.Context, transport: asyncio.Transport, resumed: Callable[[], object]
    ) -> None:
        super().__init__({"sslcontext": context})
        self._ssl = SSL.Connection(context, None)
        self._ssl.set_accept_state()
        self._transport = transport
        self._resumed = resumed
        self._paused = False
        self._resting = False
        self._begun = False
        self.established = False
        self.ended = False
        """The client has said that it sends no more."""

    # --- in -----------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """:raises HandshakeError: this will be no connection; what there is to say about it has been sent."""
        if not self._begun and data:
            self._begun = True
            if data[0] != HANDSHAKE_RECORD:
                raise HandshakeError("plaintext")
        self._ssl.bio_write(data)
        if not self.established:
            self._shake_hands()

    def decrypted(self) -> Iterator[bytes]:
        """What can be read now, a record at a time, until reading is paused; after a stretch, others have their turn.

        :raises BrokenError: the connection is of no more use.
        """
        self._rest(False)
        records = 0
        while self.established and not self._paused and not self.ended and not self._transport.is_closing():
            if records == MOST_RECORDS_AT_A_STRETCH:
                self._rest(True)
                return
            records += 1
            try:
                part = self._ssl.recv(LARGEST_RECORD)
            except SSL.WantReadError:
                self._flush()  # answers to what was no data: a refused renegotiation, new keys
                return
            except SSL.ZeroReturnError:
                self.ended = True
                return
            except SSL.Error as error:
                raise BrokenError from error
            yield part

    def _rest(self, resting: bool) -> None:
        """Meanwhile nothing more comes in, whatever flow control says; when it ends, flow control decides again."""
        if resting is self._resting or self._transport.is_closing():
            return
        self._resting = resting
        if resting:
            self._transport.pause_reading()
            self._resumed()
        elif not self._paused:
            self._transport.resume_reading()

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return
        except SSL.Error as error:
            self._flush()  # the alert
            raise HandshakeError("certificate" if "certificate" in _said(error) else "protocol") from None
        self.established = True
        self._flush()

    # --- out ----------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if not self.established or self._transport.is_closing():
            return
        view = memoryview(data)
        try:
            for start in range(0, len(view), WRITE_AT_ONCE):
                self._ssl.sendall(view[start : start + WRITE_AT_ONCE])
                self._flush()
        except SSL.Error:
            self._transport.abort()

    def write_in_the_clear(self, data: bytes) -> None:
        """To a client that does not speak TLS."""
        self._transport.write(data)

    def _flush(self) -> None:
        parts = []
        try:
            while True:
                parts.append(self._ssl.bio_read(READ_AT_ONCE))
        except SSL.WantReadError:
            pass
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        if self.established and not self._transport.is_closing():
            try:
                self._ssl.shutdown()
                self._flush()
            except SSL.Error:
                pass
        self._transport.close()

    # --- the transport below ------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
            self._resumed()

    def let_go(self) -> None:
        """The connection is lost: who was to be told that reading goes on is not held any longer."""
        self._resumed = lambda: None

    def is_reading(self) -> bool:
        return not self._paused

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        found = super().get_extra_info(name)
        return self._transport.get_extra_info(name, default) if found is None else found


def _said(error: Exception) -> str:
    """OpenSSL's own words, the first of its queue."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = [entry[2] for entry in queue if len(entry) > 2 and entry[2]]
    return str(words[0]) if words else type(error).__name__
