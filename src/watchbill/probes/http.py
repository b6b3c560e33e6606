"""HTTP: a request, the redirects it leads to, and the judgement of the last response."""

from __future__ import annotations

import re
import warnings
from base64 import b64encode
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache, partial
from http.cookiejar import CookieJar
from importlib.metadata import version
from typing import Any

import anyio
import anyio.lowlevel
import httpx2

from watchbill.domain.checks import Auth, Http
from watchbill.domain.expectations import HttpExpect, body_failures, header_failures, validity_failures
from watchbill.domain.results import Failure, Reason
from watchbill.domain.rules import status_meets
from watchbill.domain.units import SECOND, Instant
from watchbill.ports import Network, NetworkError, Offload
from watchbill.probes.attempt import Attempt
from watchbill.probes.transport import ProbeTransport

OFFLOADED_BYTES = 64 * 1024
"""A larger body is judged off the event loop..."""
OFFLOADED_COSTLY_BYTES = 8 * 1024
"""...and one of this size where patterns or JSON are judged, which take up to 5 us a byte."""
JUDGING_SECONDS = 5
MOST_CODINGS = 2
LARGE_STEP = 256 * 1024
# What a target names is looked up among Python's codecs, some of which take quadratic time or are not for text.
_CHARSETS = re.compile(
    r"utf-?(8|16|16-?le|16-?be|32)|(us-)?ascii|iso-8859-(1|2|3|4|5|6|7|8|9|10|11|13|14|15|16)|latin-?1"
    r"|windows-125[0-8]|koi8-[ru]|shift_jis|euc-(jp|kr)|iso-2022-(jp|kr)|gbk|gb2312|gb18030|big5",
    re.IGNORECASE,
)
Headers = list[tuple[bytes, bytes]]


class _Jar(CookieJar):
    """Python's jar shouts a traceback on stderr over a cookie that it cannot read, and httpx2 sends only ASCII."""

    def make_cookies(self, response: Any, request: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            cookies = super().make_cookies(response, request)
        return [cookie for cookie in cookies if f"{cookie.name}{cookie.value}".isascii()]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The first request of a check. ``foreign`` are the headers that another origin may see."""

    request: httpx2.Request
    foreign: Headers
    cookie: bytes | None


async def probe(
    check: Http,
    attempt: Attempt,
    *,
    network: Network,
    now: Callable[[], Instant],
    offload: Offload,
    prepared: Callable[[Http], Prepared],
) -> None:
    """:raises NetworkError: wherever it ended, with its reason."""
    transport = ProbeTransport(network, attempt, tls=check.tls, ip_family=check.ip_family)
    # One client per probe (12 us): its cookies live as long as the probe.
    client = httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, cookies=_Jar())
    try:
        response = await _follow(check, attempt, client, transport, prepared(check))
        _judge_head(check.expect, response, attempt)
        expires = transport.session.earliest_expiry if transport.session else None
        expires_in = None if expires is None else (expires - now()) / SECOND
        attempt.failures += validity_failures(check.expect.certificate_valid_for, expires_in)
        body, truncated = await _read_body(check, response, attempt)
        attempt.phases.stop()
    finally:
        await transport.aclose()
    attempt.failures += await _judge_body(check, response, body, truncated=truncated, offload=offload)


async def _follow(
    check: Http, attempt: Attempt, client: httpx2.AsyncClient, transport: ProbeTransport, prepared: Prepared
) -> httpx2.Response:
    request = prepared.request
    origin = request.url.origin
    at_home = True
    attempt.facts["redirects"] = 0
    while True:
        response = await client.send(request, stream=True)
        if not (check.follow_redirects and response.has_redirect_location):
            return response
        attempt.status_code = response.status_code
        if attempt.facts["redirects"] >= check.max_redirects:
            raise NetworkError(
                Reason.REDIRECT,
                f"redirects must be at most {check.max_redirects}, the next would lead to {_target(response)}",
            )
        attempt.facts["redirects"] += 1
        request = _next_request(response)
        if at_home and request.url.origin == origin:
            _keep_cookie(request, prepared.cookie)
            continue
        # Once a hop was foreign, what follows was chosen by a stranger, also where it leads back.
        at_home = False
        transport.leave_home()
        request = _without_secrets(request, prepared.foreign, client.cookies)


def _next_request(response: httpx2.Response) -> httpx2.Request:
    request = response.next_request
    if request is None:
        raise NetworkError(Reason.REDIRECT, "the redirect's Location is not a URL")
    if request.url.scheme not in {"http", "https"} or not request.url.host:
        raise NetworkError(
            Reason.REDIRECT, f"redirect to {_shown(request.url)} refused: only http and https are followed"
        )
    if request.url.port is not None and not 0 < request.url.port < 1 << 16:
        raise NetworkError(
            Reason.REDIRECT, f"redirect to {_shown(request.url)} refused: there is no such port"
        )
    return request


def _without_secrets(request: httpx2.Request, headers: Headers, cookies: httpx2.Cookies) -> httpx2.Request:
    if request.headers.get("content-length", "0") != "0":
        raise NetworkError(
            Reason.REDIRECT,
            f"redirect to {_shown(request.url)} refused: it would send the body to another origin",
        )
    url = request.url.copy_with(userinfo=b"")
    return httpx2.Request(request.method, url, headers=headers, cookies=cookies)


def _keep_cookie(request: httpx2.Request, declared: bytes | None) -> None:
    """httpx2 sends only its jar's cookies along; a declared Cookie header is the user's own."""
    if declared is None:
        return
    received = request.headers.get("cookie")
    request.headers["cookie"] = declared.decode("latin-1") + (f"; {received}" if received else "")


def _target(response: httpx2.Response) -> str:
    return _shown(response.next_request.url) if response.next_request else "a place that is no URL"


def _shown(url: httpx2.URL) -> str:
    """Without userinfo and query, which may be secret."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


@cache
def user_agent() -> bytes:
    return f"Watchbill/{version('watchbill')}".encode("ascii")


def prepare(check: Http) -> Prepared:
    """Build what every probe of the check sends first. Only what is declared is declared: no Accept-Encoding.

    :raises NetworkError: ``protocol``, where httpx2 finds the url impossible.
    """
    declared = [
        (name.encode("ascii"), value.get_secret_value().encode()) for name, value in check.headers.items()
    ]
    names = {name.lower() for name, _ in declared}
    defaults = [(b"User-Agent", user_agent()), (b"Accept", b"*/*")]
    if check.auth is not None and b"authorization" not in names:
        declared.append((b"Authorization", _authorization(check.auth)))
    content = check.body.get_secret_value().encode() if check.body is not None else None
    try:
        request = httpx2.Request(
            check.method,
            check.url,
            headers=[*(field for field in defaults if field[0].lower() not in names), *declared],
            content=content,
        )
    except httpx2.InvalidURL as error:
        raise NetworkError(Reason.PROTOCOL, f"the url cannot be requested: {error}") from error
    cookie = next((value for name, value in declared if name.lower() == b"cookie"), None)
    return Prepared(request, defaults, cookie)


def _authorization(auth: Auth) -> bytes:
    if auth.basic is not None:
        pair = f"{auth.basic.username}:{auth.basic.password.get_secret_value()}"
        return b"Basic " + b64encode(pair.encode())
    return b"Bearer " + (auth.bearer.get_secret_value().encode() if auth.bearer is not None else b"")


def _judge_head(expect: HttpExpect, response: httpx2.Response, attempt: Attempt) -> None:
    attempt.status_code = status = response.status_code
    headers = response.headers
    length = headers.get("content-length", "")
    attempt.facts["content_length"] = int(length) if length.isdecimal() else -1
    if modified := _seconds(headers.get("last-modified")):
        attempt.facts["last_modified"] = modified
    if not status_meets(expect.status, status):
        attempt.fail(Reason.STATUS, f"status must be {' or '.join(expect.status)}, got {status}")
    if expect.headers:
        values = {name.lower(): headers.get_list(name) for name in expect.headers}
        attempt.failures += header_failures(expect.headers, values)


def _seconds(date: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp()) if date else None
    except (ValueError, OverflowError):
        return None


async def _read_body(check: Http, response: httpx2.Response, attempt: Attempt) -> tuple[bytes, bool]:
    """The body up to ``max_body_bytes``, and whether there was more. It is decoded only to be judged."""
    if not check.expect.needs_body:
        chunks = response.aiter_raw()
    elif response.headers.get("content-encoding", "").count(",") >= MOST_CODINGS:
        raise NetworkError(
            Reason.PROTOCOL, f"the body must have at most {MOST_CODINGS} content codings, has more"
        )
    else:
        chunks = response.aiter_bytes()  # decodes in steps of at most 1 MiB
    parts: list[bytes] = []
    size = 0
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                size += len(chunk)
                if check.expect.needs_body:
                    parts.append(chunk)
                if len(chunk) >= LARGE_STEP:
                    await anyio.lowlevel.checkpoint()  # unfolding goes on without waiting for anything
                if size > check.max_body_bytes:
                    break
    except httpx2.DecodingError as error:
        coding = response.headers.get("content-encoding", "")
        raise NetworkError(Reason.PROTOCOL, f"the body is not valid {coding}: {error}") from error
    attempt.facts["body_bytes"] = min(size, check.max_body_bytes)
    return b"".join(parts)[: check.max_body_bytes], size > check.max_body_bytes


async def _judge_body(
    check: Http, response: httpx2.Response, body: bytes, *, truncated: bool, offload: Offload
) -> list[Failure]:
    if not check.expect.needs_body:
        return []
    charset = response.charset_encoding or ""
    judge = partial(
        _body_failures, check.expect, body, charset=charset, truncated=truncated, limit=check.max_body_bytes
    )
    if len(body) <= _judged_here(check.expect):
        return judge()
    # What was received in time is judged in peace: a busy machine of ours must not look like a slow target.
    with anyio.move_on_after(JUDGING_SECONDS, shield=True):
        return await offload(judge)
    return [Failure(Reason.INTERNAL, f"the body could not be judged within {JUDGING_SECONDS}s")]


def _judged_here(expect: HttpExpect) -> int:
    """How large a body is judged without leaving the event loop."""
    costly = expect.json_ or expect.json_schema or (expect.body is not None and expect.body.matches)
    return OFFLOADED_COSTLY_BYTES if costly else OFFLOADED_BYTES


def _body_failures(
    expect: HttpExpect, body: bytes, *, charset: str, truncated: bool, limit: int
) -> list[Failure]:
    text = body.decode(charset if _CHARSETS.fullmatch(charset) else "utf-8", errors="replace")
    return body_failures(expect, text, truncated=truncated, limit=limit)
