"""The HTTP and TCP probers over a network that is made up: unchanged on asyncio and on trio."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from tests.probes.fakes import Scripted, ScriptedNetwork, a_certificate
from tests.probes.support import Prober, told
from watchbill.domain.results import Reason
from watchbill.ports import NetworkError, TlsSession
from watchbill.testing import FakeNetwork, http_answer

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_http_over_the_shipped_fake() -> None:
    network = FakeNetwork({("shop.test", 80): http_answer(body=b"Welcome")})
    probe = Prober(network)
    met = await probe("http", url="http://shop.test/", expect={"body": {"contains": "Welcome"}})
    unmet = await probe("http", url="http://shop.test/", expect={"status": 404})
    nowhere = await probe("http", url="http://else.test/")
    assert told(met) == []
    assert told(unmet) == [(Reason.STATUS, "status must be 404, got 200")]
    assert told(nowhere) == [(Reason.DNS, "else.test has no address (NXDOMAIN)")]
    assert all(connection.closed for connection in network.connections)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_a_response_in_pieces_of_any_size(size: int) -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + OK.replace(b"ok", b"").replace(
        b"Content-Length: 2", b"Transfer-Encoding: chunked"
    )
    answer += b"2\r\nok\r\n4\r\nay!!\r\n0\r\n\r\n"
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    network = ScriptedNetwork(Scripted(pieces))
    result = await Prober(network)("http", url="http://shop.test/", expect={"body": {"equals": "okay!!"}})
    assert told(result) == []
    assert network.connections[0].closed == 1


async def test_https_goes_on_only_after_the_certificate_is_looked_at() -> None:
    good = TlsSession("TLSv1.3", "TLS_AES_256_GCM_SHA384", (a_certificate(),), None)
    bad = TlsSession("TLSv1.3", "TLS_AES_256_GCM_SHA384", (a_certificate(),), "certificate is self-signed")
    for session, failures, sent in (
        (good, [], 1),
        (bad, [(Reason.CERTIFICATE, "certificate is self-signed")], 0),
    ):
        network = ScriptedNetwork(Scripted([OK], session=session))
        result = await Prober(network)("http", url="https://shop.test/")
        assert told(result) == failures
        [connection] = network.connections
        assert len(connection.sent) == sent
        assert connection.closed == 1
        assert (connection.server_name, connection.alpn) == ("shop.test", ("http/1.1",))


def h2_answer(body: bytes) -> bytes:
    """What a server of HTTP/2 says to the first request."""
    head = HeadersFrame(1, Encoder().encode([(":status", "200")]), flags=["END_HEADERS"])
    data = DataFrame(1, body, flags=["END_STREAM"])
    return b"".join(frame.serialize() for frame in (SettingsFrame(0, {}), head, data))


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_http_2_in_pieces_of_any_size(size: int) -> None:
    session = TlsSession("TLSv1.3", "x", (a_certificate(),), None, protocol="h2")
    answer = h2_answer(b"okay")
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    network = ScriptedNetwork(Scripted(pieces, session=session))
    result = await Prober(network)(
        "http", url="https://shop.test/", http2=True, expect={"body": {"equals": "okay"}}
    )
    assert (told(result), result.facts["http_version"]) == ([], "2")
    [connection] = network.connections
    assert (connection.alpn, connection.closed) == (("h2", "http/1.1"), 1)
    assert connection.sent[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


async def test_a_tunnel_through_a_proxy_and_the_request_in_it() -> None:
    session = TlsSession("TLSv1.3", "x", (a_certificate(),), None)
    network = ScriptedNetwork(Scripted([b"HTTP/1.1 200 Connection established\r\n\r\n", OK], session=session))
    result = await Prober(network)("http", url="https://shop.test/", proxy="https://u:p@proxy.test:3128")
    assert told(result) == []
    [connection] = network.connections
    assert connection.sent[0].startswith(b"CONNECT shop.test:443 HTTP/1.1\r\n")
    assert connection.sent[1].startswith(b"GET / HTTP/1.1\r\n")
    assert (connection.handshakes, connection.server_name, connection.closed) == (2, "shop.test", 1)


@pytest.mark.parametrize("proxy", ["http://proxy.test:1", "https://proxy.test:1", "socks5h://proxy.test:1"])
@pytest.mark.parametrize("step", ["resolve", "connect", "start_tls", "send", "receive"])
async def test_a_deadline_at_any_step_through_a_proxy_closes_the_connection(step: str, proxy: str) -> None:
    session = TlsSession("TLSv1.3", "x", (a_certificate(),), None)
    socks = [b"\5\0", b"\5\0\0\1\1\2\3\4\0\1"]
    opened = socks if proxy.startswith("socks") else [b"HTTP/1.1 200 OK\r\n\r\n"]
    network = ScriptedNetwork(Scripted([*opened, OK], session=session), hangs=step)
    with anyio.fail_after(10):
        result = await Prober(network)("http", url="https://shop.test/", proxy=proxy, timeout="100ms")
    assert result.reason in (
        {Reason.RESOLVER} if step == "resolve" else {Reason.CONNECT_TIMEOUT, Reason.TIMEOUT}
    )
    assert [connection.closed for connection in network.connections] in ([], [1])


@pytest.mark.parametrize("step", ["resolve", "connect", "start_tls", "send", "receive"])
async def test_whatever_the_network_raises_is_the_result_and_the_connection_is_closed(step: str) -> None:
    session = TlsSession("TLSv1.3", "x", (a_certificate(),), None)
    network = ScriptedNetwork(
        Scripted([OK], session=session), fails={step: NetworkError(Reason.UNREACHABLE, f"no {step}")}
    )
    result = await Prober(network)("http", url="https://shop.test/")
    assert told(result) == [(Reason.UNREACHABLE, f"no {step}")]
    assert [connection.closed for connection in network.connections] in ([], [1])


@pytest.mark.parametrize("step", ["resolve", "connect", "start_tls", "send", "receive"])
async def test_a_deadline_at_any_step_closes_the_connection(step: str) -> None:
    session = TlsSession("TLSv1.3", "x", (a_certificate(),), None)
    network = ScriptedNetwork(Scripted([OK], session=session), hangs=step)
    with anyio.fail_after(10):
        result = await Prober(network)("http", url="https://shop.test/", timeout="100ms")
    reasons = {"resolve": Reason.RESOLVER, "connect": Reason.CONNECT_TIMEOUT}
    assert result.reason is reasons.get(step, Reason.TIMEOUT)
    assert [connection.closed for connection in network.connections] in ([], [1])


async def test_tcp_waits_for_its_response() -> None:
    network = ScriptedNetwork(Scripted([b"+PO", b"NG\r\n"]))
    result = await Prober(network)(
        "tcp", host="db.test", port=6379, send="PING\r\n", expect={"response": {"equals": "+PONG\r\n"}}
    )
    assert told(result) == []
    assert network.connections[0].sent == [b"PING\r\n"]
    assert network.connections[0].closed == 1
