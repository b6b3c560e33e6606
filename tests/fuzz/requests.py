"""Requests that are broken on purpose: a good one for some route, changed by a few random mutations.

Request ``index`` of a ``seed`` is always the same, so that one that broke something can be sent again alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from starlette.routing import Route

from tests.web.running import bare_application
from watchbill.web.large import SLICE_BYTES

Headers: TypeAlias = list[tuple[bytes, bytes]]
SENTINEL = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""Behind every request: where the server still reads, it answers this and closes."""
COSTLY = ("/-/reload", "/api/v1/backup")

METHODS = (
    b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"M-SEARCH", b"SOURCE",
    b"get", b"", b"G\x00T", b"GET\t", b" GET", b"QWERTY", b"A" * 300, b"\xc3\xa9", b"POST POST",
)  # fmt: skip
VERSIONS = (
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1", b"http/1.1", b"", b"HTTP/1.1 x",
    b"HTTP/11", b"HTTP/1.\x00", b"ICE/1.0", b"RTSP/1.0", b"HTTP/1.1\r\nX: y",
)  # fmt: skip
IDS = (
    "web", "job", "nobody", "%00", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%ff%fe", "%zz", "%", "%u0041", "web%0d%0aX:%20y", "a" * 5000,
    "%F0%9F%92%A9", "%ed%a0%80", "web/", "web;x=y", "web?", "'%20OR%201=1--", "<script>", "{check_id}", "%E2%80%AE", ".", "",
)  # fmt: skip
PATHS = (
    b"*", b"http://x/metrics", b"http://[::1/", b"//metrics", b"/metrics/", b"/../metrics", b"/%2e%2e/metrics", b"/./-/healthy", b"x",
    b"/\x00", b"/\xff\xfe", b"/ metrics", b"/metrics\tx", b"/metrics#x", b"/%", b"/%0", b"/%zz", b"/static/../../etc/passwd",
    b"\\metrics", b"x:80", b"/?" + b"&" * 3000, b"/" + b"a/" * 2000, b"/" + b"%41" * 3000, b"/" + b"x" * 70_000, b"https://x:99999/",
    b"/.env", b"/debug/pprof", b"/docs", b"/redoc", b"/openapi.json", b"/api/v1", b"/api/v1/", b"/API/V1/CHECKS", b"ftp://x/",
)  # fmt: skip
VALUES = (
    "", "0", "1", "-1", "+1", " 1", "1 ", "1e3", "1e309", "nan", "inf", "9" * 9, "9" * 11, "9" * 400, "0x10", "%D9%A3", "true", "None", "[]", "{}",
    "24h", "-24h", "0s", "1us", "99999999d", "99999999999999999999d", "1.5h", "h", "999999y", "24h%00", "24%20h", "2026-01-31T12:00:00Z",
    "2026-13-45", "0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59-23:59", "2026-01-31", "2026-W05", "20260131T120000", "now", "1.0000000001",
    "0001-01-01", "9999-12-31", "2026-01-31T12:00:00.123456789Z", "T", "Z", "z", "P1D", "%ff", "%zz", "%", "a" * 3000, "%F0%9F%92%A9", "%ed%a0%80",
    "down", "up", "parked", "shop", "%3Cscript%3E", "\"><b>", "';--", "%0d%0a", "1;2", "1,2", "99999999999.999999999", "1970-01-01", "00000000000",
)  # fmt: skip
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"Host", b""), (b"Host", b"evil.test"), (b"Host", b"x\x00y"), (b"Host", b"[::1"), (b"Host ", b"x"), (b"", b"x"), (b"X\x00", b"y"),
    (b"X", b"a\x00b"), (b"X", b"a\rb"), (b"X", b"a\nb"), (b"X", b"a\r\n b"), (b"X-\xff", b"y"), (b"X Y", b"z"), (b"X", b"x" * 70_000), (b"X", b"\xff\xfe"),
    (b"Accept", b"application/openmetrics-text; version=1.0.0"), (b"Accept", b"text/plain;q=nan"), (b"Accept", b";,;q=,q=1e9,*/*;q=-1"),
    (b"Accept", b"text/plain"), (b"Accept", b"a" * 3000), (b"Accept", b"\xe9;q=\xe9"), (b"Accept-Encoding", b"gzip"), (b"Accept-Encoding", b"gzip;q=0.000"),
    (b"Accept-Encoding", b";" * 2000), (b"Accept-Encoding", b"gzip," * 2000), (b"Accept-Encoding", b"\xff"), (b"Origin", b"null"), (b"Origin", b"http://[::1"),
    (b"Origin", b"http://evil.test"), (b"Origin", b"\xff://"), (b"Origin", b"x" * 3000), (b"Sec-Fetch-Site", b"cross-site"), (b"Sec-Fetch-Site", b"\x80"),
    (b"Authorization", b"Bearer"), (b"Authorization", b"Bearer \xff\xfe"), (b"Authorization", b"Basic \x80"), (b"Authorization", b"Bearer " + b"x" * 9000),
    (b"X-Watchbill-Token", b"\xe9"), (b"Expect", b"100-continue"), (b"Expect", b"200-ok"), (b"Upgrade", b"websocket"), (b"Upgrade", b"h2c"),
    (b"Connection", b"Upgrade"), (b"Connection", b"Upgrade, HTTP2-Settings"), (b"Connection", b"close, keep-alive, \x01"), (b"Connection", b"close"),
    (b"HTTP2-Settings", b"AAMAAABkAAQAAP__"), (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"Sec-WebSocket-Version", b"13"), (b"Range", b"bytes=0-18446744073709551615"),
    (b"If-Modified-Since", b"never"), (b"Cookie", b"=;" * 2000), (b"X-Forwarded-For", b"\x00"), (b"X-Forwarded-Proto", b"javascript"), (b"Content-Type", b"application/json; charset=idna"),
    (b"Content-Type", b"multipart/form-data; boundary=" + b"x" * 500), (b"Content-Type", b"\xff"), (b"Transfer-Encoding", b"identity"), (b"TE", b"trailers, gzip"), (b"Trailer", b"Host"),
)  # fmt: skip
LENGTHS = (b"0", b"5", b"-1", b"+5", b"0x5", b"5, 5", b"5,6", b"", b" ", b"99999999999999999999999", b"9223372036854775807", b"70000", b"5 5", b"\xd9\xa3", b"1e3", b"5\x00")  # fmt: skip
CODINGS = (b"chunked", b"Chunked", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"xchunked", b"chunked\x00", b"\x0bchunked", b"identity", b"chunked;q=1", b"")  # fmt: skip
BODIES = (
    b"", b"hello", b"{}", b"[" * 30_000, b"[]", b'{"nonce":"' + b"00" * 16 + b'","digests":{"web":{"url":"x"}}}', b'{"nonce":"zz","digests":{}}',
    b'{"nonce":"' + b"00" * 16 + b'","digests":{"\\ud800":{"\\ud800":"\\ud800"}}}', b'{"nonce":' + b"9" * 20_000 + b"}", b"\xff\xfe\x00", b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    b'{"nonce":"' + b"00" * 16 + b'","digests":{"job":{"token":"' + b"0" * 64 + b'"}}}', b"a=b&" * 5000, b"x" * 70_000, b"NaN", b'"' + b"\\" * 9_001,
)  # fmt: skip
CHUNKED = (
    b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n", b"ffffffffffffffffff\r\n", b"5;" + b"a" * 70_000 + b"\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello!\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"0\r\n" + b"X: y\r\n" * 12_000 + b"\r\n", b"1\r\nx\r\n" * 9_000 + b"0\r\n\r\n", b"5\r\nhel", b"0x5\r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n",
    b"0\r\nHost: y\r\nContent-Length: 9\r\n\r\n", b"10000\r\n" + b"x" * 65_536 + b"\r\n1\r\nx\r\n0\r\n\r\n",
)  # fmt: skip
GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(30), b"\x00", b"\r\n" * 50, b"\r", b"SSH-2.0-x\r\n", b"{}\n", b"\x05\x01\x00",
    b"*1\r\n$4\r\nPING\r\n", b"EHLO x\r\n", b"GET /\r\n", b"GET /", b"GET", b"HELP", bytes(range(256)), b"\xef\xbb\xbf",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Routes:
    """Where requests go: path templates with their methods, and every parameter that any of them takes."""

    templates: tuple[tuple[str, frozenset[str]], ...]
    parameters: tuple[str, ...]


def routes() -> Routes:
    """Those of the application itself, so that none that is added is forgotten."""
    app = bare_application()
    found = [(route.path, frozenset(route.methods or ())) for route in app.routes if isinstance(route, Route)]
    described = (each for path in app.openapi()["paths"].values() for each in path.values())
    named = {each["name"] for method in described for each in method.get("parameters", ())}
    return Routes(tuple(found), (*sorted(named), "status", "service", "page", "allow_mass_delete", "target"))


@dataclass(slots=True)
class Request:
    """A request in parts, so that each of them can be broken."""

    method: bytes
    target: bytes
    version: bytes = b"HTTP/1.1"
    headers: Headers = field(default_factory=lambda: [(b"Host", b"x")])
    body: bytes = b""

    def wire(self) -> bytes:
        line = b" ".join(filter(None, (self.method, self.target, self.version)))
        return b"\r\n".join([line, *(b"%s: %s" % each for each in self.headers), b"", b""]) + self.body


def good_request(chance: Random, where: Routes) -> Request:
    """Reloads and backups take long: most of these requests come from another site and are refused."""
    template, methods = chance.choice(where.templates)
    path = template.replace("{check_id}", chance.choice(IDS) if chance.random() < 0.5 else "web")
    query = "&".join(
        f"{chance.choice(where.parameters)}={chance.choice(VALUES)}"
        for _ in range(chance.choice((0, 1, 1, 2, 5)))
    )
    asked = Request(
        chance.choice(sorted(methods)).encode(),
        f"{path}?{query}".rstrip("?").encode("utf-8", "surrogatepass"),
    )
    if template in COSTLY and chance.random() < 0.98:
        asked.headers.append((b"Sec-Fetch-Site", b"cross-site"))
    if asked.method in (b"POST", b"PUT") and chance.random() < 0.7:
        asked.body = chance.choice(BODIES)
        asked.headers.append((b"Content-Length", str(len(asked.body)).encode()))
    return asked


# --- what is done to it -------------------------------------------------------------------------------


def wrong_method(asked: Request, chance: Random) -> None:
    asked.method = chance.choice(METHODS)


def wrong_target(asked: Request, chance: Random) -> None:
    asked.target = chance.choice(PATHS)


def long_query(asked: Request, chance: Random) -> None:
    asked.target += b"?" + b"&".join([b"since=1"] * chance.choice((10, 1000, 9000)))


def wrong_version(asked: Request, chance: Random) -> None:
    asked.version = chance.choice(VERSIONS)


def odd_headers(asked: Request, chance: Random) -> None:
    for _ in range(chance.randint(1, 4)):
        asked.headers.insert(chance.randint(0, len(asked.headers)), chance.choice(HEADERS))


def many_headers(asked: Request, chance: Random) -> None:
    asked.headers += [(b"X", b"y")] * chance.choice((50, 150, 1000, 9000))


def websocket(asked: Request, chance: Random) -> None:
    asked.headers += [(b"Connection", b"Upgrade"), (b"Upgrade", chance.choice((b"websocket", b"h2c", b"x")))]


def odd_length(asked: Request, chance: Random) -> None:
    for _ in range(chance.randint(1, 2)):
        asked.headers.append((b"Content-Length", chance.choice(LENGTHS)))
    asked.body = chance.choice(BODIES)


def chunked(asked: Request, chance: Random) -> None:
    asked.headers.append((b"Transfer-Encoding", chance.choice(CODINGS)))
    asked.body = chance.choice(CHUNKED)


def smuggling(asked: Request, chance: Random) -> None:
    """A length and chunks: two readings of where the request ends."""
    asked.body = b"0\r\n\r\nGET /-/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    both = [
        (b"Content-Length", chance.choice((b"4", b"5", b"60"))),
        (b"Transfer-Encoding", chance.choice(CODINGS)),
    ]
    chance.shuffle(both)
    asked.headers += both


Mutation: TypeAlias = Callable[[Request, Random], None]
MUTATIONS: tuple[Mutation, ...] = (
    wrong_method, wrong_target, long_query, wrong_version, odd_headers, odd_headers, many_headers, websocket, odd_length, chunked, smuggling,
)  # fmt: skip


def flipped(wire: bytes, chance: Random) -> bytes:
    damaged = bytearray(wire)
    for _ in range(chance.randint(1, 5)):
        damaged[chance.randrange(min(len(damaged), 500))] = chance.randrange(256)
    return bytes(damaged)


def cut(wire: bytes, chance: Random) -> bytes:
    return wire[: chance.randrange(len(wire))]


def doubled(wire: bytes, chance: Random) -> bytes:
    start = chance.randrange(min(len(wire), 500))
    return wire[:start] + wire[start : start + 40] * chance.randint(2, 50) + wire[start + 40 :]


def bare_lines(wire: bytes, chance: Random) -> bytes:
    return wire.replace(b"\r\n", chance.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"\x0b\n")))


def preceded(wire: bytes, chance: Random) -> bytes:
    return chance.choice(GARBAGE) + wire


def pipelined(wire: bytes, chance: Random) -> bytes:
    return wire * chance.choice((2, 3, 20, max(1, 100_000 // len(wire)) if chance.random() < 0.05 else 5))


DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    flipped,
    flipped,
    cut,
    doubled,
    bare_lines,
    preceded,
    pipelined,
)


def request(seed: int, index: int, where: Routes) -> bytes:
    chance = Random(f"{seed}/{index}")
    asked = good_request(chance, where)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        chance.choice(MUTATIONS)(asked, chance)
    wire = asked.wire()
    if chance.random() < 0.4:
        wire = chance.choice(DAMAGES)(wire, chance)
    return wire


# --- what comes back ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


def read_responses(received: bytes) -> list[Response]:
    """Every response of a connection. :raises ValueError: what came is not a row of whole responses."""
    found = []
    while received:
        head, separator, received = received.partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        version, status, _ = (*line.split(b" ", 2), b"", b"")[:3]
        if not separator or version != b"HTTP/1.1" or len(status) != 3:
            raise ValueError(f"not the head of a response: {head[:80]!r}")
        if status == b"100":
            continue
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(b":") for each in lines)}
        length = int(headers.get(b"content-length", b"0"))
        if received.startswith(b"HTTP/1.1 ") or not received:
            length = 0  # the answer to HEAD
        if len(received) < length and length > SLICE_BYTES:
            break  # a large answer ends early where its client is impatient, sends garbage behind, or has to give way
        if len(received) < length:
            raise ValueError(f"{len(received)} of {length} bytes behind {line!r}")
        found.append(Response(int(status), headers, received[:length]))
        received = received[length:]
    return found
