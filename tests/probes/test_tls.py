"""TLS checks against certificates of every kind, and what is said of each."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509

from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.servers import DAY, LOOPBACK, NOW, Authority, Issued, hang, no_socket_left, serving, shake_hands
from watchbill.domain.results import Outcome, Reason
from watchbill.probes.tls import covers

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


EXPIRED, BORN = NOW - 3 * DAY, NOW - 30 * DAY
LATER = NOW + 2 * DAY

CERTIFICATES: list[tuple[str, dict[str, Any], tuple[str, ...], str | None]] = [
    ("valid", {}, ("127.0.0.1",), None),
    ("valid for a name", {}, ("shop.test",), "certificate is not for 127.0.0.1 but for shop.test"),
    (
        "expired",
        {"valid_from": BORN, "valid_until": EXPIRED},
        ("127.0.0.1",),
        f"certificate expired on {shown(EXPIRED)}",
    ),
    (
        "not yet valid",
        {"valid_from": LATER},
        ("127.0.0.1",),
        f"certificate is not valid before {shown(LATER)}",
    ),
    ("self-signed", {"self_signed": True}, ("127.0.0.1",), "certificate is self-signed"),
    ("for clients", {"client": True}, ("127.0.0.1",), "certificate is not meant for servers"),
    (
        "nameless",
        {"common_name": "127.0.0.1"},
        (),
        "certificate names no host (no subjectAltName), so it is not for 127.0.0.1",
    ),
    (
        "of many names",
        {},
        tuple(f"host-{number}.test" for number in range(12)),
        "certificate is not for 127.0.0.1 but for "
        + ", ".join(f"host-{number}.test" for number in range(10))
        + " and 2 more",
    ),
    (
        "expired, self-signed and for another",
        {"valid_from": BORN, "valid_until": EXPIRED, "self_signed": True},
        ("shop.test",),
        (
            f"certificate is self-signed; certificate expired on {shown(EXPIRED)}; "
            "certificate is not for 127.0.0.1 but for shop.test"
        ),
    ),
]


@pytest.mark.parametrize(
    ("how", "names", "problem"), [row[1:] for row in CERTIFICATES], ids=[row[0] for row in CERTIFICATES]
)
async def test_what_is_wrong_with_a_certificate_is_said_and_its_facts_are_kept(
    authority: Authority, how: dict[str, Any], names: tuple[str, ...], problem: str | None
) -> None:
    issued = authority.issue(*names, **how)
    async with (
        no_socket_left(),
        serving(hang, tls=issued.context()) as server,
        open_prober() as probe,
    ):
        declared = {"host": LOOPBACK, "port": server.port, "tls": {"ca_file": authority.ca_file}}
        judged = await probe("tls", **declared)
        unjudged = await probe("tls", **declared, expect={"verified": False})
        skipped = await probe("tls", **{**declared, "tls": {"skip_verification": True}})
    assert told(judged) == ([(Reason.CERTIFICATE, problem)] if problem else [])
    assert told(unjudged) == told(skipped) == []
    for result in (judged, unjudged):
        assert result.facts["certificate_problem"] == problem
        assert result.facts["certificate_names"] == list(names)
        assert result.facts["certificate_expires_at"] == int(
            issued.certificate.not_valid_after_utc.timestamp()
        )
        assert result.facts["tls_version"] == "TLSv1.3"
        assert list(result.phases) == ["resolve", "connect", "tls"]
        assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("names", "host", "fits"),
    [
        (("shop.test",), "shop.test", True),
        (("SHOP.Test",), "shop.test", True),
        (("shop.test",), "shop.test.", True),
        (("*.shop.test",), "www.shop.test", True),
        (("*.shop.test",), "a.www.shop.test", False),
        (("*.shop.test",), "shop.test", False),
        (("xn--bcher-kva.test",), "bücher.test", True),
        (("*.test",), "shop.test", False),
        (("shop.test", "*", "not a name", "*.*.test"), "shop.test", True),
        (("*", "not a name"), "shop.test", False),
    ],
)
async def test_whose_certificate_it_is(
    authority: Authority, names: tuple[str, ...], host: str, fits: bool
) -> None:
    """Names that are none, which are common, do not spoil those beside them."""
    issued = authority.issue(*names, common_name="x")
    async with (
        serving(hang, tls=issued.context()) as server,
        open_prober(names={host: LOOPBACK}) as probe,
    ):
        result = await probe("tls", host=host, port=server.port, tls={"ca_file": authority.ca_file})
    wrong = f"certificate is not for {host} but for {', '.join(names)}"
    assert told(result) == ([] if fits else [(Reason.CERTIFICATE, wrong)])


async def test_a_name_that_is_an_address_is_no_address(authority: Authority) -> None:
    issued = authority.issue(x509.DNSName("127.0.0.1"), "shop.test")
    async with (
        serving(hang, tls=issued.context()) as server,
        open_prober(names={"shop.test": LOOPBACK}) as probe,
    ):
        declared = {"port": server.port, "tls": {"ca_file": authority.ca_file}}
        by_name = await probe("tls", host="shop.test", **declared)
        by_address = await probe("tls", host="127.0.0.1", **declared)
    assert told(by_name) == []
    assert by_address.reason is Reason.CERTIFICATE


async def test_a_certificate_of_thousands_of_names_is_read_and_its_facts_are_bounded(
    authority: Authority,
) -> None:
    names = [f"host-{number}.test" for number in range(3000)]
    issued = authority.issue(*names)
    async with (
        serving(hang, tls=issued.context()) as server,
        open_prober(names={names[-1]: LOOPBACK}) as probe,
    ):
        result = await probe("tls", host=names[-1], port=server.port, tls={"ca_file": authority.ca_file})
    assert told(result) == []
    assert result.facts["certificate_names"] == names[:100]


async def test_an_issuer_that_nobody_knows(authority: Authority) -> None:
    issued = authority.issue(LOOPBACK)
    async with serving(hang, tls=issued.context()) as server, open_prober() as probe:
        result = await probe("tls", host=LOOPBACK, port=server.port)
    assert told(result) == [(Reason.CERTIFICATE, "certificate has an unknown issuer")]


@pytest.mark.parametrize(
    ("expect", "failures"),
    [
        ({"certificate_valid_for": "21d"}, []),
        ({"certificate_valid_for": "91d"}, ["certificate must be valid for 91d, expires in 90.0d"]),
        ({"names": ["shop.test", "www.shop.test"]}, []),
        (
            {"names": ["shop.test", "a.b.shop.test", "other.test"]},
            [
                (
                    "certificate must be for a.b.shop.test, other.test, "
                    "but is for shop.test, *.shop.test, 127.0.0.1"
                )
            ],
        ),
    ],
)
async def test_expectations_of_a_certificate(
    authority: Authority, expect: dict[str, Any], failures: list[str]
) -> None:
    issued = authority.issue("shop.test", "*.shop.test", LOOPBACK)
    async with serving(hang, tls=issued.context()) as server, open_prober() as probe:
        result = await probe(
            "tls", host=LOOPBACK, port=server.port, tls={"ca_file": authority.ca_file}, expect=expect
        )
    assert told(result) == [(Reason.CERTIFICATE, text) for text in failures]


async def test_all_that_is_wrong_is_reported(authority: Authority) -> None:
    issued = authority.issue("shop.test", valid_from=BORN, valid_until=EXPIRED)
    async with serving(hang, tls=issued.context()) as server, open_prober() as probe:
        result = await probe(
            "tls",
            host=LOOPBACK,
            port=server.port,
            tls={"ca_file": authority.ca_file, "server_name": "shop.test"},
            expect={"certificate_valid_for": "21d", "names": "other.test", "latency": "0.001ms"},
        )
    assert [text.partition(", took")[0] for _, text in told(result)] == [
        f"certificate expired on {shown(EXPIRED)}",
        "certificate must be valid for 21d, expired 3.0d ago",
        "certificate must be for other.test, but is for shop.test",
        "latency must be at most 0.001ms",
    ]
    assert result.reason is Reason.CERTIFICATE


@pytest.mark.parametrize("anchor", ["the root", "the intermediate", "the certificate itself"])
async def test_whatever_is_named_as_trusted_is_an_anchor(
    authority: Authority, anchor: str, tmp_path: Path
) -> None:
    middle = Authority(tmp_path, "Middle", parent=authority)
    issued = middle.issue(LOOPBACK)
    files = {"the root": authority.ca_file, "the intermediate": middle.ca_file}
    async with serving(hang, tls=issued.context()) as server, open_prober() as probe:
        ca_file = files.get(anchor, issued.cert_file)
        result = await probe("tls", host=LOOPBACK, port=server.port, tls={"ca_file": ca_file})
    assert told(result) == []


async def test_the_chain_s_earliest_end_counts(authority: Authority, tmp_path: Path) -> None:
    middle = Authority(tmp_path, "Middle", parent=authority, valid_until=NOW + 5 * DAY)
    issued = middle.issue(LOOPBACK)
    async with serving(hang, tls=issued.context()) as server, open_prober() as probe:
        result = await probe(
            "tls",
            host=LOOPBACK,
            port=server.port,
            tls={"ca_file": authority.ca_file},
            expect={"certificate_valid_for": "14d"},
        )
    assert told(result) == [(Reason.CERTIFICATE, "certificate must be valid for 14d, expires in 5.0d")]
    assert result.facts["certificate_expires_at"] == int((NOW + 5 * DAY).timestamp())
    assert result.facts["certificate_issuer"] == "CN=Middle"


async def test_an_issuer_in_the_chain_that_expired_is_named(authority: Authority, tmp_path: Path) -> None:
    middle = Authority(tmp_path, "Middle", parent=authority, valid_from=BORN, valid_until=EXPIRED)
    issued = middle.issue(LOOPBACK)
    async with serving(hang, tls=issued.context()) as server, open_prober() as probe:
        result = await probe("tls", host=LOOPBACK, port=server.port, tls={"ca_file": authority.ca_file})
    assert told(result) == [
        (Reason.CERTIFICATE, f"certificate of the issuer CN=Middle expired on {shown(EXPIRED)}")
    ]


@pytest.mark.parametrize("part", ["the server's own", "one behind it"])
async def test_a_chain_with_a_part_that_cannot_be_read_keeps_its_facts(
    authority: Authority, part: str, tmp_path: Path
) -> None:
    own = authority.issue(LOOPBACK)
    sooner = authority.issue("other.test", valid_until=NOW + 7 * DAY)
    chain = own.odd() if part == "the server's own" else Path(own.cert_file).read_bytes() + sooner.odd()
    (tmp_path / "chain.pem").write_bytes(chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem", own.key_file)
    async with no_socket_left(), serving(hang, tls=context) as server, open_prober() as probe:
        result = await probe("tls", host=LOOPBACK, port=server.port, tls={"ca_file": authority.ca_file})
    ends = own if part == "the server's own" else sooner
    assert result.facts["certificate_expires_at"] == int(ends.certificate.not_valid_after_utc.timestamp())
    assert result.facts["certificate_subject"] == f"CN={LOOPBACK}"
    assert result.facts["certificate_issuer"] == "CN=Test Root"
    if part == "the server's own":
        assert result.reason is Reason.CERTIFICATE
        assert "cannot be read (5 is not a valid X509 version)" in result.message
    else:
        assert told(result) == []


# --- handshakes that do not happen --------------------------------------------------------------------


async def test_a_server_that_speaks_no_tls() -> None:
    async def shout(caller: Any) -> None:
        await caller.say(b"220 mail.test ESMTP\r\n")
        await hang(caller)

    async with no_socket_left(), serving(shout) as server, open_prober() as probe:
        result = await probe("tls", host=LOOPBACK, port=server.port)
    assert told(result) == [(Reason.TLS, "TLS handshake failed: the peer does not speak TLS")]
    assert result.outcome is Outcome.FAILURE


async def test_a_server_that_hangs_up() -> None:
    async def leave(caller: Any) -> None:
        await caller.reader.read(1024)

    async def crash(caller: Any) -> None:
        await caller.reader.read(1024)
        caller.reset()

    async with no_socket_left(), serving(leave) as server, open_prober() as probe:
        left = await probe("tls", host=LOOPBACK, port=server.port)
    async with no_socket_left(), serving(crash) as crashing, open_prober() as probe:
        crashed = await probe("tls", host=LOOPBACK, port=crashing.port)
    assert told(left) == [(Reason.TLS, f"127.0.0.1:{server.port} hung up during the TLS handshake")]
    assert told(crashed) == [
        (
            Reason.TLS,
            f"connection reset by peer while talking to 127.0.0.1:{crashing.port} during the TLS handshake",
        )
    ]


async def test_a_server_that_refuses_with_an_alert(authority: Authority) -> None:
    outdated = authority.issue(LOOPBACK).context()
    outdated.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # its key is of another kind
    outdated.maximum_version = ssl.TLSVersion.TLSv1_2

    async def conversation(caller: Any) -> None:
        await shake_hands(caller, outdated)

    async with no_socket_left(), serving(conversation) as server, open_prober() as probe:
        result = await probe("tls", host=LOOPBACK, port=server.port)
    assert told(result) == [(Reason.TLS, "TLS handshake failed: the server refused (handshake failure)")]


async def test_a_handshake_that_hangs_costs_the_timeout() -> None:
    async with no_socket_left(), serving(hang) as server, open_prober() as probe:
        with anyio.fail_after(10):
            result = await probe("tls", host=LOOPBACK, port=server.port, timeout="200ms")
    assert told(result) == [(Reason.TIMEOUT, "timed out after 200ms during the TLS handshake")]


@pytest.mark.parametrize("broken", ["missing", "garbage", "encrypted", "of another certificate"])
async def test_a_client_certificate_that_cannot_be_used_is_our_own_fault(
    authority: Authority, broken: str, tmp_path: Path
) -> None:
    me = authority.issue("me", client=True)
    key_file = _broken_key(broken, authority, me, tmp_path)
    async with serving(hang, tls=authority.issue(LOOPBACK).context()) as server, open_prober() as probe:
        result = await probe(
            "tls",
            host=LOOPBACK,
            port=server.port,
            tls={"ca_file": authority.ca_file, "cert_file": me.cert_file, "key_file": key_file},
        )
    [(reason, message)] = told(result)
    assert reason is Reason.INTERNAL
    assert message.startswith(
        f"the TLS files {authority.ca_file}, {me.cert_file}, {key_file} cannot be used: "
    )
    assert result.outcome is Outcome.ERROR


def _broken_key(broken: str, authority: Authority, me: Issued, folder: Path) -> str:
    path = folder / "key.pem"
    match broken:
        case "garbage":
            path.write_text("no key at all")
        case "encrypted":
            path.write_bytes(me.encrypted_key(b"passphrase"))
        case "of another certificate":
            return authority.issue("someone").key_file
    return str(path)


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "wanted", "covered"),
    [
        (("shop.test",), "shop.test", True),
        (("SHOP.test",), "shop.TEST.", True),
        (("*.shop.test",), "www.shop.test", True),
        (("*.shop.test",), "*.shop.test", True),
        (("*.shop.test",), "shop.test", False),
        (("*.shop.test",), "a.b.shop.test", False),
        (("*.test",), "shop.test", False),
        (("w*.shop.test",), "www.shop.test", False),
        (("xn--bcher-kva.test",), "bücher.test", True),
        (("192.0.2.1",), "192.0.2.1", True),
        (("*.0.2.1",), "192.0.2.1", False),
        (("2001:db8::1",), "2001:0DB8::0:1", True),
        ((), "shop.test", False),
    ],
)
def test_a_wildcard_covers_one_label(names: tuple[str, ...], wanted: str, covered: bool) -> None:
    assert covers(names, wanted) is covered
