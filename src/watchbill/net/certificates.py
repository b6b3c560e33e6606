"""Certificates as facts: read once per distinct certificate, since reading costs more than the handshake's own share."""

from __future__ import annotations

import hashlib
import ipaddress
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import service_identity
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from service_identity.hazmat import DNS_ID, DNSPattern, verify_service_identity

from watchbill.domain.units import isoformat, to_instant
from watchbill.net.unreadable import facts_by_openssl
from watchbill.ports import Certificate

REMEMBERED = 4096
LARGE_BYTES, LARGE_REMEMBERED = 8 * 1024, 32
"""A certificate may name thousands of hosts; a target that shows another such one each time must not fill memory."""
NAMES_SHOWN = 10
# All that cryptography and service-identity raise over bytes that are no proper certificate.
_UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class SeenCertificate:
    """A certificate and what it is for. ``malformed``: what could not be read."""

    facts: Certificate
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    malformed: str | None = None


@dataclass(frozen=True, slots=True)
class Objection:
    """What OpenSSL's verification said of one certificate. ``depth`` 0 is the server's own."""

    code: int
    depth: int
    certificate: bytes


def read_certificate(der: bytes) -> SeenCertificate:
    """Never raises: ``malformed`` says what could not be read, and that is empty."""
    return _remembered(der) if len(der) <= LARGE_BYTES else _remembered_large(der)


def _read_or_say_why(der: bytes) -> SeenCertificate:
    digest = hashlib.sha256(der).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of oddities that this version still reads
            return _read(x509.load_der_x509_certificate(der), digest)
    except _UNREADABLE as error:
        return SeenCertificate(facts_by_openssl(der, digest), malformed=f"cannot be read ({error})")


_remembered = lru_cache(maxsize=REMEMBERED)(_read_or_say_why)
_remembered_large = lru_cache(maxsize=LARGE_REMEMBERED)(_read_or_say_why)


def _read(certificate: x509.Certificate, digest: str) -> SeenCertificate:
    malformed = None
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    try:
        hosts, addresses = _names(certificate)
    except _UNREADABLE as error:
        malformed = f"has names that cannot be read ({error})"
    facts = Certificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=hosts + addresses,
        not_before=to_instant(certificate.not_valid_before_utc),
        not_after=to_instant(certificate.not_valid_after_utc),
        sha256=digest,
        serial=f"{certificate.serial_number:x}",
    )
    return SeenCertificate(facts, hosts, addresses, malformed)


def _names(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return tuple(names.get_values_for_type(x509.DNSName)), tuple(str(address) for address in addresses)


@lru_cache(maxsize=REMEMBERED)
def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def name_problem(leaf: SeenCertificate, host: str) -> str | None:
    """Whether the certificate is for that host (RFC 9525: subjectAltName only, a wildcard covers one label)."""
    if leaf.malformed is not None:
        return f"certificate {leaf.malformed}"
    if not leaf.facts.names:
        return f"certificate names no host (no subjectAltName), so it is not for {host}"
    found = _is_for_address(leaf, host) if is_address(host) else _is_for_name(leaf, host)
    return None if found else f"certificate is not for {host} but for {_listed(leaf.facts.names)}"


def _is_for_address(leaf: SeenCertificate, host: str) -> bool:
    return str(ipaddress.ip_address(host)) in leaf.addresses


def _is_for_name(leaf: SeenCertificate, host: str) -> bool:
    try:
        wanted = DNS_ID(host)
        patterns = [DNSPattern.from_bytes(name.encode("ascii")) for name in _near(leaf.hosts, wanted)]
        verify_service_identity(patterns, obligatory_ids=[wanted], optional_ids=[])
    except (service_identity.VerificationError, service_identity.CertificateError, ValueError):
        return False
    return True


def _near(names: Iterable[str], wanted: DNS_ID) -> Iterator[str]:
    """The names worth a closer look. The others may be thousands, or no host names at all (an address, ``*``)."""
    host = wanted.hostname.decode("ascii")
    near = {host, f"*.{host.partition('.')[2]}"}
    return (name for name in names if name.lower() in near)


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


# X509_V_ERR_* of openssl/x509_vfy.h, with what to say of them.
_EXPIRED, _NOT_YET_VALID = 10, 9
_RULES: dict[int, str] = {
    18: "is self-signed",
    19: "leads to a root that is not trusted here",
    2: "has an unknown issuer",
    20: "has an unknown issuer",
    21: "has an unknown issuer",
    7: "has a signature that does not fit",
    22: "stands in a chain that is too long",
    23: "is revoked",
    24: "was issued by a certificate that is no CA",
    25: "stands in a chain longer than its CA allows",
    26: "is not meant for servers",
    34: "has a critical extension that is not understood",
    47: "has a name that its CA may not certify",
    65: "is disabled by policy",
    66: "has a key that is too short",
    67: "was issued with a key that is too short",
    68: "is signed with an algorithm that is too weak",
    79: "was issued by a certificate that is no CA",
}


def verification_problem(objections: Sequence[Objection]) -> str | None:
    """Which rules the chain broke, each once."""
    said: dict[str, None] = {}
    for objection in objections:
        said.setdefault(_objection_text(objection))
    return "; ".join(said) or None


def _objection_text(objection: Objection) -> str:
    facts = read_certificate(objection.certificate).facts
    match objection.code:
        case _ if objection.code == _EXPIRED:
            rule = f"expired on {isoformat(facts.not_after)}"
        case _ if objection.code == _NOT_YET_VALID:
            rule = f"is not valid before {isoformat(facts.not_before)}"
        case code:
            rule = _RULES.get(code, f"failed verification (OpenSSL error {code})")
    whose = "certificate" if objection.depth == 0 else f"certificate of the issuer {facts.subject}"
    return f"{whose} {rule}"
