"""HTTP checks against servers on loopback: every expectation, met and not met."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.servers import (
    DAY,
    LOOPBACK,
    NOW,
    Authority,
    Caller,
    header_of,
    http_server,
    no_socket_left,
    path_of,
    response,
    serving,
    shake_hands,
)
from watchbill.domain.guarded import is_guarded
from watchbill.domain.results import Outcome, Reason

pytestmark = pytest.mark.anyio

JSON_BODY = json.dumps({"status": "ok", "queue": {"depth": 7}}).encode()
HTML = response(b"<h1>Welcome</h1> v42", headers=["Content-Type: text/html; charset=utf-8", "X-Env: prod"])
SCHEMA = {"type": "object", "required": ["status"], "properties": {"status": {"enum": ["ok", "up"]}}}


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


MET: list[tuple[str, bytes, dict[str, Any]]] = [
    ("the default status", response(), {}),
    ("204 without a body", b"HTTP/1.1 204 No Content\r\n\r\n", {}),
    ("a status", response(status="404 Not Found"), {"status": 404}),
    ("a status class", response(status="301 Moved"), {"status": "3xx"}),
    ("a status range", response(status="202 Accepted"), {"status": "200-204"}),
    ("a status of several", response(status="304 Not Modified", body=b""), {"status": ["2xx", 304]}),
    ("a body that contains", HTML, {"body": {"contains": "Welcome"}}),
    ("a body that matches", HTML, {"body": {"matches": r"v\d+"}}),
    ("a body that does not contain", HTML, {"body": {"not_contains": "Fatal"}}),
    ("a JSON value", response(JSON_BODY), {"json": {"$.status": "ok"}}),
    ("a JSON comparison", response(JSON_BODY), {"json": {"$.queue.depth": "< 100"}}),
    ("a JSON Schema", response(JSON_BODY), {"json_schema": SCHEMA}),
    ("a header", HTML, {"headers": {"content-type": {"matches": "text/html"}}}),
    ("a header in full", HTML, {"headers": {"X-ENV": "prod"}}),
    (
        "a header sent twice",
        response(headers=["Via: a", "Via: b"]),
        {"headers": {"via": {"equals": "b"}}},
    ),
    ("the latency", response(), {"latency": "4s"}),
    (
        "a chunked body",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nWel\r\n4\r\ncome\r\n0\r\nTrailer: x\r\n\r\n",
        {"body": {"equals": "Welcome"}},
    ),
    (
        "a body that ends with the connection",
        b"HTTP/1.1 200 OK\r\n\r\nWelcome",
        {"body": {"equals": "Welcome"}},
    ),
    ("HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nWelcome", {"body": {"equals": "Welcome"}}),
    (
        "an interim response before it",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + response(),
        {"status": 200, "headers": {"content-length": "2"}},
    ),
    ("what follows the response is ignored", response() + b"garbage\r\n", {"body": {"equals": "ok"}}),
    (
        "an offer to upgrade",
        response(headers=["Upgrade: h2,h2c", "Connection: Upgrade"]),
        {"body": {"equals": "ok"}},
    ),
    (
        "the charset of the header",
        response("Größe".encode("latin-1"), headers=["Content-Type: text/plain; charset=iso-8859-1"]),
        {"body": {"equals": "Größe"}},
    ),
    (
        "a charset that nobody knows",
        response("Größe".encode(), headers=["Content-Type: text/plain; charset=klingon"]),
        {"body": {"equals": "Größe"}},
    ),
    (
        "a gzip body that nobody asked for",
        response(gzip.compress(b"Welcome"), headers=["Content-Encoding: gzip"]),
        {"body": {"equals": "Welcome"}},
    ),
    (
        "a deflate body that nobody asked for",
        response(zlib.compress(b"Welcome"), headers=["Content-Encoding: deflate"]),
        {"body": {"equals": "Welcome"}},
    ),
]

NOT_MET: list[tuple[bytes, dict[str, Any], list[tuple[Reason, str]]]] = [
    (response(status="503 Busy"), {}, [(Reason.STATUS, "status must be 2xx, got 503")]),
    (
        response(status="999 What"),
        {"status": ["2xx", 304, "400-404"]},
        [(Reason.STATUS, "status must be 2xx or 304 or 400-404, got 999")],
    ),
    (
        response(b"oops"),
        {"body": {"contains": "Welcome", "matches": r"v\d+", "not_contains": "oops"}},
        [
            (Reason.BODY, 'body must contain "Welcome", got "oops"'),
            (Reason.BODY, 'body must match "v\\\\d+", got "oops"'),
            (Reason.BODY, 'body must not contain "oops", but does'),
        ],
    ),
    (
        response(JSON_BODY),
        {"json": {"$.status": "down", "$.queue.depth": "< 5", "$.gone": 1}},
        [
            (Reason.JSON, '$.status must be "down", got "ok"'),
            (Reason.JSON, "$.queue.depth must be < 5, got 7"),
            (Reason.JSON, "$.gone must be 1, but selects nothing"),
        ],
    ),
    (
        response(b"<html>"),
        {"json": {"$.status": "ok"}},
        [(Reason.JSON, 'body must be JSON, got "<html>" (Expecting value)')],
    ),
    (
        response(b'{"status": "broken"}'),
        {"json_schema": SCHEMA},
        [(Reason.SCHEMA, 'body[\'status\'] must meet the JSON Schema: "broken" is not one of "ok" or "up"')],
    ),
    (
        response(headers=["X-Env: test"]),
        {"headers": {"x-env": "prod", "x-gone": {"contains": "y"}}},
        [
            (Reason.HEADER, 'header x-env must equal "prod", got "test"'),
            (Reason.HEADER, "header x-gone must be sent, but is missing"),
        ],
    ),
    (
        response(),
        {"certificate_valid_for": "14d"},
        [(Reason.CERTIFICATE, "certificate must be valid, but the connection is not TLS")],
    ),
    (
        response(b"oops", status="500 Oops", headers=["X-Env: test"]),
        {"status": 200, "headers": {"x-env": "prod"}, "body": {"contains": "Welcome"}},
        [
            (Reason.STATUS, "status must be 200, got 500"),
            (Reason.HEADER, 'header x-env must equal "prod", got "test"'),
            (Reason.BODY, 'body must contain "Welcome", got "oops"'),
        ],
    ),
]


@pytest.mark.parametrize(("answer", "expect"), [row[1:] for row in MET], ids=[row[0] for row in MET])
async def test_a_response_that_meets_what_is_declared_is_a_success(
    answer: bytes, expect: dict[str, Any]
) -> None:
    async with no_socket_left(), http_server(answer) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), expect=expect, follow_redirects=False)
    assert told(result) == []
    assert result.outcome is Outcome.SUCCESS


@pytest.mark.parametrize(("answer", "expect", "failures"), NOT_MET)
async def test_every_expectation_that_fails_says_what_was_expected_and_seen(
    answer: bytes, expect: dict[str, Any], failures: list[tuple[Reason, str]]
) -> None:
    async with no_socket_left(), http_server(answer) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), expect=expect)
    assert told(result) == failures
    assert result.outcome is Outcome.FAILURE
    assert result.reason is failures[0][0]


async def test_too_slow_says_the_limit_and_the_time_taken() -> None:
    async with http_server(response()) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), expect={"latency": "0.001ms"})
    [(reason, message)] = told(result)
    assert reason is Reason.LATENCY
    assert message == f"latency must be at most 0.001ms, took {result.duration_seconds * 1000:.1f}ms"


async def test_phases_add_up_to_the_duration() -> None:
    async with http_server(response()) as server, open_prober() as probe:
        result = await probe("http", url=server.url())
    assert list(result.phases) == ["resolve", "connect", "processing", "transfer"]
    assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)


async def test_facts_say_what_was_seen() -> None:
    answer = response(b"12345", headers=["Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT"])
    async with http_server(answer) as server, open_prober() as probe:
        result = await probe("http", url=server.url())
    assert result.status_code == 200
    assert result.facts == {
        "address": LOOPBACK,
        "ip_protocol": 4,
        "http_version": "1.1",
        "redirects": 0,
        "content_length": 5,
        "body_bytes": 5,
        "ssl": False,
        "dns_lookup_seconds": result.phases["resolve"],
        "last_modified": 1_445_412_480,
    }


async def test_ipv6_is_probed_as_well() -> None:
    async with http_server(response(), host="::1") as server, open_prober() as probe:
        result = await probe("http", url=f"http://[::1]:{server.port}/")
    assert told(result) == []
    assert (result.facts["address"], result.facts["ip_protocol"]) == ("::1", 6)
    assert header_of(server.requests[0], "host") == f"[::1]:{server.port}"


# --- the request --------------------------------------------------------------------------------------


async def test_a_request_says_only_what_is_declared() -> None:
    async with http_server(response()) as server, open_prober() as probe:
        await probe("http", url=server.url("/a?b=c#d"))
    head = server.requests[0].decode().split("\r\n")
    assert head[0] == "GET /a?b=c HTTP/1.1"
    assert sorted(line.split(":")[0] for line in head[1:-2]) == ["Accept", "Host", "User-Agent"]
    assert header_of(server.requests[0], "user-agent") == "Watchbill/0.1.0"


async def test_method_headers_and_body_are_sent_as_declared() -> None:
    async with http_server(response()) as server, open_prober() as probe:
        await probe(
            "http",
            url=server.url(),
            method="post",
            headers={"Content-Type": "application/json", "user-agent": "mine", "X-Name": "Größe"},
            body='{"a": 1}',
        )
    request = server.requests[0]
    assert request.startswith(b"POST / HTTP/1.1\r\n")
    assert request.endswith(b'\r\n\r\n{"a": 1}')
    assert header_of(request, "content-type") == "application/json"
    assert header_of(request, "user-agent") == "mine"
    assert header_of(request, "x-name") == "Größe"
    assert request.lower().count(b"user-agent") == 1


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        (
            {"basic": {"username": "me", "password": "pä:ss"}},
            "Basic " + b64encode("me:pä:ss".encode()).decode(),
        ),
        ({"bearer": "t0ken"}, "Bearer t0ken"),
    ],
)
async def test_credentials_are_sent(auth: dict[str, Any], header: str) -> None:
    async with http_server(response()) as server, open_prober() as probe:
        await probe("http", url=server.url(), auth=auth)
    assert header_of(server.requests[0], "authorization") == header


async def test_userinfo_of_the_url_is_sent_as_credentials() -> None:
    async with http_server(response()) as server, open_prober() as probe:
        await probe("http", url=f"http://me:p%40ss@{LOOPBACK}:{server.port}/")
    assert header_of(server.requests[0], "authorization") == "Basic " + b64encode(b"me:p@ss").decode()


async def test_a_token_with_a_line_break_is_never_sent() -> None:
    async with http_server(response()) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), auth={"bearer": "t0ken\r\nX-Evil: 1"})
    assert told(result) == [(Reason.INTERNAL, "header Authorization holds a line break")]
    assert server.requests == []


async def test_head_has_no_body_to_wait_for() -> None:
    async with http_server(response(b"", length=1234)) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), method="HEAD")
    assert told(result) == []
    assert (result.facts["content_length"], result.facts["body_bytes"]) == (1234, 0)


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with http_server(response()) as server, open_prober() as probe:
        assert told(await probe("http", url=server.url())) == []


# --- the body -----------------------------------------------------------------------------------------


async def test_a_body_over_the_limit_is_judged_only_where_it_is_needed() -> None:
    async with http_server(response(b"x" * 5000)) as server, open_prober() as probe:
        unjudged = await probe("http", url=server.url(), max_body_bytes=1024)
        judged = await probe(
            "http", url=server.url(), max_body_bytes=1024, expect={"body": {"contains": "x"}}
        )
    assert told(unjudged) == []
    assert unjudged.facts["body_bytes"] == judged.facts["body_bytes"] == 1024
    assert told(judged) == [(Reason.TOO_LARGE, "body must be at most 1024 bytes to be judged, is larger")]


async def test_a_body_of_exactly_the_limit_is_whole() -> None:
    async with http_server(response(b"x" * 1024)) as server, open_prober() as probe:
        result = await probe(
            "http", url=server.url(), max_body_bytes=1024, expect={"body": {"contains": "x"}}
        )
    assert told(result) == []


async def test_only_a_large_body_is_judged_off_the_loop() -> None:
    large = b"x" * (64 * 1024 + 1)
    async with (
        http_server(lambda request: response(large if b"/large" in request else b"x")) as server,
        open_prober() as probe,
    ):
        await probe("http", url=server.url("/large"))
        await probe("http", url=server.url("/small"), expect={"body": {"contains": "x"}})
        assert probe.judged_aside == 0
        result = await probe("http", url=server.url("/large"), expect={"body": {"not_contains": "x"}})
        assert probe.judged_aside == 1
    assert told(result) == [(Reason.BODY, 'body must not contain "x", but does')]


@pytest.mark.parametrize(
    ("expect", "judged_aside"),
    [
        ({"body": {"contains": "1"}}, 0),
        ({"body": {"matches": "1"}}, 1),
        ({"json": {"$[0]": 1}}, 1),
        ({"json_schema": {"type": "array"}}, 1),
    ],
)
async def test_what_is_costly_to_judge_leaves_the_loop_sooner(
    expect: dict[str, Any], judged_aside: int
) -> None:
    async with http_server(response(b"[" + b"1," * 5000 + b"1]")) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), expect=expect)
        assert probe.judged_aside == judged_aside
    assert told(result) == []


async def test_long_headers_are_judged_off_the_loop() -> None:
    answer = response(b"", headers=[f"X-Long: {'x' * 5000}", "X-Short: x"])
    expect = {"headers": {"X-Long": {"matches": "y"}}}
    async with http_server(answer) as server, open_prober() as probe:
        await probe("http", url=server.url(), expect={"headers": {"X-Short": {"matches": "x"}}})
        assert probe.judged_aside == 0
        result = await probe("http", url=server.url(), expect=expect)
        assert probe.judged_aside == 1
    assert [reason for reason, _ in told(result)] == [Reason.HEADER]


@pytest.mark.parametrize(
    "charset", ["punycode", "unicode_escape", "hex", "undefined", "../x", "ü", "x" * 5000]
)
async def test_a_charset_that_is_none_is_read_as_utf_8(charset: str) -> None:
    answer = response("Größe\\n".encode(), headers=[f"Content-Type: text/plain; charset={charset}"])
    async with http_server(answer) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), expect={"body": {"equals": "Größe\\n"}})
    assert told(result) == []


async def test_what_came_in_time_is_judged_in_peace() -> None:
    """Judging waits for a worker of ours longer than the timeout: that is not the target's slowness."""
    async with http_server(response(b"x" * 100_000)) as server, open_prober() as probe:
        probe.judging_takes = 0.5
        result = await probe("http", url=server.url(), timeout="300ms", expect={"body": {"contains": "x"}})
    assert told(result) == []
    assert result.outcome is Outcome.SUCCESS
    assert result.duration_seconds < 0.3


# --- redirects ----------------------------------------------------------------------------------------


def to(location: str, status: str = "302 Found", *headers: str) -> bytes:
    return response(b"", status=status, headers=[f"Location: {location}", *headers])


async def test_redirects_are_followed_and_the_last_response_is_judged() -> None:
    def respond(request: bytes) -> bytes:
        hops = {"/": to("/one"), "/one": to("two?x=1#y", "308 Permanent")}
        return hops.get(path_of(request), response(b"there"))

    async with no_socket_left(), http_server(respond) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), expect={"body": {"equals": "there"}})
    assert told(result) == []
    assert result.facts["redirects"] == 2
    assert [path_of(request) for request in server.requests] == ["/", "/one", "/two?x=1"]
    assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)


async def test_a_redirect_can_be_what_is_expected() -> None:
    async with http_server(to("/elsewhere")) as server, open_prober() as probe:
        result = await probe(
            "http",
            url=server.url(),
            follow_redirects=False,
            expect={"status": 302, "headers": {"location": "/elsewhere"}},
        )
    assert told(result) == []
    assert len(server.requests) == 1


async def test_a_loop_of_redirects_ends_at_the_limit() -> None:
    async with no_socket_left(), http_server(to("/again?token=hidden")) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), max_redirects=3)
        place = server.url("/again")
    assert told(result) == [(Reason.REDIRECT, f"redirects must be at most 3, the next would lead to {place}")]
    assert len(server.requests) == 4
    assert result.status_code == 302


@pytest.mark.parametrize(
    ("location", "message"),
    [
        (
            "http://127.0.0.1:99999/x",
            "redirect to http://127.0.0.1:99999/x refused: there is no such port",
        ),
        ("http://127.0.0.1:0/", "redirect to http://127.0.0.1:0/ refused: there is no such port"),
        ("ftp://files.test/x", "redirect to ftp://files.test/x refused: only http and https are followed"),
        (
            "file:///etc/passwd",
            "redirect to file://127.0.0.1/etc/passwd refused: only http and https are followed",
        ),
        ("http://[::1/", "the redirect's Location is not a URL"),
    ],
)
async def test_a_redirect_to_anything_but_http_is_refused(location: str, message: str) -> None:
    async with no_socket_left(), http_server(to(location)) as server, open_prober() as probe:
        result = await probe("http", url=server.url())
    assert [(reason, text.replace(str(server.port), "")) for reason, text in told(result)] == [
        (Reason.REDIRECT, message)
    ]


async def test_each_hop_is_resolved_and_connected_anew() -> None:
    async with (
        http_server(response(b"there")) as far,
        open_prober({"far.test": LOOPBACK}) as probe,
        http_server(to(far.url(host="far.test"))) as near,
    ):
        result = await probe("http", url=near.url())
    assert told(result) == []
    assert header_of(far.requests[0], "host") == f"far.test:{far.port}"


async def test_a_hop_that_is_down_is_the_failure() -> None:
    async with http_server(to("http://127.0.0.1:1/")) as server, open_prober() as probe:
        result = await probe("http", url=server.url())
    assert told(result) == [(Reason.REFUSED, "connection refused while connecting to 127.0.0.1:1")]


async def test_another_origin_sees_no_declared_header_and_no_credentials_even_back_home() -> None:
    home_port: list[int] = []

    def stranger(request: bytes) -> bytes:
        return to(f"http://{LOOPBACK}:{home_port[0]}/back")

    async with http_server(stranger) as far:

        def home(request: bytes) -> bytes:
            here = {"/": to("/same"), "/same": to(far.url())}
            return here.get(path_of(request), response())

        async with http_server(home) as near, open_prober() as probe:
            home_port.append(near.port)
            result = await probe(
                "http",
                url=near.url(),
                headers={"X-Api-Key": "s3cret", "Cookie": "own=1"},
                auth={"bearer": "t0ken"},
            )
    assert told(result) == []
    first, same, back = near.requests
    for request in (first, same):
        assert header_of(request, "x-api-key") == "s3cret"
        assert header_of(request, "authorization") == "Bearer t0ken"
        assert header_of(request, "cookie") == "own=1"
    for request in (far.requests[0], back):
        assert b"s3cret" not in request
        assert b"t0ken" not in request
        assert header_of(request, "cookie") is None
        assert header_of(request, "user-agent") == "Watchbill/0.1.0"


async def test_cookies_live_as_long_as_the_probe() -> None:
    def respond(request: bytes) -> bytes:
        if path_of(request) == "/":
            return to("/in", "302 Found", "Set-Cookie: session=abc; Path=/")
        return response()

    async with http_server(respond) as server, open_prober() as probe:
        await probe("http", url=server.url())
        await probe("http", url=server.url(), headers={"Cookie": "own=1"})
    cookies = [header_of(request, "cookie") for request in server.requests]
    assert cookies == [None, "session=abc", "own=1", "own=1; session=abc"]


@pytest.mark.parametrize(
    ("status", "second"),
    [("301 Moved", b"GET"), ("302 Found", b"GET"), ("303 See Other", b"GET"), ("307 Temporary", b"POST")],
)
async def test_the_method_of_a_redirected_post(status: str, second: bytes) -> None:
    def respond(request: bytes) -> bytes:
        return to("/next", status) if path_of(request) == "/" else response()

    async with http_server(respond) as server, open_prober() as probe:
        result = await probe("http", url=server.url(), method="POST", body="payload")
    assert told(result) == []
    assert server.requests[1].startswith(second + b" /next ")
    assert server.requests[1].endswith(b"payload") is (second == b"POST")


async def test_a_body_is_not_carried_to_another_origin() -> None:
    async with (
        http_server(response()) as far,
        open_prober() as probe,
        http_server(to(far.url(), "307 Temporary")) as near,
    ):
        result = await probe("http", url=near.url(), method="POST", body="payload")
    assert told(result) == [
        (Reason.REDIRECT, f"redirect to {far.url()} refused: it would send the body to another origin")
    ]
    assert far.accepted == 0


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("169.254.169.254", True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("2002:a9fe:a9fe::1", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_where_clouds_keep_their_secrets(address: str, refused: bool) -> None:
    assert is_guarded(address) is refused


async def test_a_stranger_s_redirect_reaches_no_metadata_service() -> None:
    names = {"metadata.test": "169.254.169.254"}
    async with (
        no_socket_left(),
        http_server(to("http://metadata.test/secrets")) as server,
        open_prober(names) as probe,
    ):
        result = await probe("http", url=server.url())
    assert told(result) == [
        (Reason.REDIRECT, "redirect to 169.254.169.254 refused: it is a link-local or metadata address")
    ]


# --- TLS ----------------------------------------------------------------------------------------------


async def test_https_records_the_handshake_and_the_certificate(authority: Authority) -> None:
    issued = authority.issue("shop.test", LOOPBACK, valid_until=NOW + 30 * DAY)
    async with (
        no_socket_left(),
        http_server(response(), tls=issued.context()) as server,
        open_prober({"shop.test": LOOPBACK}) as probe,
    ):
        result = await probe(
            "http",
            url=server.url(scheme="https", host="shop.test"),
            tls={"ca_file": authority.ca_file},
            expect={"certificate_valid_for": "14d"},
        )
    assert told(result) == []
    assert list(result.phases) == ["resolve", "connect", "tls", "processing", "transfer"]
    assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)
    facts = result.facts
    assert facts["ssl"] is True
    assert facts["tls_version"] == "TLSv1.3"
    assert facts["tls_cipher"].startswith("TLS_")
    assert facts["certificate_problem"] is None
    assert facts["certificate_expires_at"] == int((NOW + 30 * DAY).timestamp())
    assert facts["certificate_not_before"] == int((NOW - DAY).timestamp())
    assert facts["certificate_subject"] == "CN=shop.test"
    assert facts["certificate_issuer"] == "CN=Test Root"
    assert facts["certificate_names"] == ["shop.test", LOOPBACK]
    assert len(facts["certificate_sha256"]) == 64
    assert int(facts["certificate_serial"], 16) == issued.certificate.serial_number


async def test_a_certificate_that_ends_too_soon(authority: Authority) -> None:
    issued = authority.issue(LOOPBACK, valid_until=NOW + 10 * DAY)
    async with http_server(response(), tls=issued.context()) as server, open_prober() as probe:
        result = await probe(
            "http",
            url=server.url(scheme="https"),
            tls={"ca_file": authority.ca_file},
            expect={"certificate_valid_for": "14d"},
        )
    assert told(result) == [(Reason.CERTIFICATE, "certificate must be valid for 14d, expires in 10.0d")]


async def test_nothing_is_sent_to_a_server_whose_certificate_does_not_verify(authority: Authority) -> None:
    issued = authority.issue("other.test")
    async with (
        no_socket_left(),
        http_server(response(), tls=issued.context()) as server,
        open_prober() as probe,
    ):
        result = await probe(
            "http",
            url=server.url(scheme="https"),
            tls={"ca_file": authority.ca_file},
            auth={"bearer": "t0ken"},
        )
    assert told(result) == [(Reason.CERTIFICATE, "certificate is not for 127.0.0.1 but for other.test")]
    assert server.requests == []
    assert result.facts["certificate_problem"] == "certificate is not for 127.0.0.1 but for other.test"
    assert result.facts["certificate_names"] == ["other.test"]
    assert "processing" not in result.phases


async def test_an_unverified_certificate_can_be_declared_good_enough(authority: Authority) -> None:
    issued = authority.issue("other.test", self_signed=True)
    async with http_server(response(), tls=issued.context()) as server, open_prober() as probe:
        result = await probe("http", url=server.url(scheme="https"), tls={"skip_verification": True})
    assert told(result) == []
    assert result.facts["certificate_problem"] == (
        "certificate is self-signed; certificate is not for 127.0.0.1 but for other.test"
    )


async def test_a_server_name_of_its_own_is_asked_for_and_verified(authority: Authority) -> None:
    issued = authority.issue("shop.test")
    async with http_server(response(), tls=issued.context()) as server, open_prober() as probe:
        result = await probe(
            "http",
            url=server.url(scheme="https"),
            tls={"ca_file": authority.ca_file, "server_name": "shop.test"},
        )
    assert told(result) == []


async def test_a_client_certificate_is_shown_at_home_and_nowhere_else(authority: Authority) -> None:
    issued = authority.issue(LOOPBACK)
    me = authority.issue("me", client=True)
    demanding = issued.context(client_ca=authority.ca_file)
    served: list[bytes] = []

    async def conversation(caller: Caller) -> None:
        secure = await shake_hands(caller, demanding)
        served.append(await secure.answer(response()))

    tls = {"ca_file": authority.ca_file, "cert_file": me.cert_file, "key_file": me.key_file}
    async with (
        no_socket_left(),
        serving(conversation) as far,
        http_server(to(far.url(scheme="https")), tls=demanding) as near,
        open_prober() as probe,
    ):
        direct = await probe("http", url=far.url(scheme="https"), tls=tls)
        redirected = await probe("http", url=near.url(scheme="https"), tls=tls)
        without = await probe("http", url=far.url(scheme="https"), tls={"ca_file": authority.ca_file})
    assert told(direct) == []
    for result in (redirected, without):
        assert told(result) == [
            (Reason.TLS, "TLS failed while receiving: the server refused (certificate required)")
        ]
    assert len(served) == 1


async def test_a_redirect_from_https_to_http_leaves_no_facts_of_the_certificate(authority: Authority) -> None:
    issued = authority.issue(LOOPBACK)
    async with (
        http_server(response()) as plain,
        open_prober() as probe,
        http_server(to(plain.url()), tls=issued.context()) as secure,
    ):
        result = await probe("http", url=secure.url(scheme="https"), tls={"ca_file": authority.ca_file})
    assert told(result) == []
    assert result.facts["ssl"] is False
    assert not [name for name in result.facts if name.startswith(("tls_", "certificate_"))]


async def test_a_changed_ca_file_is_read_again(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(LOOPBACK)
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "Other Root")
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(Path(other.ca_file).read_bytes())
    async with http_server(response(), tls=issued.context()) as server, open_prober() as probe:
        before = await probe("http", url=server.url(scheme="https"), tls={"ca_file": str(ca_file)})
        ca_file.write_bytes(Path(authority.ca_file).read_bytes())
        after = await probe("http", url=server.url(scheme="https"), tls={"ca_file": str(ca_file)})
    assert told(before) == [(Reason.CERTIFICATE, "certificate has an unknown issuer")]
    assert told(after) == []
