"""What OpenSSL makes of a certificate that is too odd for a strict reader: few facts are better than none."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime

from OpenSSL import crypto

from watchbill.domain.units import Instant, to_instant
from watchbill.ports import Certificate


def facts_by_openssl(der: bytes, sha256: str) -> Certificate:
    """Without names; what OpenSSL cannot read either is empty, and instants 0."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says to read with cryptography, which would not
            return _read(crypto.load_certificate(crypto.FILETYPE_ASN1, der), sha256)
    except (crypto.Error, ValueError, OverflowError):
        return Certificate("", "", (), 0, 0, sha256, "")


def _read(certificate: crypto.X509, sha256: str) -> Certificate:
    return Certificate(
        subject=_text(certificate.get_subject()),
        issuer=_text(certificate.get_issuer()),
        names=(),
        not_before=_instant(certificate.get_notBefore()),
        not_after=_instant(certificate.get_notAfter()),
        sha256=sha256,
        serial=f"{certificate.get_serial_number():x}",
    )


def _text(name: crypto.X509Name) -> str:
    parts = [
        f"{kind.decode(errors='replace')}={value.decode(errors='replace')}"
        for kind, value in name.get_components()
    ]
    return ",".join(reversed(parts))  # as RFC 4514 has it


def _instant(text: bytes | None) -> Instant:
    """``20270220110630Z``, which is all that RFC 5280 §4.1.2.5 allows."""
    if not text:
        return 0
    return to_instant(datetime.strptime(text.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC))
