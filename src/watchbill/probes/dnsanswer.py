"""What a DNS server answered, as far as a check judges it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rrset
from dns.rdatatype import CNAME, SOA, RdataType

from watchbill.dnsquery import Query, parse_answer
from watchbill.dnsrecords import Records, read_records

_AUTHORITATIVE = 0x04
_RCODE = 0x0F
_RCODES = tuple(dns.rcode.to_text(dns.rcode.Rcode(number)) for number in range(16))
_QUESTIONS = slice(4, 6)
_ONE = b"\0\1"

N = TypeVar("N", str, dns.name.Name)


@dataclass(slots=True)
class Answer:
    """``texts`` are the records of the type asked for in presentation form, in the order of the answer.

    Only what the name asked for owns, or the aliases (``cnames``) lead to, is an answer to the question; a record of
    another name is counted, and judged by nobody. EDNS counts as no record.
    """

    rcode: str
    authoritative: bool
    texts: list[str]
    cnames: list[str]
    answer_count: int
    authority_count: int
    additional_count: int
    serial: int | None = None


def read_answer(packet: bytes, query: Query) -> Answer:
    """A packet that is known to answer the query.

    :raises NetworkError: ``protocol`` where it is malformed, ``too_large`` for more records than are read.
    """
    if packet[_QUESTIONS] == _ONE:
        records = read_records(packet, query.question, query.text)
        if records is not None:
            return _of_records(packet, records, query)
    return _of_message(parse_answer(packet), query)


def _of_records(packet: bytes, records: Records, query: Query) -> Answer:
    wanted = query.record
    aliases = {owner: text for owner, kind, text in records.answer if kind == CNAME}
    owners = _owners(query.text.lower(), {} if wanted == CNAME else aliases, str.lower)
    texts = [text for owner, kind, text in records.answer if kind == wanted and owner in owners]
    cnames = [text for owner, text in aliases.items() if owner in owners] if wanted != CNAME else []
    return Answer(
        _RCODES[packet[3] & _RCODE],
        bool(packet[2] & _AUTHORITATIVE),
        texts,
        cnames,
        len(records.answer),
        records.authority_count,
        records.additional_count,
        int(texts[0].split()[2]) if wanted == SOA and texts else None,
    )


def _of_message(message: dns.message.Message, query: Query) -> Answer:
    wanted = query.record
    aliases = {rrset.name: rrset[0].target for rrset in _rrsets(message, CNAME)}
    owners = _owners(query.name, {} if wanted == CNAME else aliases, _same)
    found = [rdata for rrset in _rrsets(message, wanted) if rrset.name in owners for rdata in rrset]
    cnames = [target.to_text() for owner, target in aliases.items() if owner in owners]
    return Answer(
        dns.rcode.to_text(message.rcode()),
        bool(message.flags & dns.flags.AA),
        [rdata.to_text() for rdata in found],  # presentation forms (RFC 1035 §5.1)
        cnames if wanted != CNAME else [],
        _count(message.answer),
        _count(message.authority),
        _count(message.additional),
        found[0].serial if wanted == SOA and found else None,
    )


def _owners(asked: N, aliases: Mapping[N, N], spelled: Callable[[N], N]) -> Collection[N]:
    """The name asked for, and those that aliases lead to from there."""
    owners = [asked]
    while (target := aliases.get(owners[-1])) is not None and (target := spelled(target)) not in owners:
        owners.append(target)
    return owners


def _same(name: dns.name.Name) -> dns.name.Name:
    return name


def _rrsets(message: dns.message.Message, record: RdataType) -> list[Any]:
    return [
        rrset
        for rrset in message.answer
        if rrset.rdtype == record and rrset.rdclass == dns.rdataclass.IN and len(rrset)
    ]


def _count(section: list[dns.rrset.RRset]) -> int:
    return sum(len(rrset) for rrset in section)
