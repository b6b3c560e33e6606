"""TLS over memory: OpenSSL shakes hands and never refuses; what it thinks of the certificate is written down.

One handshake, then the verdict: OpenSSL verifies chain, dates and purpose as it always does, but each objection
is recorded instead of ending the handshake, so the certificate's facts exist for bad certificates too. Whoever
uses the connection looks at :attr:`TlsSession.problem` before anything is sent.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from watchbill.domain.credentials import TlsOptions
from watchbill.domain.results import Reason
from watchbill.net.certificates import (
    Objection,
    is_address,
    name_problem,
    read_certificate,
    verification_problem,
)
from watchbill.ports import NetworkError, TlsSession

CONTEXTS_KEPT = 256
READ_AT_ONCE = 64 * 1024
_STARVED = frozenset({errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes one context differ from another: the files by name and by change."""

    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    alpn: tuple[str, ...]
    changed: tuple[int, ...]


class Contexts:
    """Contexts by their options. Making one costs up to 20 ms (140 root certificates are read), so they are kept;
    a file that changed makes a new one."""

    def __init__(self) -> None:
        self._kept: dict[_Key, SSL.Context] = {}

    def get(self, options: TlsOptions, alpn: tuple[str, ...] = ()) -> SSL.Context:
        """:raises NetworkError: a file of certificates cannot be used (``permission``, ``descriptors`` or ``internal``)."""
        files = [name for name in (options.ca_file, options.cert_file, options.key_file) if name is not None]
        try:
            changed = tuple([os.stat(name).st_mtime_ns for name in files])  # noqa: PTH116 - with each probe: half the cost
        except OSError as error:
            raise _unusable(error, files) from error
        key = _Key(options.ca_file, options.cert_file, options.key_file, alpn, changed)
        context = self._kept.get(key)
        if context is None:
            if len(self._kept) >= CONTEXTS_KEPT:
                self._kept.pop(next(iter(self._kept)))
            context = self._kept[key] = _make_context(options, alpn, files)
        return context


def _make_context(options: TlsOptions, alpn: tuple[str, ...], files: list[str]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_PEER, _write_down)
    if alpn:
        context.set_alpn_protos([name.encode("ascii") for name in alpn])
    try:
        if options.ca_file is None:
            _trust_the_system(context)
        else:
            context.load_verify_locations(options.ca_file)
            _trust_intermediates(context)
        if options.cert_file is not None and options.key_file is not None:
            context.use_certificate_chain_file(options.cert_file)
            # Read here and not by OpenSSL, which asks for a passphrase on the terminal.
            key = load_pem_private_key(Path(options.key_file).read_bytes(), password=None)
            context.use_privatekey(key)  # type: ignore[arg-type] # kinds it cannot use are a TypeError
            context.check_privatekey()
    except (SSL.Error, crypto.Error, OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(error, files) from error
    return context


def _trust_the_system(context: SSL.Context) -> None:
    """:raises OSError: no descriptor is left for the file that ``SSL_CERT_FILE`` names.

    OpenSSL passes over a file that it cannot open just then, and the context would trust nobody for as long as it is kept.
    """
    named = os.environ.get("SSL_CERT_FILE")
    if named:
        try:
            Path(named).open("rb").close()
        except OSError as error:
            if error.errno in _STARVED:
                raise
    context.set_default_verify_paths()


def _trust_intermediates(context: SSL.Context) -> None:
    # What the user names as trusted is an anchor, also where it is no root.
    store = context.get_cert_store()
    if store is not None:
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)


def _unusable(error: Exception, files: list[str]) -> NetworkError:
    reason = Reason.PERMISSION if isinstance(error, PermissionError) else Reason.INTERNAL
    if isinstance(error, OSError) and error.errno in _STARVED:
        reason = Reason.DESCRIPTORS
    said = error.strerror if isinstance(error, OSError) else _said(error)
    return NetworkError(reason, f"the TLS files {', '.join(files) or 'of the system'} cannot be used: {said}")


def _write_down(
    connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, fine: int
) -> bool:
    if not fine:
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        connection.get_app_data().append(Objection(code, depth, der))
    return True


class TlsClient:
    """One client's side of TLS, without a socket: bytes in by :meth:`feed`, bytes out by :meth:`outgoing`."""

    def __init__(self, context: SSL.Context, server_name: str) -> None:
        server_name = server_name.removesuffix(".")  # neither asked for nor certified (RFC 6066 §3)
        self._server_name = server_name
        self._objections: list[Objection] = []
        self._ssl = SSL.Connection(context, None)
        self._ssl.set_app_data(self._objections)
        self._ssl.set_connect_state()
        if not is_address(server_name):
            self._ssl.set_tlsext_host_name(_ascii(server_name))

    def feed(self, data: bytes) -> None:
        self._ssl.bio_write(data)

    def outgoing(self) -> bytes:
        parts = []
        try:
            while len(part := self._ssl.bio_read(READ_AT_ONCE)) == READ_AT_ONCE:
                parts.append(part)
        except SSL.WantReadError:
            part = b""
        return b"".join([*parts, part]) if parts else part

    def handshake(self) -> bool:
        """One step; whether it is finished.

        :raises NetworkError: ``tls``, where the peer refuses or speaks no TLS.
        """
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            raise NetworkError(Reason.TLS, f"TLS handshake failed: {_said(error)}") from error
        return True

    def encrypt(self, data: bytes) -> bytes:
        try:
            for start in range(0, len(data), 1 << 20):
                self._ssl.sendall(data[start : start + (1 << 20)])
        except SSL.Error as error:
            raise NetworkError(Reason.TLS, f"TLS failed while sending: {_said(error)}") from error
        return self.outgoing()

    def decrypt(self, most: int) -> bytes | None:
        """What can be read now; ``None`` when more has to be fed first, ``b""`` after the peer's close_notify.

        :raises NetworkError: ``tls``, for an alert or a damaged record.
        """
        try:
            return self._ssl.recv(most)
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError:
            return b""
        except SSL.Error as error:
            raise NetworkError(Reason.TLS, f"TLS failed while receiving: {_said(error)}") from error

    def is_idle(self) -> bool:
        """Whether nothing is left to be read, not even the end."""
        try:
            self._ssl.recv(1)
        except SSL.WantReadError:
            return True
        except SSL.Error:
            pass
        return False

    def close_notify(self) -> bytes:
        try:
            self._ssl.shutdown()
        except SSL.Error:
            return b""
        return self.outgoing()

    def session(self) -> TlsSession:
        """What the finished handshake showed."""
        shown = [
            read_certificate(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
            for certificate in self._ssl.get_peer_cert_chain() or []
        ]
        chain_problem = verification_problem(self._objections)
        wrong_name = (
            name_problem(shown[0], self._server_name) if shown else "the server showed no certificate"
        )
        return TlsSession(
            version=self._ssl.get_protocol_version_name(),
            cipher=self._ssl.get_cipher_name() or "",
            chain=tuple(seen.facts for seen in shown),
            problem="; ".join(text for text in (chain_problem, wrong_name) if text) or None,
            protocol=self._ssl.get_alpn_proto_negotiated().decode("ascii", errors="replace"),
        )


def _ascii(server_name: str) -> bytes:
    try:
        return server_name.encode("ascii") if server_name.isascii() else server_name.encode("idna")
    except UnicodeError as error:
        raise NetworkError(Reason.TLS, f"{server_name} is no name that TLS can ask for") from error


_PLAIN_WORDS = {
    "wrong version number": "the peer does not speak TLS",
    "packet length too long": "the peer does not speak TLS",
    "http request": "the peer speaks plain HTTP, not TLS",
    "unsupported protocol": "the peer offers only an outdated TLS version",
    "unexpected eof while reading": "the peer hung up",
}


def _said(error: Exception) -> str:
    """OpenSSL's own words, the last and most telling of its queue."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = [entry[2] for entry in queue if len(entry) > 2 and entry[2]]
    if not words:
        return str(error) or type(error).__name__
    word = str(words[0])
    _, _, alert = word.partition(" alert ")
    return f"the server refused ({alert})" if alert else _PLAIN_WORDS.get(word, word)
