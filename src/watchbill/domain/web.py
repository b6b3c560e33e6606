"""What a web configuration asks of the HTTP server, in the format of Prometheus' exporter toolkit, read and in order.

Files it names are already read: what holds is one generation, whatever happens to the files afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from watchbill.domain.errors import WatchbillError

CLIENT_AUTH = (
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
)
CLIENT_AUTH_ALIASES: Mapping[str, str] = {"": "NoClientCert", "RequireClientCert": "RequireAnyClientCert"}
"""Older spellings that the toolkit still takes."""
CERTAIN_CLIENT_AUTH = frozenset({"RequireAnyClientCert", "RequireAndVerifyClientCert"})
"""With these nobody gets in without a certificate."""
TLS_VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")
CURVES: Mapping[str, str] = {
    "CurveP256": "P-256",
    "CurveP384": "P-384",
    "CurveP521": "P-521",
    "X25519": "X25519",
    "X25519MLKEM768": "X25519MLKEM768",
}
"""Go's names and OpenSSL's."""
TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_ENDS: Mapping[str, str] = {
    "AES_128_CBC_SHA": "AES128-SHA",
    "AES_256_CBC_SHA": "AES256-SHA",
    "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}
CIPHER_SUITES: Mapping[str, str] = {
    **{f"TLS_RSA_WITH_{end}": name for end, name in _ENDS.items()},
    **{
        f"TLS_ECDHE_{key}_WITH_{end}": f"ECDHE-{key}-{name}"
        for key in ("RSA", "ECDSA")
        for end, name in {**_ENDS, "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305"}.items()
    },
}
"""Suites of TLS 1.2 and before: Go's names and OpenSSL's."""
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that may be configured, and their values where only some are allowed."""


class WebSettingsError(WatchbillError):
    """What a key of the web configuration holds cannot be used; ``key`` is its dotted path."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificates and keys are PEM, as they were read. Suites, curves and versions are Go's names.

    ``cert_key``, ``key_key`` and ``client_ca_key`` say which key of the file they come from, for messages.
    """

    cert: bytes
    key: bytes = field(repr=False)
    cert_key: str = "tls_server_config.cert_file"
    key_key: str = "tls_server_config.key_file"
    client_auth: str = "NoClientCert"
    client_ca: bytes | None = None
    client_ca_key: str = "tls_server_config.client_ca_file"
    allowed_sans: frozenset[str] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: one request each ``interval_seconds``, up to ``burst`` at once."""

    interval_seconds: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebSettings:
    """``users`` are names and bcrypt hashes; none: everybody may ask."""

    tls: TlsSettings | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate_limit: RateLimit | None = None
