"""What a DNS server answered, as far as a check judges it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dns.flags
import dns.message
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


@dataclass(slots=True)
class Answer:
    """``texts`` are the records of the type asked for in presentation form, in the order of the answer.

    Aliases (``cnames``) are none of them unless they were asked for. EDNS counts as no record.
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
            return _of_records(packet, records, query.record)
    return _of_message(parse_answer(packet), query.record)


def _of_records(packet: bytes, records: Records, wanted: RdataType) -> Answer:
    texts = [text for _, kind, text in records.answer if kind == wanted]
    cnames = [text for _, kind, text in records.answer if kind == CNAME] if wanted != CNAME else []
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


def _of_message(message: dns.message.Message, wanted: RdataType) -> Answer:
    texts = _texts(message, wanted)
    return Answer(
        dns.rcode.to_text(message.rcode()),
        bool(message.flags & dns.flags.AA),
        texts,
        _texts(message, CNAME) if wanted != CNAME else [],
        _count(message.answer),
        _count(message.authority),
        _count(message.additional),
        _rdatas(message, SOA)[0].serial if wanted == SOA and texts else None,
    )


def _rdatas(message: dns.message.Message, record: RdataType) -> list[Any]:
    return [
        rdata
        for rrset in message.answer
        if rrset.rdtype == record and rrset.rdclass == dns.rdataclass.IN
        for rdata in rrset
    ]


def _texts(message: dns.message.Message, record: RdataType) -> list[str]:
    """Presentation forms (RFC 1035 §5.1), in the order of the answer."""
    return [rdata.to_text() for rdata in _rdatas(message, record)]


def _count(section: list[dns.rrset.RRset]) -> int:
    return sum(len(rrset) for rrset in section)
