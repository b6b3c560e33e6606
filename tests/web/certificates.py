"""Certificates for tests of our own HTTPS: an authority, what it issued, and settings that use them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import trustme

from watchbill.domain.web import TlsSettings, WebSettings
from watchbill.web import Live, opened


@dataclass(frozen=True)
class Party:
    """A certificate with its key, both PEM."""

    cert: bytes
    key: bytes
    leaf: trustme.LeafCert


@dataclass(frozen=True)
class Authority:
    ca: trustme.CA = field(default_factory=lambda: trustme.CA(key_type=trustme.KeyType.ECDSA))

    @property
    def pem(self) -> bytes:
        return self.ca.cert_pem.bytes()

    def issue(self, *names: str, kind: trustme.KeyType = trustme.KeyType.ECDSA) -> Party:
        leaf = self.ca.issue_cert(*names, key_type=kind)
        chain = b"".join(each.bytes() for each in leaf.cert_chain_pems)
        return Party(chain, leaf.private_key_pem.bytes(), leaf)


@cache
def authority(name: str = "ours") -> Authority:
    """One of each name for all tests of a run."""
    del name
    return Authority()


@cache
def server_party(kind: trustme.KeyType = trustme.KeyType.ECDSA) -> Party:
    return authority().issue("localhost", "127.0.0.1", kind=kind)


def tls_settings(kind: trustme.KeyType = trustme.KeyType.ECDSA, **how: Any) -> TlsSettings:
    party = server_party(kind)
    return TlsSettings(cert=party.cert, key=party.key, **how)


def live_tls(**how: Any) -> Live:
    return opened(WebSettings(tls=tls_settings(**how)), at=0)


def client_context(party: Party | None = None, trusted: Authority | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=(trusted or authority()).pem.decode())
    if party is not None:
        party.leaf.configure_cert(context)
    return context
