"""Versions, suites and curves of our HTTPS are those that are asked for; and what cannot be used is told."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest
import trustme
from anyio.streams.tls import TLSAttribute
from tests.web.certificates import authority, client_context, live_tls, server_party, tls_settings
from tests.web.test_server import serving
from tests.web.test_tls import connected, gets_in

from watchbill.domain.web import (
    CIPHER_SUITES,
    CURVES,
    TLS13_SUITES,
    TlsSettings,
    WebSettings,
    WebSettingsError,
)
from watchbill.web import Live, opened
from watchbill.web.tls import server_context

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


# --- suites, versions, curves -------------------------------------------------------------------------


async def _negotiated(live: Live, client: ssl.SSLContext | None = None) -> tuple[str, str]:
    async with serving(live) as served, connected(served, client) as stream:
        name, version, _ = stream.extra(TLSAttribute.cipher)
        return str(name), str(version)


def _limited(lowest: str, highest: str) -> ssl.SSLContext:
    context = client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    versions = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}
    context.minimum_version = ssl.TLSVersion[versions[lowest]]
    context.maximum_version = ssl.TLSVersion[versions[highest]]
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(
    ("ours", "theirs", "let_in"),
    [
        (("TLS12", "TLS13"), ("TLS10", "TLS11"), False),
        (("TLS12", "TLS13"), ("TLS12", "TLS12"), True),
        (("TLS13", "TLS13"), ("TLS12", "TLS12"), False),
        (("TLS13", "TLS13"), ("TLS12", "TLS13"), True),
        (("TLS12", "TLS12"), ("TLS13", "TLS13"), False),
        (("TLS10", "TLS13"), ("TLS10", "TLS10"), True),
        (("TLS11", "TLS13"), ("TLS10", "TLS10"), False),
        (("TLS11", "TLS13"), ("TLS11", "TLS11"), True),
    ],
)
async def test_versions_are_those_that_are_asked_for(
    ours: tuple[str, str], theirs: tuple[str, str], let_in: bool
) -> None:
    async with serving(live_tls(min_version=ours[0], max_version=ours[1])) as served:
        assert await gets_in(served, _limited(*theirs)) is let_in


@pytest.mark.parametrize("suite", CIPHER_SUITES)
async def test_every_suite_can_be_the_only_one(suite: str) -> None:
    kind = trustme.KeyType.ECDSA if "ECDSA" in suite else trustme.KeyType.RSA
    live = live_tls(kind=kind, cipher_suites=(suite,), max_version="TLS12")
    name, _ = await _negotiated(live, _limited("TLS12", "TLS12"))
    assert name == CIPHER_SUITES[suite]


@pytest.mark.parametrize("suite", TLS13_SUITES)
async def test_suites_of_tls_1_3_that_are_listed_are_the_only_ones(suite: str) -> None:
    live = live_tls(cipher_suites=(suite,))
    assert await _negotiated(live) == (suite, "TLSv1.3")
    async with serving(live_tls(cipher_suites=(suite,))) as served:
        assert not await gets_in(served, _limited("TLS12", "TLS12"))


async def test_the_order_of_suites_is_ours_unless_the_client_is_to_choose() -> None:
    suites = ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")
    names = [CIPHER_SUITES[suite] for suite in suites]
    client = client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(":".join(reversed(names)))
    assert (await _negotiated(live_tls(cipher_suites=suites), client))[0] == names[0]
    theirs = live_tls(cipher_suites=suites, prefer_server_cipher_suites=False)
    assert (await _negotiated(theirs, client))[0] == names[1]


@pytest.mark.parametrize("curve", ["CurveP256", "CurveP384", "CurveP521"])
async def test_only_curves_that_are_listed_are_agreed_on(curve: str) -> None:
    names = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}
    async with serving(live_tls(curves=(curve, "X25519"))) as served:
        for other, name in names.items():
            client = client_context()
            client.set_ecdh_curve(name)
            assert await gets_in(served, client) is (other == curve)


def test_all_curves_are_taken_together() -> None:
    server_context(tls_settings(curves=tuple(CURVES)))


# --- what cannot be used ------------------------------------------------------------------------------


def _broken(**what: object) -> TlsSettings:
    return replace(tls_settings(), **what)  # type: ignore[arg-type]


ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"
OLD_ENCRYPTED = (
    b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END EC PRIVATE KEY-----\n"
)
UNUSABLE = {
    "no certificate": ({"cert": b"hello"}, "cert_file", "holds no certificate in PEM"),
    "a damaged certificate": (
        {"cert": b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}, "cert_file", "that can be read",
    ),
    "no key": ({"key": b"hello"}, "key_file", "holds no private key"),
    "a damaged key": (
        {"key": b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"}, "key_file", "cannot be read",
    ),
    "an encrypted key": ({"key": ENCRYPTED}, "key_file", "openssl pkey"),
    "another's key": ({"key": authority("theirs").issue("x").key}, "key_file", "does not belong to the certificate"),
    "an encrypted key of another time": ({"key": OLD_ENCRYPTED}, "key_file", "openssl pkey"),
    "a key of another kind": (
        {"key": server_party(trustme.KeyType.RSA).key}, "key_file", "does not belong to the certificate",
    ),
    "authorities that are none": (
        {"client_ca": b"hello", "client_auth": "RequireAndVerifyClientCert"}, "client_ca_file", "no certificate",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("what", "key", "said"), UNUSABLE.values(), ids=UNUSABLE)
async def test_what_cannot_be_used_is_told_with_its_key(what: dict[str, object], key: str, said: str) -> None:
    with pytest.raises(WebSettingsError, match=said) as error:
        server_context(_broken(**what))
    assert error.value.key == f"tls_server_config.{key}"


async def test_certificate_and_key_may_lie_in_one_file_among_other_things() -> None:
    party = server_party()
    both = (
        b"# ours\n-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        + party.key
        + party.cert
    )
    async with serving(opened(WebSettings(tls=TlsSettings(cert=both, key=both)), at=0)) as served:
        assert await gets_in(served)
