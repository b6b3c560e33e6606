"""One question to one DNS server, over whatever stream or datagrams it is handed.

Used by the resolver and by the DNS prober. dnspython builds and parses the packets; this module decides which
packet answers which question. No time limit, no retry and no choice of server here: callers have those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import anyio.lowlevel
import dns.entropy
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from watchbill.dnsrecords import read_records
from watchbill.domain.results import Reason
from watchbill.ports import Connection, Datagrams, NetworkError

EDNS_PAYLOAD = 1232
"""What fits every path without fragments (DNS flag day 2020)."""
IDENTITIES_AT_ONCE = 128
MAX_CNAMES = 8
MAX_RECORDS = 1024
"""Reading this many holds the event loop 30 ms; a message of 64 KiB may hold four times as many."""
_HEADER_BYTES = 12
_CLASS_AND_TYPE_BYTES = 4
_RESPONSE = 0x80
_OPCODE = 0x78
_TRUNCATED = 0x02
_RCODE = 0x0F


@dataclass(frozen=True, slots=True)
class Query:
    """A question ready to be sent, but for its id: the first two bytes of ``wire`` are zero, ``body`` the others."""

    name: dns.name.Name
    text: str
    record: dns.rdatatype.RdataType
    wire: bytes
    body: bytes
    question: bytes

    def answered_by(self, packet: bytes, identity: bytes) -> bool:
        """Whether ``packet`` is a response to this question under this id; the answer itself is not read."""
        if len(packet) < _HEADER_BYTES or packet[:2] != identity:
            return False
        if not packet[2] & _RESPONSE or packet[2] & _OPCODE:
            return False
        if packet[4:6] == b"\0\0":
            # A server that refuses or fails may leave the question out (RFC 9619, and FORMERR of old ones).
            return packet[3] & _RCODE != dns.rcode.NOERROR
        asked = packet[_HEADER_BYTES : _HEADER_BYTES + len(self.question)]
        if asked == self.question and packet[4:6] == b"\0\1":
            return True
        # Names differ in case without being different; the type and the class after them may not.
        name_ends = len(self.question) - _CLASS_AND_TYPE_BYTES
        return (
            packet[4:6] == b"\0\1"
            and asked[:name_ends].lower() == self.question[:name_ends].lower()
            and asked[name_ends:] == self.question[name_ends:]
        )


def parse_name(text: str) -> dns.name.Name:
    """An absolute name; what is not ASCII is encoded as IDNA 2008 after UTS #46.

    :raises ValueError: where the text is no DNS name.
    """
    try:
        return dns.name.from_text(text, dns.name.root, dns.name.IDNA_2008_UTS_46)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ValueError(f"{text} is not a DNS name: {error or type(error).__name__}") from None


@lru_cache(maxsize=16_384)
def make_query(name: dns.name.Name, record: str, *, payload: int | None = None) -> Query:
    """A recursive question of class IN; with ``payload`` it announces EDNS and that size of UDP answers.

    Cached, since building a packet takes ten times as long as stamping an id on one.
    """
    message = dns.message.make_query(
        name, record, use_edns=None if payload is None else 0, payload=payload, id=0
    )
    wire = message.to_wire()
    end = _HEADER_BYTES + len(name.to_wire() or b"") + _CLASS_AND_TYPE_BYTES
    return Query(
        name, name.to_text(), dns.rdatatype.from_text(record), wire, wire[2:], wire[_HEADER_BYTES:end]
    )


async def ask_datagrams(query: Query, channel: Datagrams) -> bytes:
    """Send once and wait for the packet that answers; all others (wrong id, other questions) are ignored."""
    identity = next(_IDENTITIES)
    await channel.send(identity + query.body)
    while not query.answered_by(packet := await channel.receive(), identity):
        await anyio.lowlevel.checkpoint()  # a flood of strangers must not hold the loop
    return packet


async def ask_stream(query: Query, connection: Connection) -> bytes:
    """Send once and read one message, length first (RFC 1035 §4.2.2).

    :raises NetworkError: ``reset`` where the stream ends early, ``protocol`` where the message answers another
        question.
    """
    identity = next(_IDENTITIES)
    await connection.send(len(query.wire).to_bytes(2, "big") + identity + query.body)
    buffer = bytearray()
    wanted = 2
    while len(buffer) < wanted:
        received = await connection.receive()
        if not received:
            raise NetworkError(
                Reason.RESET, f"the server closed the connection after {len(buffer)} bytes of its answer"
            )
        buffer += received
        if wanted == 2 and len(buffer) >= 2:
            wanted += int.from_bytes(buffer[:2], "big")
    packet = bytes(buffer[2:wanted])
    if not query.answered_by(packet, identity):
        raise NetworkError(Reason.PROTOCOL, "the server answered another question than the one asked")
    return packet


def is_truncated(packet: bytes) -> bool:
    return bool(packet[2] & _TRUNCATED)


def parse_answer(packet: bytes) -> dns.message.Message:
    """:raises NetworkError: ``protocol`` where the packet is malformed, ``too_large`` for over 1024 records."""
    announced = sum(int.from_bytes(packet[place : place + 2], "big") for place in (6, 8, 10))
    if announced > MAX_RECORDS:
        raise NetworkError(
            Reason.TOO_LARGE, f"a DNS answer must hold at most {MAX_RECORDS} records, has {announced}"
        )
    try:
        return dns.message.from_wire(packet)
    except (dns.exception.DNSException, ValueError) as error:
        raise NetworkError(
            Reason.PROTOCOL, f"malformed DNS answer: {error or type(error).__name__}"
        ) from error


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer section: the texts of its records, by owner (lower-case) and type."""

    rcode: int
    answers: Mapping[tuple[str, int], list[str]]


def read_reply(packet: bytes, query: Query) -> Reply:
    """A packet that is known to answer the query. :raises NetworkError: as :func:`parse_answer`."""
    records = read_records(packet, query.question, query.text) if packet[4:6] == b"\0\1" else None
    if records is None:
        return _reply_of(parse_answer(packet))
    answers: dict[tuple[str, int], list[str]] = {}
    for owner, kind, text in records.answer:
        answers.setdefault((owner, kind), []).append(text)
    return Reply(packet[3] & _RCODE, answers)


def _reply_of(message: dns.message.Message) -> Reply:
    answers = {
        (rrset.name.to_text().lower(), int(rrset.rdtype)): [rdata.to_text() for rdata in rrset]
        for rrset in message.answer
        if rrset.rdclass == dns.rdataclass.IN
    }
    return Reply(message.rcode(), answers)


def follow_cnames(reply: Reply, query: Query) -> list[str]:
    """The records of the asked type at the end of the aliases of the name asked for; none where there are none.

    :raises NetworkError: ``dns`` for more than 8 aliases, which a loop always is.
    """
    name = query.text.lower()
    for _ in range(MAX_CNAMES + 1):
        found = reply.answers.get((name, query.record))
        alias = reply.answers.get((name, dns.rdatatype.CNAME))
        if found is not None or alias is None:
            return found or []
        name = alias[0].lower()
    raise NetworkError(Reason.DNS, f"{show_name(query.name)} leads through more than {MAX_CNAMES} CNAMEs")


def show_name(name: dns.name.Name) -> str:
    """The name as people write it, without the dot at its end (the root keeps it)."""
    return name.to_text(omit_final_dot=True) if name != dns.name.root else "."


def _identities() -> Iterator[bytes]:
    """Unpredictable ids. The kernel is asked for many at once, since each asking takes 2 us."""
    random = dns.entropy.system_random
    assert random is not None  # noqa: S101 - every system that watchbill runs on has one
    while True:
        pool = random.randbytes(2 * IDENTITIES_AT_ONCE)
        for start in range(0, len(pool), 2):
            yield pool[start : start + 2]


_IDENTITIES = _identities()
