"""Where an HTTP response leads on to: httpx2 says how the next request looks, here stands what it may not take along.

Secrets stay at the origin that they were declared for, and a stranger's redirect leads to no metadata service.
"""

from __future__ import annotations

import warnings
from http.cookiejar import CookieJar
from typing import Any

import httpx2

from watchbill.domain.checks import Http
from watchbill.domain.results import Reason
from watchbill.ports import NetworkError
from watchbill.probes.answer import Reply
from watchbill.probes.attempt import Attempt
from watchbill.probes.transport import ProbeTransport, as_response

LONGEST_NAME = 253
Headers = list[tuple[bytes, bytes]]
_STATUSES = frozenset({301, 302, 303, 307, 308})


class _Jar(CookieJar):
    """Python's jar shouts a traceback on stderr over a cookie that it cannot read, and httpx2 sends only ASCII."""

    def make_cookies(self, response: Any, request: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            cookies = super().make_cookies(response, request)
        return [cookie for cookie in cookies if f"{cookie.name}{cookie.value}".isascii()]


class _Replayed(httpx2.AsyncBaseTransport):
    """The transport of the probe, whose first response has been received already."""

    def __init__(self, transport: ProbeTransport, first: Reply) -> None:
        self._transport = transport
        self._first: Reply | None = first

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        first, self._first = self._first, None
        return await self._transport.handle_async_request(request) if first is None else as_response(first)


def leads_on(answer: Reply) -> bool:
    return answer.status in _STATUSES and bool(answer.values(b"location"))


async def follow(
    check: Http,
    attempt: Attempt,
    transport: ProbeTransport,
    *,
    request: httpx2.Request,
    first: Reply,
    foreign: Headers,
) -> Reply:
    """The last answer, after at most ``max_redirects`` hops. ``foreign``: the headers that another origin may see.

    :raises NetworkError: there were more, one leads where no probe may go, or a hop failed.
    """
    # Its cookies live as long as the probe.
    client = httpx2.AsyncClient(
        transport=_Replayed(transport, first), trust_env=False, follow_redirects=False, cookies=_Jar()
    )
    declared_cookie = next((value for name, value in request.headers.raw if name.lower() == b"cookie"), None)
    origin = request.url.origin
    at_home = True
    answer = first
    while True:
        response = await client.send(request, stream=True)
        answer = transport.answer or first
        if not leads_on(answer):
            return answer
        attempt.status_code = answer.status
        if attempt.facts["redirects"] >= check.max_redirects:
            raise NetworkError(
                Reason.REDIRECT,
                f"redirects must be at most {check.max_redirects}, the next would lead to {_target(response)}",
            )
        attempt.facts["redirects"] += 1
        request = _next_request(response)
        if at_home and request.url.origin == origin:
            _keep_cookie(request, declared_cookie)
            continue
        # Once a hop was foreign, what follows was chosen by a stranger, also where it leads back.
        at_home = False
        transport.leave_home()
        request = _without_secrets(request, foreign, client.cookies)


def _next_request(response: httpx2.Response) -> httpx2.Request:
    request = response.next_request
    if request is None:
        raise NetworkError(Reason.REDIRECT, "the redirect's Location is not a URL")
    if request.url.scheme not in {"http", "https"} or not request.url.host:
        raise NetworkError(
            Reason.REDIRECT, f"redirect to {_shown(request.url)} refused: only http and https are followed"
        )
    if len(request.url.raw_host) > LONGEST_NAME:  # nobody may fill what is remembered by name
        raise NetworkError(Reason.REDIRECT, "the redirect leads to a name that is too long for one")
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
