"""TLS of the HTTP server: a context from what the web configuration asks for.

Certificates and keys never touch a file of ours, and a client's certificate may be asked for without being judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.bindings.openssl.binding import Binding
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from watchbill.domain.web import CIPHER_SUITES, CURVES, TLS13_SUITES, TlsSettings, WebSettingsError

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
            "tls_server_config.cipher_suites", f"OpenSSL takes none of these cipher_suites: {said(error)}"
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
        raise WebSettingsError(settings.cert_key, f"the certificate cannot be used: {said(error)}") from None
    try:
        context.use_privatekey(key)
        context.check_privatekey()
    except (SSL.Error, TypeError) as error:
        raise WebSettingsError(
            settings.key_key,
            f"the key does not belong to the certificate ({said(error)}); were both renewed?",
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


def said(error: Exception) -> str:
    """OpenSSL's own words, the first of its queue."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = [entry[2] for entry in queue if len(entry) > 2 and entry[2]]
    return str(words[0]) if words else type(error).__name__
