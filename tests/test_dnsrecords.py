"""The short reader of DNS records against dnspython: what it reads it reads alike, and it reads what is usual."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from watchbill.dnsquery import Query, _reply_of, make_query, parse_name, read_reply
from watchbill.dnsrecords import read_records
from watchbill.ports import NetworkError
from watchbill.probes.dnsanswer import _of_message, _of_records, read_answer

USUAL: list[tuple[str, list[str]]] = [
    ("A", ["192.0.2.1", "192.0.2.2", "0.0.0.0", "255.255.255.255"]),
    ("AAAA", ["2001:db8::1", "::", "::1", "::ffff:192.0.2.1", "::192.0.2.1", "1:0:0:2::3"]),
    ("NS", ["ns1.shop.test.", "NS2.Elsewhere.EXAMPLE."]),
    ("PTR", ["shop.test.", "."]),
    ("MX", ["10 mail.shop.test.", "0 ."]),
    ("SRV", ["0 5 443 a.test.", "65535 65535 0 shop.test."]),
    ("TXT", ['"v=spf1 -all"', '"two" "parts"', '""']),
    ("SOA", ["ns.test. root.test. 2026112201 7200 3600 1209600 60"]),
    ("CNAME", ["elsewhere.test."]),
]
UNUSUAL: list[tuple[str, list[str]]] = [
    ("TXT", [r'"quoted \" and \\ and \200"']),
    ("NS", [r"a\.b.test."]),
    ("CAA", ['0 issue "ca.test"']),
    ("HTTPS", ['1 . alpn="h2"']),
]


def query_of(record: str, name: str = "shop.test") -> Query:
    return make_query(parse_name(name), record, payload=1232)


def response_to(query: Query, **sections: list[tuple[str, str, list[str]]]) -> dns.message.Message:
    response = dns.message.make_response(dns.message.from_wire(query.wire), recursion_available=True)
    for section, sets in sections.items():
        for owner, record, texts in sets:
            getattr(response, section).append(dns.rrset.from_text(owner, 60, "IN", record, *texts))
    return response


def wire_of(response: dns.message.Message) -> bytes:
    return response.to_wire(max_size=65_535, want_shuffle=False)


def by_dnspython(packet: bytes, query: Query) -> dict[str, Any]:
    return asdict(_of_message(dns.message.from_wire(packet), query))


def quickly(packet: bytes, query: Query) -> dict[str, Any] | None:
    records = read_records(packet, query.question, query.text)
    return None if records is None else asdict(_of_records(packet, records, query))


@pytest.mark.parametrize(("record", "texts"), USUAL)
def test_usual_answers_are_read_as_dnspython_reads_them(record: str, texts: list[str]) -> None:
    query = query_of(record)
    packet = wire_of(response_to(query, answer=[("shop.test.", record, texts)]))
    assert quickly(packet, query) == by_dnspython(packet, query)
    assert (quickly(packet, query) or {}).get("texts") == texts


def test_aliases_authorities_and_what_comes_with_them_are_usual() -> None:
    query = query_of("A")
    response = response_to(
        query,
        answer=[
            ("shop.test.", "CNAME", ["a.shop.test."]),
            ("a.shop.test.", "CNAME", ["b.test."]),
            ("b.test.", "A", ["192.0.2.1", "192.0.2.2"]),
        ],
        authority=[("test.", "NS", ["ns1.test.", "ns2.test."])],
        additional=[("ns1.test.", "A", ["192.0.2.53"]), ("ns1.test.", "AAAA", ["2001:db8::53"])],
    )
    response.flags |= dns.flags.AA
    response.use_edns(0, payload=1232)
    seen = quickly(wire_of(response), query)
    assert seen == {
        "rcode": "NOERROR",
        "authoritative": True,
        "texts": ["192.0.2.1", "192.0.2.2"],
        "cnames": ["a.shop.test.", "b.test."],
        "answer_count": 4,
        "authority_count": 2,
        "additional_count": 2,
        "serial": None,
    }
    assert seen == by_dnspython(wire_of(response), query)


def test_a_name_that_does_not_exist_is_usual() -> None:
    query = query_of("A", "gone.test")
    response = response_to(query, authority=[("test.", "SOA", ["ns.test. root.test. 7 1 1 1 1"])])
    response.set_rcode(dns.rcode.NXDOMAIN)
    assert quickly(wire_of(response), query) == by_dnspython(wire_of(response), query)


def test_the_letters_of_a_repeated_question_may_differ() -> None:
    query = query_of("CNAME")
    packet = wire_of(response_to(query, answer=[("shop.test.", "CNAME", ["www.shop.test."])]))
    shouted = packet.replace(b"\4shop\4test\0", b"\4SHOP\4test\0")
    assert quickly(shouted, query) == by_dnspython(shouted, query)
    assert (quickly(shouted, query) or {}).get("texts") == ["www.SHOP.test."]


@pytest.mark.parametrize(("record", "texts"), UNUSUAL)
def test_the_unusual_is_left_to_dnspython(record: str, texts: list[str]) -> None:
    query = query_of(record)
    packet = wire_of(response_to(query, answer=[("shop.test.", record, texts)]))
    assert quickly(packet, query) is None
    assert read_answer(packet, query).texts == texts


def test_options_and_long_rcodes_are_left_to_dnspython() -> None:
    query = query_of("A")
    with_option = response_to(query)
    with_option.use_edns(0, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")])
    with_rcode = response_to(query)
    with_rcode.use_edns(0)
    with_rcode.set_rcode(dns.rcode.BADVERS)
    assert quickly(wire_of(with_option), query) is quickly(wire_of(with_rcode), query) is None
    assert read_answer(wire_of(with_rcode), query).rcode == "BADVERS"


def test_records_that_repeat_or_are_strewn_are_left_to_dnspython() -> None:
    query = query_of("A")
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4"
    other = b"\1x\0\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x07"
    one, two = record + b"\xc0\0\2\1", record + b"\xc0\0\2\2"
    head = b"\0\0\x84\0\0\1\0\3\0\0\0\0" + query.question
    for strewn, texts in (
        (one + one + two, ["192.0.2.1", "192.0.2.2"]),
        (one + other + two, ["192.0.2.1", "192.0.2.2"]),  # the other is of another name
    ):
        assert quickly(head + strewn, query) is None
        assert read_answer(head + strewn, query).texts == texts


def test_aliases_that_lead_in_a_circle_end() -> None:
    query = query_of("A")
    circle = [("shop.test.", "CNAME", ["a.test."]), ("a.test.", "CNAME", ["shop.test."])]
    packet = wire_of(response_to(query, answer=circle))
    assert quickly(packet, query) == by_dnspython(packet, query)
    assert read_answer(packet, query).cnames == ["a.test.", "shop.test."]


def chained(pointers: int) -> bytes:
    """An answer whose owner is reached through that many pointers, one leading to the other."""
    query = query_of("TXT")
    head = b"\0\0\x84\0\0\1\0\2\0\0\0\0" + query.question
    hops = b"".join((0xC000 | len(head) + 12 + 2 * hop - 2).to_bytes(2, "big") for hop in range(1, pointers))
    strings = b"\xc0\x0c" + hops
    first = b"\xc0\x0c\0\x10\0\1\0\0\0\x3c" + (len(strings)).to_bytes(2, "big") + strings
    last = (0xC000 | len(head) + len(first) - 2).to_bytes(2, "big") + b"\0\x10\0\1\0\0\0\x3c\0\2\1x"
    return head + first + last


def test_chains_of_pointers_do_not_hold_anybody() -> None:
    assert quickly(chained(5_000), query_of("TXT")) is None


names = st.sampled_from(["shop.test.", "a.shop.test.", "b.test.", "Shop.TEST.", ".", "x" * 63 + ".test."])
sets = st.lists(
    st.tuples(names, st.sampled_from(USUAL + UNUSUAL)).map(lambda drawn: (drawn[0], *drawn[1])), max_size=4
)


@settings(max_examples=300, deadline=None)
@given(
    record=st.sampled_from([record for record, _ in USUAL]),
    answer=sets,
    authority=sets,
    additional=sets,
    edns=st.booleans(),
    damage=st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 8),
)
@example("A", [("shop.test.", *USUAL[0])], [], [], False, [(36, 0xC0), (37, 36)], 0)
def test_whatever_is_read_dnspython_reads_alike(
    record: str, answer: Any, authority: Any, additional: Any, edns: bool, damage: Any, cut: int
) -> None:
    query = query_of(record)
    response = response_to(query, answer=answer, authority=authority, additional=additional)
    if edns:
        response.use_edns(0)
    packet = bytearray(wire_of(response))
    behind = 12 + len(query.question)
    for place, value in damage:
        packet[behind + place % max(1, len(packet) - behind) if len(packet) > behind else 11] = value
    packet = packet[: max(behind, len(packet) - cut)]
    seen = quickly(bytes(packet), query)
    if seen is not None:
        assert seen == by_dnspython(bytes(packet), query)
        assert read_reply(bytes(packet), query) == _reply_of(dns.message.from_wire(bytes(packet)))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_no_answer_is_too_broken(behind: bytes) -> None:
    query = query_of("A")
    packet = b"\0\0\x84\0\0\1\0\1\0\0\0\0" + query.question + behind
    try:
        read_answer(packet, query)
    except NetworkError:
        assert quickly(packet, query) is None
