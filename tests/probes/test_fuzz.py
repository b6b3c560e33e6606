"""Whatever a target says, it is judged: no prober crashes, and no connection is left open."""

from __future__ import annotations

import string
from functools import partial
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hpack import Encoder
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.probes.fakes import Scripted, ScriptedNetwork, a_certificate
from tests.probes.support import Prober, told
from tests.servers import Authority
from watchbill.domain.results import Result
from watchbill.net.certificates import name_problem, read_certificate
from watchbill.ports import TlsSession

EVERYTHING = {
    "status": 200,
    "headers": {"x-a": {"matches": "a+"}},
    "body": {"contains": "x", "matches": "y", "not_contains": "z"},
    "json": {"$.a[0]": "< 5"},
    "json_schema": {"type": "object"},
    "certificate_valid_for": "1d",
    "latency": "1s",
}

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Shrinking a crash logs it a thousand times."""

header_text = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60).map(
    lambda text: text.encode("latin-1")
)
fields = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"Location",
                b"Set-Cookie",
                b"Content-Type",
                b"Content-Encoding",
                b"Content-Length",
                b"Last-Modified",
                b"Transfer-Encoding",
                b"Refresh",
                b"X-A",
            ]
        ),
        header_text
        | st.sampled_from(
            [
                b"gzip",
                b"chunked",
                b"//[",
                b"http://a@b:99999/",
                b"http://[v1.x]/",
                b"//xn--a/",
                b"http://\xff.test/",
                b"a=b; expires=Thu, 99 Foo 0000 99:99:99 GMT; Max-Age=9e9",
                b"a=b; domain=..; path=",
                b"text/html; charset*=x'y'z",
                b"Wed, 21 Oct 99999 07:28:00 GMT",
                b"Wed, 21 Oct 2015 07:28:00 +9999999",
            ]
        ),
    ),
    max_size=6,
)


async def probe_scripted(
    pieces: list[bytes], session: TlsSession | None, declared: dict[str, Any]
) -> tuple[Result, ScriptedNetwork]:
    network = ScriptedNetwork(Scripted(pieces, session))
    limits: dict[str, Any] = {"max_redirects": 2, "max_body_bytes": 1024, "expect": EVERYTHING}
    with anyio.fail_after(20):
        result = await Prober(network)("http", **{"url": "http://shop.test/"} | limits | declared)
    return result, network


def judged(pieces: list[bytes], session: TlsSession | None = None, **declared: Any) -> Result:
    result, network = anyio.run(partial(probe_scripted, pieces, session, declared))
    assert "crashed" not in result.message, told(result)
    assert all(connection.closed == 1 for connection in network.connections)
    return result


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=UNSHRUNK)
@given(st.lists(st.binary(max_size=200), max_size=5))
@example([b"HTTP/1.1 200 OK\r\n\r\n" + b"\xff" * 2000])
def test_any_bytes_are_judged(pieces: list[bytes]) -> None:
    judged(pieces)
    judged([b"HTTP/1.1 200 OK\r\n", *pieces])


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=UNSHRUNK)
@given(st.sampled_from([200, 204, 301, 302, 303, 307, 308, 401, 999]), fields, st.binary(max_size=100))
def test_any_header_is_judged(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    lines = [b"HTTP/1.1 %d What" % status, *(b"%s: %s" % field for field in headers)]
    judged([b"\r\n".join([*lines, b"", b""]) + body])


def h2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def h2_head(*fields: tuple[str, str]) -> bytes:
    return h2_frame(1, 4, 1, Encoder().encode(fields))


H2_FRAMES = st.one_of(
    st.builds(h2_frame, st.integers(0, 12), st.integers(0, 255), st.integers(0, 4), st.binary(max_size=40)),
    st.sampled_from(
        [
            h2_frame(4, 0, 0, b""),
            h2_head((":status", "200")),
            h2_head((":status", "103")),
            h2_head((":status", "²²²")),
            h2_head((":status", "200"), ("content-length", "-1")),
            h2_head(("a", "b")),
            h2_frame(0, 1, 1, b"{}"),
            h2_frame(7, 0, 0, bytes(8)),
        ]
    ),
    st.binary(max_size=30),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=UNSHRUNK)
@given(st.lists(H2_FRAMES, max_size=8))
def test_any_frames_of_http_2_are_judged(pieces: list[bytes]) -> None:
    session = TlsSession("TLSv1.3", "x", (a_certificate(),), None, protocol="h2")
    judged(pieces, session=session, url="https://shop.test/", http2=True)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=UNSHRUNK)
@given(
    st.sampled_from(["http", "socks5", "socks5h"]),
    st.lists(
        st.sampled_from([b"\5\0", b"\5\2", b"\1\0", b"\5\0\0\3", b"\5\0\0\1"]) | st.binary(max_size=40),
        max_size=5,
    ),
)
def test_whatever_a_proxy_says_is_judged(scheme: str, pieces: list[bytes]) -> None:
    judged(pieces, proxy=f"{scheme}://u:p@proxy.test:1080")


@pytest.mark.parametrize("unit", ["a=", ";", "; ", "a=b; ", '"', "=", " ", ",", "expires=Thu, 01 Jan "])
def test_no_header_takes_long_to_be_understood(unit: str) -> None:
    """The hang guard of :func:`probe_scripted` is what fails where time grows with the square of the length."""
    long = (unit * (60_000 // len(unit))).encode()
    for name in (b"Set-Cookie", b"Content-Type", b"Last-Modified", b"Location", b"Content-Encoding"):
        judged([b"HTTP/1.1 200 OK\r\n%s: x%s\r\nContent-Length: 0\r\n\r\n" % (name, long)])


@pytest.fixture(scope="module")
def der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    issued = Authority(tmp_path_factory.mktemp("certificates")).issue("shop.test", "*.shop.test", "192.0.2.1")
    return issued.certificate.public_bytes(Encoding.DER)


@settings(max_examples=300, deadline=None)
@given(
    place=st.integers(0, 600), bit=st.integers(0, 7), cut=st.integers(0, 700), host=st.text(string.printable)
)
def test_any_certificate_is_read(der: bytes, place: int, bit: int, cut: int, host: str) -> None:
    damaged = bytearray(der)
    damaged[place % len(der)] ^= 1 << bit
    seen = read_certificate(bytes(damaged[:cut] if cut < 100 else damaged))
    assert len(seen.facts.sha256) == 64
    assert name_problem(seen, host) is None or host in (name_problem(seen, host) or "") or seen.malformed
