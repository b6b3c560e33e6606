"""Answers that break HTTP/1.1, or nearly."""

from __future__ import annotations

from typing import Any

from tests.misbehaviour.rows import Misbehaviour, over_http, says
from tests.servers import response
from watchbill.domain.results import Reason

OK = b"HTTP/1.1 200 OK\r\n"
CODED = OK + b"Transfer-Encoding: %s\r\n\r\n"
CHUNKED = CODED % b"chunked"
MOVED = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"
UNASKED_CODING = "a transfer coding that was not asked for"
MORE_FRAMING = "the response is more framing than content"
HUNG_UP_IN_BODY = "the server hung up in the middle of the response's body"
_BROKEN: list[tuple[str, bytes, Reason, str]] = [
    ("nothing", b"", Reason.RESET, "the server hung up before the response's head"),
    (
        "half a head",
        OK + b"Content-Le",
        Reason.RESET,
        "the server hung up in the middle of the response's head",
    ),
    ("half a body", response(b"half", length=1000), Reason.RESET, HUNG_UP_IN_BODY),
    (
        "half a chunk",
        OK + b"Transfer-Encoding: chunked\r\n\r\n10\r\nhalf",
        Reason.RESET,
        HUNG_UP_IN_BODY,
    ),
    (
        "no last chunk",
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        Reason.RESET,
        HUNG_UP_IN_BODY,
    ),
    (
        "garbage",
        b"\x00\x01\xffgarbage\r\n\r\n",
        Reason.PROTOCOL,
        'it begins with "\\u0000\\u0001\ufffdgarbage\\r\\n\\r\\n"',
    ),
    (
        "another protocol",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        Reason.PROTOCOL,
        'it begins with "SSH-2.0-OpenSSH_9.2\\r\\n"',
    ),
    ("a page without a head", b"<html>hello</html>", Reason.PROTOCOL, 'it begins with "<html>hello</html>"'),
    (
        "a cousin of HTTP",
        b"RTSP/1.0 200 OK\r\n\r\n",
        Reason.PROTOCOL,
        'it begins with "RTSP/1.0 200 OK\\r\\n\\r\\n"',
    ),
    (
        "HTTP/2 in plain text",
        b"HTTP/2.0 200 OK\r\n\r\n",
        Reason.PROTOCOL,
        "the response is not HTTP/1.1 but 2.0",
    ),
    ("no status", b"HTTP/1.1 OK\r\n\r\n", Reason.PROTOCOL, "Invalid status code"),
    ("an unknown version", b"HTTP/7.3 200 OK\r\n\r\n", Reason.PROTOCOL, "Invalid HTTP version"),
    (
        "two lengths",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        Reason.PROTOCOL,
        "Duplicate Content-Length",
    ),
    (
        "a length and chunks",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Reason.PROTOCOL,
        "Transfer-Encoding can't be present with Content-Length",
    ),
    (
        "a length below zero",
        OK + b"Content-Length: -2\r\n\r\nok",
        Reason.PROTOCOL,
        "Invalid character in Content-Length",
    ),
    (
        "a length beyond numbers",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\nok",
        Reason.PROTOCOL,
        "Content-Length overflow",
    ),
    (
        "a chunk of no size",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        Reason.PROTOCOL,
        "Invalid character in chunk size",
    ),
    (
        "a chunk longer than it says",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
        Reason.PROTOCOL,
        "Expected LF after chunk data",
    ),
    ("a header without a name", OK + b": value\r\n\r\n", Reason.PROTOCOL, "Invalid header token"),
    ("a NUL in a header", OK + b"X: a\x00b\r\n\r\n", Reason.PROTOCOL, "Invalid header value char"),
    (
        "a switch of protocols",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        Reason.PROTOCOL,
        "the server switched protocols without being asked",
    ),
    (
        "endless interim responses",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        Reason.PROTOCOL,
        "the server sent more than 20 interim (1xx) responses",
    ),
    (
        "many small headers",
        OK + b"".join(b"X-%d: 1\r\n" % number for number in range(201)) + b"\r\n",
        Reason.TOO_LARGE,
        "the response's headers must be at most 200 fields, are more",
    ),
    (
        "a header just over the limit",
        OK + b"X: " + b"x" * (64 * 1024) + b"\r\nContent-Length: 0\r\n\r\n",
        Reason.TOO_LARGE,
        "the response's headers must be at most 64 KiB, are more",
    ),
    (
        "one huge header",
        OK + b"X: " + b"x" * 200_000 + b"\r\n\r\n",
        Reason.TOO_LARGE,
        "the response's headers must be at most 64 KiB, are more",
    ),
    (
        "a line that goes on in the next",
        OK + b"X: a\r\n  b\r\n\r\n",
        Reason.PROTOCOL,
        "Unexpected whitespace",
    ),
    (
        "a head that begins with a blank",
        OK + b" X: a\r\n\r\n",
        Reason.PROTOCOL,
        "Unexpected space after start line",
    ),
    ("a NUL in a name", OK + b"X\x00: a\r\n\r\n", Reason.PROTOCOL, "Invalid header token"),
    ("a name that is not ASCII", OK + b"X-\xff: a\r\n\r\n", Reason.PROTOCOL, "Invalid header token"),
    ("a blank in a name", OK + b"X Y: a\r\n\r\n", Reason.PROTOCOL, "Invalid header token"),
    (
        "a blank before the colon",
        OK + b"Content-Length : 2\r\n\r\nok",
        Reason.PROTOCOL,
        "Invalid header field",
    ),
    (
        "lines that end in LF",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        Reason.PROTOCOL,
        "Missing expected CR",
    ),
    ("a CR within a value", OK + b"X: a\rb\r\n\r\n", Reason.PROTOCOL, "Missing expected LF"),
    ("a length with a plus", OK + b"Content-Length: +2\r\n\r\nok", Reason.PROTOCOL, "in Content-Length"),
    ("a length in hex", OK + b"Content-Length: 0x2\r\n\r\nok", Reason.PROTOCOL, "in Content-Length"),
    ("a length that is a list", OK + b"Content-Length: 2, 2\r\n\r\nok", Reason.PROTOCOL, "in Content-Length"),
    ("a length that is empty", OK + b"Content-Length: \r\n\r\nok", Reason.PROTOCOL, "Empty Content-Length"),
    (
        "a length nobody can send",
        OK + b"Content-Length: 9223372036854775807\r\n\r\nok",
        Reason.RESET,
        HUNG_UP_IN_BODY,
    ),
    (
        "chunks and a length",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        Reason.PROTOCOL,
        "Content-Length can't be present with Transfer-Encoding",
    ),
    ("chunked twice", CODED % b"chunked, chunked" + b"0\r\n\r\n", Reason.PROTOCOL, UNASKED_CODING),
    ("chunked before gzip", CODED % b"chunked, gzip" + b"hello", Reason.PROTOCOL, UNASKED_CODING),
    ("a coding that nobody knows", CODED % b"xchunked" + b"hello", Reason.PROTOCOL, UNASKED_CODING),
    (
        "a chunk beyond numbers",
        CHUNKED + b"f" * 17 + b"\r\nok\r\n0\r\n\r\n",
        Reason.PROTOCOL,
        "Chunk size overflow",
    ),
    ("a chunk below zero", CHUNKED + b"-2\r\nok\r\n0\r\n\r\n", Reason.PROTOCOL, "in chunk size"),
    (
        "a flood of chunk extensions",
        CHUNKED + b"2;" + b"a" * 500_000 + b"\r\nok",
        Reason.PROTOCOL,
        MORE_FRAMING,
    ),
    (
        "a flood of trailers",
        CHUNKED + b"2\r\nok\r\n0\r\n" + b"X: y\r\n" * 50_000,
        Reason.PROTOCOL,
        MORE_FRAMING,
    ),
    ("status 099", b"HTTP/1.1 099 Low\r\n\r\n", Reason.PROTOCOL, "there is no status 099"),
    ("status 1000", b"HTTP/1.1 1000 High\r\n\r\n", Reason.PROTOCOL, "Invalid response status"),
    (
        "status 999",
        b"HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n",
        Reason.STATUS,
        "status must be 2xx, got 999",
    ),
    ("a reason without end", b"HTTP/1.1 200 " + b"x" * 200_000, Reason.TOO_LARGE, "at most 64 KiB"),
    (
        "HTTP/2's preface",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        Reason.PROTOCOL,
        'it begins with "PRI * HTTP/2.0',
    ),
    ("HTTP/2's settings", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", Reason.PROTOCOL, "it begins with"),
    ("a TLS alert on a plain port", b"\x15\x03\x01\x00\x02\x02\x0a", Reason.PROTOCOL, "it begins with"),
    ("HTTP/0.9", b"hello world", Reason.PROTOCOL, 'it begins with "hello world"'),
    ("a request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Reason.PROTOCOL, 'it begins with "GET / HTTP/1.1'),
    (
        "an interim response and no more",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        Reason.RESET,
        "in the middle of the response's head",
    ),
    (
        "an interim response with a body",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + OK + b"\r\n",
        Reason.PROTOCOL,
        "the response is not HTTP/1.1",
    ),
    (
        "a switch that says nothing of whereto",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        Reason.PROTOCOL,
        "the server switched protocols without being asked",
    ),
    ("a Location of a megabyte", MOVED % (b"/" + b"x" * 1_000_000), Reason.TOO_LARGE, "at most 64 KiB"),
    ("a Location of 60 KiB", MOVED % (b"/" + b"x" * 60_000), Reason.REDIRECT, "redirects must be at most"),
    (
        "a Location that is no URL",
        MOVED % b"http://[::1/",
        Reason.REDIRECT,
        "the redirect's Location is not a URL",
    ),
    ("a Location of a script", MOVED % b"javascript:alert(1)", Reason.REDIRECT, "not a URL"),
    ("another scheme", MOVED % b"ftp://files.test/x", Reason.REDIRECT, "only http and https are followed"),
    ("a file", MOVED % b"file:///etc/passwd", Reason.REDIRECT, "only http and https are followed"),
    (
        "a name that is too long",
        MOVED % (b"http://" + b"a." * 2_000 + b"test/"),
        Reason.REDIRECT,
        "too long for one",
    ),
    (
        "a metadata service",
        MOVED % b"http://169.254.169.254/",
        Reason.REDIRECT,
        "link-local or metadata address",
    ),
    ("endless redirects", MOVED % b"/again", Reason.REDIRECT, "redirects must be at most"),
    (
        "endless redirects full of cookies",
        MOVED[:-4] % b"/"
        + b"\r\n"
        + b"".join(b"Set-Cookie: c%d=%s\r\n" % (number, b"v" * 250) for number in range(190))
        + b"\r\n",
        Reason.REDIRECT,
        "redirects must be at most",
    ),
]

_PUT_UP_WITH: list[tuple[str, bytes, dict[str, Any]]] = [
    (
        "no text beside the status",
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        {"expect": {"body": {"equals": "ok"}}},
    ),
    (
        "a length full of zeros",
        OK + b"Content-Length: 00000000000000000002\r\n\r\nok",
        {"expect": {"body": {"equals": "ok"}}},
    ),
    (
        "a body behind 204",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        {"expect": {"body": {"equals": ""}}},
    ),
    (
        "a length in 304",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        {"expect": {"status": 304}},
    ),
    ("a body behind HEAD", response(b"hello"), {"method": "HEAD"}),
    ("a few hints before", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(), {}),
    ("values that are not ASCII", response(headers=["X: \u00ff", "Last-Modified: 99 Foo"]), {}),
    (
        "a charset that is a trap",
        response(b"ok", headers=["Content-Type: text/html; charset=idna"]),
        {"expect": {"body": {"equals": "ok"}}},
    ),
    ("an offer to upgrade", response(headers=["Upgrade: h2c", "Connection: Upgrade"]), {}),
    ("garbage behind the response", response() + b"\x00garbage", {}),
]

ANSWERS: tuple[Misbehaviour, ...] = (
    *(
        Misbehaviour(name, reason, said, over_http(says(answer), timeout="10s"))
        for name, answer, reason, said in _BROKEN
    ),
    *(
        Misbehaviour(name, None, "", over_http(says(answer), timeout="10s", **declared))
        for name, answer, declared in _PUT_UP_WITH
    ),
)
