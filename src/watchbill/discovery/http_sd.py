"""Targets from a URL that is asked every now and then. Only a 200 with JSON is an answer; anything else keeps what was found last."""

from __future__ import annotations

import re
from base64 import b64encode
from functools import partial

import anyio

from watchbill.discovery.formats import NoGroupsError, groups_in
from watchbill.discovery.sources import Report, Source
from watchbill.domain.discovery import HttpSd, TargetGroup
from watchbill.ports import HttpClient, HttpError, Judge, UnjudgedError

MOST_BYTES = 32 << 20
URL_LABEL = "__meta_url"
_JSON = re.compile(r"application/json\s*(;\s*charset\s*=\s*\"?utf-8\"?\s*)?", re.IGNORECASE)


def http_sd(declared: HttpSd, *, http: HttpClient, judge: Judge) -> Source:
    return partial(_follow, declared, http, judge)


async def _follow(declared: HttpSd, http: HttpClient, judge: Judge, report: Report) -> None:
    while True:
        try:
            report.found(await _asked(declared, http, judge))
        except (HttpError, UnjudgedError, NoGroupsError) as error:
            report.failed(str(error))
        await anyio.sleep(declared.refresh.total_seconds())


async def _asked(declared: HttpSd, http: HttpClient, judge: Judge) -> tuple[TargetGroup, ...]:
    """:raises HttpError, UnjudgedError, NoGroupsError: there is no answer."""
    async with http.open(
        "GET",
        declared.url,
        headers=_headers(declared),
        timeout_seconds=declared.timeout.total_seconds(),
        tls=declared.tls,
        # A redirect to another origin keeps a header that only the user knows to be a secret.
        follow_redirects=not declared.headers,
    ) as answer:
        if answer.status != 200:
            raise NoGroupsError(f"the answer must be 200, got {answer.status}")
        kind = answer.headers.get("content-type", "")
        if not _JSON.fullmatch(kind.strip()):
            raise NoGroupsError("the answer must be of the type application/json")
        content = await answer.read(MOST_BYTES)
    labels = {URL_LABEL: declared.url}
    return await groups_in(content, declared.url, form="json", labels=labels, judge=judge)


def _headers(declared: HttpSd) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "X-Prometheus-Refresh-Interval-Seconds": f"{declared.refresh.total_seconds():g}",
    }
    headers |= {name: value.get_secret_value() for name, value in declared.headers.items()}
    if declared.auth is None:
        return headers
    if declared.auth.bearer is not None:
        return {**headers, "Authorization": f"Bearer {declared.auth.bearer.get_secret_value()}"}
    basic = declared.auth.basic
    assert basic is not None  # noqa: S101 - one of both is there
    pair = f"{basic.username}:{basic.password.get_secret_value()}".encode()
    return {**headers, "Authorization": f"Basic {b64encode(pair).decode()}"}
