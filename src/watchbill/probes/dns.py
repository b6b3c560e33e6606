"""DNS: one question to one server, and what it answers."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.reversename
import dns.rrset
from dns.rdatatype import CNAME, SOA, RdataType

from watchbill.dnsquery import (
    EDNS_PAYLOAD,
    Query,
    ask_datagrams,
    ask_stream,
    is_truncated,
    make_query,
    parse_answer,
    parse_name,
)
from watchbill.domain.checks import Dns
from watchbill.domain.expectations import answer_failures
from watchbill.domain.reach import split_server
from watchbill.domain.results import Reason
from watchbill.ports import Network, NetworkError
from watchbill.probes.attempt import Attempt
from watchbill.probes.connections import way

MOST_ANSWERS_KEPT = 64
MOST_CHARACTERS_KEPT = 300


async def probe(check: Dns, attempt: Attempt, *, network: Network) -> None:
    """Ask once. The name is asked for as it is declared (no search list); the answer is judged, whatever it is.

    :raises NetworkError: wherever it ended, with its reason.
    """
    query = make_query(_asked_name(check.name, check.record), check.record, payload=EDNS_PAYLOAD)
    host, port = _split_server(check.server) if check.server is not None else network.nameserver()
    network = way(network, None, check.source_address)
    attempt.phases.start("resolve")
    address = await network.resolve(host, check.ip_family)
    attempt.phases.start("connect")
    attempt.facts |= {
        "server": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "address": address,
        "ip_protocol": 6 if ":" in address else 4,
        "dns_lookup_seconds": attempt.phases.seconds["resolve"],
    }
    packet = await _exchange(check, query, address, port, attempt=attempt, network=network)
    attempt.phases.stop()
    _judge(check, query.record, parse_answer(packet), attempt)


_split_server = lru_cache(maxsize=1024)(split_server)


@lru_cache(maxsize=16_384)
def _asked_name(name: str, record: str) -> dns.name.Name:
    """The name to ask for; an address asked for its PTR becomes its reverse name.

    :raises NetworkError: ``dns`` where it cannot be one.
    """
    if record == "PTR":
        try:
            return dns.reversename.from_address(str(ip_address(name)))
        except ValueError:
            pass
    try:
        return parse_name(name)
    except ValueError as error:
        raise NetworkError(Reason.DNS, str(error)) from None


async def _exchange(
    check: Dns, query: Query, address: str, port: int, *, attempt: Attempt, network: Network
) -> bytes:
    """Over TCP where that is declared, or where the answer over UDP was cut (RFC 7766 §5)."""
    if check.transport == "udp":
        packet = await _over_udp(query, address, port, attempt, network)
        attempt.facts["truncated"] = is_truncated(packet)
        if not attempt.facts["truncated"]:
            return packet
        attempt.phases.start("connect")
    connection = await network.connect(address, port)
    try:
        attempt.phases.start("processing")
        return await ask_stream(query, connection)
    finally:
        await connection.close()


async def _over_udp(query: Query, address: str, port: int, attempt: Attempt, network: Network) -> bytes:
    channel = await network.open_datagrams(address, port)
    try:
        attempt.phases.start("processing")
        return await ask_datagrams(query, channel)
    finally:
        await channel.close()


def _judge(check: Dns, record: RdataType, answer: dns.message.Message, attempt: Attempt) -> None:
    rcode = dns.rcode.to_text(answer.rcode())
    texts = _texts(answer, record)
    attempt.facts |= {
        "rcode": rcode,
        "authoritative": bool(answer.flags & dns.flags.AA),
        "answers": [text[:MOST_CHARACTERS_KEPT] for text in texts[:MOST_ANSWERS_KEPT]],
        "cnames": _texts(answer, CNAME)[:MOST_ANSWERS_KEPT] if record != CNAME else [],
        "answer_count": _count(answer.answer),
        "authority_count": _count(answer.authority),
        "additional_count": _count(answer.additional),
    }
    if record == SOA and (zones := _rdatas(answer, SOA)):
        attempt.facts["serial"] = zones[0].serial
    if rcode != check.expect.rcode.upper():
        attempt.fail(Reason.ANSWER, f"rcode must be {check.expect.rcode.upper()}, got {rcode}")
    attempt.failures += answer_failures(check.expect.answers, texts)


def _rdatas(answer: dns.message.Message, record: RdataType) -> list[Any]:
    return [
        rdata
        for rrset in answer.answer
        if rrset.rdtype == record and rrset.rdclass == dns.rdataclass.IN
        for rdata in rrset
    ]


def _texts(answer: dns.message.Message, record: RdataType) -> list[str]:
    """Presentation forms (RFC 1035 §5.1), in the order of the answer."""
    return [rdata.to_text() for rdata in _rdatas(answer, record)]


def _count(section: list[dns.rrset.RRset]) -> int:
    return sum(len(rrset) for rrset in section)
