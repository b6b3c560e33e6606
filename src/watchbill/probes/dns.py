"""DNS: one question to one server over UDP, TCP, TLS or HTTPS, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address

import dns.name
import dns.reversename

from watchbill.dnsquery import (
    EDNS_PAYLOAD,
    Query,
    ask_datagrams,
    ask_stream,
    is_truncated,
    make_query,
    parse_name,
)
from watchbill.domain.checks import Dns
from watchbill.domain.expectations import DnsAnswers, answer_failures, validity_failures
from watchbill.domain.reach import split_server
from watchbill.domain.results import Failure, Reason
from watchbill.domain.units import SECOND, Instant
from watchbill.fence import unfenced
from watchbill.judgement import judge_answers
from watchbill.ports import Judge, Network, NetworkError, TlsSession
from watchbill.probes import dnshttps
from watchbill.probes.aside import COSTLY_BYTES, judge_aside
from watchbill.probes.attempt import Attempt
from watchbill.probes.connections import record_session, resolve, shut, way
from watchbill.probes.dnsanswer import Answer, read_answer

TLS_PORT = 853
MOST_ANSWERS_KEPT = 64
MOST_CHARACTERS_KEPT = 300


async def probe(
    check: Dns, attempt: Attempt, *, network: Network, now: Callable[[], Instant], judge: Judge
) -> None:
    """Ask once. The name is asked for as it is declared (no search list); the answer is judged, whatever it is.

    :raises NetworkError: wherever it ended, with its reason.
    """
    query = _question(check.name, check.record)
    network = way(network, check)
    if check.server is None:  # whoever runs this machine chose that one
        network = unfenced(network)
    session: TlsSession | None = None
    if check.transport == "https":
        packet, session = await dnshttps.ask(check, query, attempt, network)
    elif check.transport == "tls":
        packet, session = await _over_tls(check, query, attempt, network)
    else:
        packet = await _in_the_clear(check, query, attempt, network)
    attempt.phases.stop()
    answer = read_answer(packet, query)
    _judge(check, answer, attempt)
    if check.expect.answers is not None:
        attempt.failures += await _judge_answers(check.expect.answers, answer.texts, judge)
    if check.expect.certificate_valid_for is not None:
        expiry = None if session is None else session.earliest_expiry
        attempt.failures += validity_failures(
            check.expect.certificate_valid_for, None if expiry is None else (expiry - now()) / SECOND
        )


_split_server = lru_cache(maxsize=16_384)(split_server)


@lru_cache(maxsize=16_384)
def _question(name: str, record: str) -> Query:
    """Cached, since building a packet takes far longer than stamping an id on one.

    :raises NetworkError: ``dns`` where the name cannot be one.
    """
    return make_query(_asked_name(name, record), record, payload=EDNS_PAYLOAD)


def _asked_name(name: str, record: str) -> dns.name.Name:
    """The name to ask for; an address asked for its PTR becomes its reverse name."""
    if record == "PTR":
        try:
            return dns.reversename.from_address(str(ip_address(name)))
        except ValueError:
            pass
    try:
        return parse_name(name)
    except ValueError as error:
        raise NetworkError(Reason.DNS, str(error)) from None


async def _reach(host: str, port: int, check: Dns, attempt: Attempt, network: Network) -> str:
    address = await resolve(network, attempt, host, check.ip_family)
    attempt.phases.start("connect")
    attempt.facts["server"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    attempt.facts["dns_lookup_seconds"] = attempt.phases.seconds["resolve"]
    return address


async def _in_the_clear(check: Dns, query: Query, attempt: Attempt, network: Network) -> bytes:
    """Over TCP where that is declared, or where the answer over UDP was cut (RFC 7766 §5)."""
    host, port = _split_server(check.server) if check.server is not None else network.nameserver()
    address = await _reach(host, port, check, attempt, network)
    if check.transport == "udp":
        packet = await _over_udp(query, address, port, attempt, network)
        truncated = attempt.facts["truncated"] = is_truncated(packet)
        if not truncated:
            return packet
        attempt.phases.start("connect")
    connection = await network.connect(address, port)
    try:
        attempt.phases.start("processing")
        return await ask_stream(query, connection)
    finally:
        await shut(connection)


async def _over_udp(query: Query, address: str, port: int, attempt: Attempt, network: Network) -> bytes:
    channel = await network.open_datagrams(address, port)
    try:
        attempt.phases.start("processing")
        return await ask_datagrams(query, channel)
    finally:
        await channel.close()


async def _over_tls(check: Dns, query: Query, attempt: Attempt, network: Network) -> tuple[bytes, TlsSession]:
    """RFC 7858, under the strict profile: a certificate that does not verify is asked nothing."""
    assert check.server is not None  # noqa: S101 - the declaration wants one
    host, port = _split_server(check.server, TLS_PORT)
    address = await _reach(host, port, check, attempt, network)
    connection = await network.connect(address, port)
    try:
        attempt.phases.start("tls")
        session = await connection.start_tls(check.tls, server_name=host)
        record_session(session, attempt)
        if session.problem is not None and not check.tls.skip_verification:
            raise NetworkError(Reason.CERTIFICATE, session.problem)
        attempt.phases.start("processing")
        return await ask_stream(query, connection), session
    finally:
        await shut(connection)


def _judge(check: Dns, answer: Answer, attempt: Attempt) -> None:
    attempt.facts |= {
        "rcode": answer.rcode,
        "authoritative": answer.authoritative,
        "answers": [_kept(text) for text in answer.texts[:MOST_ANSWERS_KEPT]],
        "cnames": answer.cnames[:MOST_ANSWERS_KEPT],
        "answer_count": answer.answer_count,
        "authority_count": answer.authority_count,
        "additional_count": answer.additional_count,
    }
    if answer.serial is not None:
        attempt.facts["serial"] = answer.serial
    wanted = check.expect.rcode.upper()
    if answer.rcode != wanted:
        attempt.fail(Reason.ANSWER, f"rcode must be {wanted}, got {answer.rcode}")


def _kept(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS_KEPT else text[: MOST_CHARACTERS_KEPT - 1] + "…"


async def _judge_answers(rules: DnsAnswers, texts: Sequence[str], judge: Judge) -> list[Failure]:
    if sum(map(len, texts)) > COSTLY_BYTES:
        return await judge_aside(judge, judge_answers, (), rules, texts, what="answers")
    return answer_failures(rules, texts)
