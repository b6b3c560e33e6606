"""HTTP checks through proxies: every kind of them to every kind of target, and what a proxy refuses."""

from __future__ import annotations

import os
from math import isclose
from typing import Any

import anyio
import pytest

from tests.dns_server import dns_server, records
from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.proxies import ProxyServer, http_proxy, socks_proxy, url_of
from tests.servers import (
    LOOPBACK,
    Authority,
    Caller,
    closed_port,
    hang,
    header_of,
    http_server,
    no_socket_left,
    path_of,
    response,
    serving,
)
from watchbill.domain.checks import parse_check
from watchbill.domain.results import Outcome, Reason

pytestmark = pytest.mark.anyio

NAMES = {"shop.test": LOOPBACK}


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("secure", [False, True], ids=["http target", "https target"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5h"])
async def test_every_kind_of_proxy_leads_to_every_kind_of_target(
    authority: Authority, scheme: str, secure: bool
) -> None:
    shop = authority.issue("shop.test")
    own = authority.issue(LOOPBACK)
    login = ("probe", "s3cret/@pw")
    opened = (
        socks_proxy(login=login, names=NAMES)
        if scheme == "socks5h"
        else http_proxy(login=login, names=NAMES, tls=own.context() if scheme == "https" else None)
    )
    async with (
        http_server(response(b"Welcome"), tls=shop.context() if secure else None) as target,
        opened as proxy,
        no_socket_left(),
        open_prober() as probe,
    ):
        result = await probe(
            "http",
            url=f"{'https' if secure else 'http'}://shop.test:{target.port}/path?q=1",
            proxy={"url": url_of(proxy, scheme, "probe:s3cret%2F%40pw@"), "ca_file": authority.ca_file},
            tls={"ca_file": authority.ca_file},
            expect={"body": {"equals": "Welcome"}},
        )
    assert told(result) == []
    assert (len(target.requests), proxy.accepted) == (1, 1)
    assert path_of(target.requests[0]) == "/path?q=1"
    assert header_of(target.requests[0], "host") == f"shop.test:{target.port}"
    facts = result.facts
    assert (facts["proxy"], facts["address"]) == (url_of(proxy, scheme), LOOPBACK)
    assert facts["ssl"] is secure
    assert facts.get("certificate_names") == (["shop.test"] if secure else None)
    wanted = ["resolve", "connect", *(["tls"] if secure else []), "processing", "transfer"]
    assert sorted(result.phases) == sorted(wanted)
    assert isclose(sum(result.phases.values()), result.duration_seconds, abs_tol=2e-5)


async def test_the_credentials_of_a_proxy_go_to_the_proxy_alone(authority: Authority) -> None:
    shop = authority.issue("shop.test")
    async with (
        http_server(response(), tls=shop.context()) as target,
        http_proxy(login=("u", "secret-pass"), names=NAMES) as proxy,
        open_prober() as probe,
    ):
        result = await probe(
            "http",
            url=f"https://shop.test:{target.port}/",
            proxy=url_of(proxy, "http", "u:secret-pass@"),
            auth={"bearer": "token-of-the-target"},
            tls={"ca_file": authority.ca_file},
        )
    assert told(result) == []
    assert header_of(target.requests[0], "proxy-authorization") is None
    assert header_of(proxy.requests[0], "authorization") is None
    assert "secret-pass" not in str(result)


async def test_a_socks_proxy_of_version_5_is_told_the_address_that_was_looked_up_here() -> None:
    async with (
        dns_server() as names,
        http_server(response()) as target,
        socks_proxy() as proxy,
        no_socket_left(),
        open_prober() as probe,
    ):
        names.scripts = {("shop.test", "A"): records("A", LOOPBACK)}
        result = await probe(
            "http",
            url=f"http://shop.test:{target.port}/",
            proxy=url_of(proxy, "socks5"),
            resolver=f"127.0.0.1:{names.port}",
            ip_family=4,
        )
    assert told(result) == []
    assert proxy.asked == [f"{LOOPBACK}:{target.port}"]


HTTP_REFUSALS: list[tuple[str, bytes, bool, Reason, str]] = [
    (
        "a login is wanted for a tunnel",
        b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
        True,
        Reason.REFUSED,
        "it answers 407 to CONNECT shop.test:443",
    ),
    (
        "a login is wanted for forwarding",
        b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
        False,
        Reason.REFUSED,
        "it wants a login it takes (407)",
    ),
    (
        "a bad gateway",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        True,
        Reason.UNREACHABLE,
        "it answers 502 to CONNECT shop.test:443",
    ),
    ("no HTTP", b"220 mail.test ESMTP\r\n", True, Reason.PROTOCOL, "the response is not HTTP/1.1"),
    ("a flood", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 40_000, True, Reason.TOO_LARGE, "headers must be"),
    ("interims without end", b"HTTP/1.1 100 C\r\n\r\n" * 100, True, Reason.PROTOCOL, "interim (1xx)"),
]


@pytest.mark.parametrize(
    ("answer", "secure", "reason", "said"),
    [case[1:] for case in HTTP_REFUSALS],
    ids=[case[0] for case in HTTP_REFUSALS],
)
async def test_what_an_http_proxy_refuses_is_told_in_its_name(
    answer: bytes, secure: bool, reason: Reason, said: str
) -> None:
    url = "https://shop.test/" if secure else "http://shop.test/"
    async with http_proxy(answer=answer) as proxy, no_socket_left(), open_prober() as probe:
        result = await probe("http", url=url, proxy=url_of(proxy, "http"))
    assert (result.outcome, result.reason) == (Outcome.FAILURE, reason)
    assert result.message.startswith(f"proxy {url_of(proxy, 'http')}: ")
    assert said in result.message


SOCKS_REFUSALS: list[tuple[str, dict[str, Any], Reason, str]] = [
    ("a login is wanted", {"login": ("a", "b")}, Reason.REFUSED, "it wants a login"),
    ("its rules", {"reply": 2}, Reason.REFUSED, "no way to shop.test:80: its rules do not allow it"),
    ("an unreachable host", {"reply": 4}, Reason.UNREACHABLE, "the host is unreachable"),
    ("a target that refuses", {"reply": 5}, Reason.REFUSED, "the target refused the connection"),
    ("a reply of its own", {"reply": 99}, Reason.UNREACHABLE, "reply 99"),
    ("another version", {"answer": b"\x04\x5b" + bytes(6)}, Reason.PROTOCOL, "does not speak SOCKS 5"),
    ("HTTP", {"answer": b"HTTP/1.1 400 Bad\r\n\r\n"}, Reason.PROTOCOL, "does not speak SOCKS 5"),
    ("hanging up", {"answer": b"\x05"}, Reason.RESET, "it hung up before it opened the way"),
]


@pytest.mark.parametrize(
    ("behaviour", "reason", "said"),
    [case[1:] for case in SOCKS_REFUSALS],
    ids=[case[0] for case in SOCKS_REFUSALS],
)
async def test_what_a_socks_proxy_refuses_is_told_in_its_name(
    behaviour: dict[str, Any], reason: Reason, said: str
) -> None:
    async with socks_proxy(**behaviour) as proxy, no_socket_left(), open_prober() as probe:
        result = await probe("http", url="http://shop.test/", proxy=url_of(proxy, "socks5h"))
    assert (result.outcome, result.reason) == (Outcome.FAILURE, reason)
    assert result.message.startswith(f"proxy {url_of(proxy, 'socks5h')}: ")
    assert said in result.message


async def test_a_wrong_login_is_told() -> None:
    async with socks_proxy(login=("a", "b")) as proxy, open_prober() as probe:
        result = await probe("http", url="http://shop.test/", proxy=url_of(proxy, "socks5h", "a:wrong@"))
    assert told(result) == [(Reason.REFUSED, f"proxy {url_of(proxy, 'socks5h')}: it does not take the login")]


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
async def test_a_proxy_that_is_not_there_is_named(scheme: str) -> None:
    port = closed_port()
    async with no_socket_left(), open_prober() as probe:
        result = await probe("http", url="http://127.0.0.1/", proxy=f"{scheme}://127.0.0.1:{port}")
    assert result.reason is Reason.REFUSED
    assert result.message.startswith(f"proxy {scheme}://127.0.0.1:{port}: connection refused")


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_proxy_that_hangs_times_out_while_connecting(scheme: str) -> None:
    async with serving(hang) as proxy, no_socket_left(), open_prober() as probe:
        result = await probe(
            "http", url="https://shop.test/", proxy=f"{scheme}://127.0.0.1:{proxy.port}", timeout="100ms"
        )
    assert result.reason is Reason.CONNECT_TIMEOUT


async def test_no_byte_goes_to_a_target_behind_a_proxy_whose_certificate_does_not_verify(
    authority: Authority,
) -> None:
    async with (
        http_server(response(), tls=authority.issue("other.test").context()) as target,
        http_proxy(names=NAMES) as proxy,
        no_socket_left(),
        open_prober() as probe,
    ):
        result = await probe(
            "http",
            url=f"https://shop.test:{target.port}/",
            proxy=url_of(proxy, "http"),
            tls={"ca_file": authority.ca_file},
        )
    assert told(result) == [(Reason.CERTIFICATE, "certificate is not for shop.test but for other.test")]
    assert target.requests == []
    assert result.facts["certificate_names"] == ["other.test"]


async def test_nothing_is_asked_of_a_proxy_whose_own_certificate_does_not_verify(
    authority: Authority,
) -> None:
    own = authority.issue("other.test")
    async with http_proxy(tls=own.context()) as proxy, no_socket_left(), open_prober() as probe:
        result = await probe(
            "http",
            url="https://shop.test/",
            proxy={"url": url_of(proxy, "https", "u:p@"), "ca_file": authority.ca_file},
            tls={"skip_verification": True},
        )
    assert result.reason is Reason.CERTIFICATE
    assert result.message.startswith(f"proxy {url_of(proxy, 'https')}: certificate is not for 127.0.0.1")
    assert proxy.requests == []


async def test_redirects_and_cookies_go_on_through_the_proxy() -> None:
    def answer(request: bytes) -> bytes:
        if path_of(request) == "/":
            return response(status="302 Found", headers=["Location: /in", "Set-Cookie: a=b"])
        return response((header_of(request, "cookie") or "").encode())

    async with http_server(answer) as target, http_proxy(names=NAMES) as proxy, open_prober() as probe:
        result = await probe(
            "http",
            url=f"http://shop.test:{target.port}/",
            proxy=url_of(proxy, "http"),
            expect={"body": {"equals": "a=b"}},
        )
    assert told(result) == []
    assert [text.rpartition("/")[2] for text in proxy.asked] == ["", "in"]


# What a proxy that asks the C library takes for 169.254.169.254.
SPELLINGS = (
    "169.254.169.254",
    "169.254.169.254.",
    "2852039166",
    "0xA9FEA9FE",
    "169.254.43518",
    "[::ffff:a9fe:a9fe]",
)


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
async def test_a_stranger_cannot_lead_through_a_proxy_to_a_metadata_service(scheme: str, host: str) -> None:
    away = response(status="302 Found", headers=[f"Location: http://{host}/latest"])
    # Were it asked, it would lead nowhere but here.
    names = NAMES | dict.fromkeys((*SPELLINGS, "0xa9fea9fe", "::ffff:a9fe:a9fe"), LOOPBACK)
    opened = http_proxy(names=names) if scheme == "http" else socks_proxy(names=names)
    async with http_server(away) as target, opened as proxy, open_prober() as probe:
        result = await probe("http", url=f"http://shop.test:{target.port}/", proxy=url_of(proxy, scheme))
    assert result.reason is Reason.REDIRECT
    assert len(proxy.asked) == 1


async def test_what_a_target_behind_a_socks_proxy_says_is_the_targets() -> None:
    wanting = response(status="407 Proxy Authentication Required")
    async with http_server(wanting) as target, socks_proxy() as proxy, open_prober() as probe:
        result = await probe("http", url=target.url(), proxy=url_of(proxy, "socks5h"))
    assert told(result) == [(Reason.STATUS, "status must be 2xx, got 407")]


async def test_a_name_that_is_looked_up_here_and_is_none_is_no_fault_of_the_proxys() -> None:
    async with dns_server() as names, socks_proxy() as proxy, open_prober() as probe:
        names.scripts = {}
        result = await probe(
            "http",
            url="http://127.1/",
            proxy=url_of(proxy, "socks5"),
            resolver=f"127.0.0.1:{names.port}",
        )
    assert told(result) == [(Reason.DNS, "127.1 is neither a name nor an IP address in full")]


NO_RECORD_OF_TLS = b"\x17\x03\x03\x00\x20" + b"x" * 32


def break_the_way(proxy: ProxyServer) -> None:
    """Say what no TLS is, beneath the TLS that the proxy speaks."""
    os.write(proxy.callers[-1].writer.get_extra_info("socket").fileno(), NO_RECORD_OF_TLS)


async def test_a_secure_proxy_that_breaks_its_tls_leaves_no_socket(authority: Authority) -> None:
    async def converse(caller: Caller) -> None:
        await caller.request()
        break_the_way(proxy)
        await hang(caller)

    shop, own = authority.issue("localhost"), authority.issue(LOOPBACK)
    async with (
        serving(converse, tls=shop.context()) as target,
        http_proxy(tls=own.context()) as proxy,
        no_socket_left(),
        open_prober() as probe,
    ):
        result = await probe(
            "http",
            url=target.url(scheme="https", host="localhost"),
            proxy={"url": url_of(proxy, "https"), "ca_file": authority.ca_file},
            tls={"ca_file": authority.ca_file},
        )
    assert told(result) == [(Reason.TLS, "TLS failed while receiving: decryption failed or bad record mac")]


async def test_a_kept_connection_whose_proxy_broke_its_tls_is_opened_anew(authority: Authority) -> None:
    shop, own = authority.issue("localhost"), authority.issue(LOOPBACK)

    async def converse(caller: Caller) -> None:
        while True:
            await caller.request()
            await caller.say(response())

    async with (
        serving(converse, tls=shop.context()) as target,
        http_proxy(tls=own.context()) as proxy,
        no_socket_left(),
        open_prober() as probe,
    ):
        check = parse_check(
            {
                "id": "kept",
                "type": "http",
                "url": target.url(scheme="https", host="localhost"),
                "connection": "reuse",
                "proxy": {"url": url_of(proxy, "https"), "ca_file": authority.ca_file},
                "tls": {"ca_file": authority.ca_file},
            }
        )
        first = await probe.executor.execute(check)
        break_the_way(proxy)
        await anyio.wait_all_tasks_blocked()
        second = await probe.executor.execute(check)
    assert (told(first), told(second)) == ([], [])
    assert proxy.accepted == 2


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    async with http_server(response()) as target, open_prober() as probe:
        assert told(await probe("http", url=target.url(), connection="reuse")) == []
