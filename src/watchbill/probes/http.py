"""HTTP: a request, the redirects it leads to, and the judgement of the last response."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from importlib.metadata import version
from itertools import chain

import httpx2

from watchbill.domain.checks import Http
from watchbill.domain.credentials import Auth
from watchbill.domain.expectations import HttpExpect, header_failures, validity_failures
from watchbill.domain.results import Reason
from watchbill.domain.rules import status_meets
from watchbill.domain.units import SECOND, Instant
from watchbill.judgement import judge_headers
from watchbill.ports import Judge, Network, NetworkError
from watchbill.probes.answer import Reply
from watchbill.probes.aside import COSTLY_BYTES, judge_aside
from watchbill.probes.attempt import Attempt
from watchbill.probes.bodies import judge_received, pass_over, read_body
from watchbill.probes.connections import way
from watchbill.probes.kept import Kept
from watchbill.probes.propagation import traceparent, with_field
from watchbill.probes.redirects import Headers, follow, leads_on
from watchbill.probes.transport import Outgoing, ProbeTransport, as_response, outgoing_of
from watchbill.probes.ways import WayTransport, is_plain

LONGEST_DATE = 64
MOST_DIGITS = 18
"""Of a length: less than an exabyte."""


async def probe(
    check: Http,
    attempt: Attempt,
    *,
    network: Network,
    now: Callable[[], Instant],
    judge: Judge,
    prepared: Callable[[Http], Outgoing],
    kept: Kept | None = None,
) -> None:
    """:raises NetworkError: wherever it ended, with its reason."""
    attempt.facts["redirects"] = 0
    network = way(network, check)
    transport = (
        ProbeTransport(network, attempt, tls=check.tls, ip_family=check.ip_family)
        if is_plain(check)
        else WayTransport(check, attempt, network, kept=kept, opened_at=now())
    )
    try:
        field = traceparent(check, attempt)
        outgoing = prepared(check)
        answer = await transport.exchange(outgoing if field is None else with_field(outgoing, field))
        if check.follow_redirects and leads_on(answer):
            request, foreign = first_request(check), _defaults()
            if field is not None:
                request.headers[field[0].decode()] = field[1].decode()
                foreign.append(field)
            answer = await follow(check, attempt, transport, request=request, first=answer, foreign=foreign)
        long_headers = _judge_head(check.expect, answer, attempt)
        _judge_validity(check.expect, transport, now, attempt)
        response = as_response(answer) if check.expect.needs_body else None
        if response is None:
            await pass_over(answer, attempt, limit=check.max_body_bytes)
        else:
            body, truncated = await read_body(response, attempt, limit=check.max_body_bytes)
            attempt.phases.stop()
    finally:
        await transport.aclose()
    if long_headers:
        rules = check.expect.headers
        attempt.failures += await judge_aside(judge, judge_headers, (), rules, long_headers, what="headers")
    if response is not None:
        attempt.failures += await judge_received(check, response, body, truncated=truncated, judge=judge)


def prepare(check: Http) -> Outgoing:
    """What every probe of the check sends first, ready for the wire.

    :raises NetworkError: ``protocol``, where httpx2 finds the url impossible.
    """
    return outgoing_of(first_request(check))


def first_request(check: Http) -> httpx2.Request:
    """Only what is declared is declared: no Accept-Encoding.

    :raises NetworkError: ``protocol``, where httpx2 finds the url impossible.
    """
    declared = [
        (name.encode("ascii"), value.get_secret_value().encode()) for name, value in check.headers.items()
    ]
    names = {name.lower() for name, _ in declared}
    if check.auth is not None and b"authorization" not in names:
        declared.append((b"Authorization", _authorization(check.auth)))
    content = check.body.get_secret_value().encode() if check.body is not None else None
    try:
        return httpx2.Request(
            check.method,
            check.url,
            headers=[*(field for field in _defaults() if field[0].lower() not in names), *declared],
            content=content,
        )
    except httpx2.InvalidURL as error:
        raise NetworkError(Reason.PROTOCOL, f"the url cannot be requested: {error}") from error


def _defaults() -> Headers:
    return [(b"User-Agent", user_agent()), (b"Accept", b"*/*")]


@cache
def user_agent() -> bytes:
    return f"Watchbill/{version('watchbill')}".encode("ascii")


def _authorization(auth: Auth) -> bytes:
    if auth.basic is not None:
        pair = f"{auth.basic.username}:{auth.basic.password.get_secret_value()}"
        return b"Basic " + b64encode(pair.encode())
    return b"Bearer " + (auth.bearer.get_secret_value().encode() if auth.bearer is not None else b"")


def _judge_head(expect: HttpExpect, answer: Reply, attempt: Attempt) -> Mapping[str, Sequence[str]]:
    """Returns the headers that are too long to be judged here."""
    attempt.status_code = status = answer.status
    lengths = answer.values(b"content-length")
    attempt.facts["content_length"] = _length(lengths[0]) if len(lengths) == 1 else -1
    for date in answer.values(b"last-modified"):
        if len(date) <= LONGEST_DATE and (modified := _seconds(date)):
            attempt.facts["last_modified"] = modified
    if not status_meets(expect.status, status):
        attempt.fail(Reason.STATUS, f"status must be {' or '.join(expect.status)}, got {status}")
    if expect.headers:
        headers = httpx2.Headers(answer.headers)
        values = {name.lower(): headers.get_list(name) for name in expect.headers}
        if sum(map(len, chain.from_iterable(values.values()))) > COSTLY_BYTES:
            return values
        attempt.failures += header_failures(expect.headers, values)
    return {}


def _judge_validity(
    expect: HttpExpect, transport: ProbeTransport, now: Callable[[], Instant], attempt: Attempt
) -> None:
    if expect.certificate_valid_for is None:
        return
    expires = transport.session.earliest_expiry if transport.session else None
    expires_in = None if expires is None else (expires - now()) / SECOND
    attempt.failures += validity_failures(expect.certificate_valid_for, expires_in)


def _length(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) <= MOST_DIGITS else -1


@lru_cache(maxsize=4096)  # a page says the same each time, and reading it costs 15 us
def _seconds(date: bytes) -> int | None:
    try:
        return int(parsedate_to_datetime(date.decode("latin-1")).timestamp())
    except (ValueError, OverflowError):
        return None
