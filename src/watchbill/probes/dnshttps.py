"""DNS over HTTPS (RFC 8484): the question is the body of one POST over HTTP/1.1."""

from __future__ import annotations

from functools import lru_cache

import httpx2

from watchbill.dnsquery import Query
from watchbill.domain.checks import Dns
from watchbill.domain.reach import dns_url
from watchbill.domain.results import Reason
from watchbill.ports import Network, NetworkError, TlsSession
from watchbill.probes.answer import Reply
from watchbill.probes.attempt import Attempt
from watchbill.probes.http import user_agent
from watchbill.probes.transport import Outgoing, ProbeTransport, outgoing_of

MEDIA_TYPE = b"application/dns-message"
MOST_BYTES = 65_535
_NO_IDENTITY = b"\0\0"
"""So that caches know equal questions (RFC 8484 §4.1)."""


async def ask(
    check: Dns, query: Query, attempt: Attempt, network: Network
) -> tuple[bytes, TlsSession | None]:
    """The packet that answers, and the handshake before it.

    :raises NetworkError: as the transport has it; ``status`` for another than 2xx, ``protocol`` for what is no
        answer to the question, ``too_large``.
    """
    assert check.server is not None  # noqa: S101 - the declaration wants one
    url = attempt.facts["server"] = _url(check.server)
    transport = ProbeTransport(network, attempt, tls=check.tls, ip_family=check.ip_family)
    try:
        answer = await transport.exchange(_outgoing(url, query.wire))
        attempt.status_code = answer.status
        _check_head(answer)
        packet = await _read(answer)
    finally:
        await transport.aclose()
    if not query.answered_by(packet, _NO_IDENTITY):
        raise NetworkError(Reason.PROTOCOL, "the server answered another question than the one asked")
    return packet, transport.session


_url = lru_cache(maxsize=1024)(dns_url)


@lru_cache(maxsize=16_384)
def _outgoing(url: str, question: bytes) -> Outgoing:
    headers = [(b"User-Agent", user_agent()), (b"Accept", MEDIA_TYPE), (b"Content-Type", MEDIA_TYPE)]
    try:
        return outgoing_of(httpx2.Request("POST", url, headers=headers, content=question))
    except httpx2.InvalidURL as error:
        raise NetworkError(Reason.PROTOCOL, f"the server cannot be asked: {error}") from error


def _check_head(answer: Reply) -> None:
    if not 200 <= answer.status < 300:
        raise NetworkError(Reason.STATUS, f"status must be 2xx, got {answer.status}")
    said = next((value for name, value in answer.headers if name.lower() == b"content-type"), b"")
    if said.partition(b";")[0].strip().lower() != MEDIA_TYPE:
        seen = said.decode("ascii", errors="replace") or "of no declared type"
        raise NetworkError(Reason.PROTOCOL, f"the response must be application/dns-message, is {seen}")


async def _read(answer: Reply) -> bytes:
    packet = bytearray()
    async for chunk in answer:
        packet += chunk
        if len(packet) > MOST_BYTES:
            raise NetworkError(
                Reason.TOO_LARGE, f"a DNS answer must be at most {MOST_BYTES} bytes, the response is larger"
            )
    return bytes(packet)
