"""The records of an ordinary DNS answer, read in a tenth of the time that a general parser takes.

Ordinary is: well-formed, of class IN, of the types below, names of letters, digits, hyphens and underscores, no
record twice, no options. Whatever is not (a malformed answer, too) is left to dnspython, which decides: what is
read here dnspython reads alike, which a test holds against answers of any make.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from struct import Struct, error
from typing import NamedTuple

import dns.ipv6

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41
_IN = 1
_HEADER_BYTES = 12
_LONGEST_TTL = 0x7FFF_FFFF
_LONGEST_NAME = 254
_MOST_LABELS = 127
_MOST_POINTERS = 16
_MOST_RECORDS = 1024
_COUNTS = Struct("!HHH")
_RECORD = Struct("!HHIH")
_SERIAL_AND_TIMES = Struct("!5I")
_SERVICE = Struct("!HHH")
_POINTER = 0xC0
_ORDINARY_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_ORDINARY_TEXT = re.compile(rb"[ !#-\[\]-~]*")


class Record(NamedTuple):
    """``owner`` is lower-case and ends with a dot; ``text`` is what a zone file would have (RFC 1035 §5.1)."""

    owner: str
    kind: int
    text: str


class Records(NamedTuple):
    """The answer section, and how many records the others hold (EDNS is none)."""

    answer: tuple[Record, ...]
    authority_count: int
    additional_count: int


class _UnusualError(Exception):
    """Not for this reader."""


def read_records(wire: bytes, question: bytes, asked: str) -> Records | None:
    """What a response holds behind its one question; ``None``: it is not ordinary.

    ``question`` is in wire form and ``asked`` its name as text; the response repeats it, be it in other letters.
    """
    behind = _HEADER_BYTES + len(question)
    echoed = wire[_HEADER_BYTES:behind] == question and _ORDINARY_NAME.fullmatch(asked)
    try:
        return _Reader(wire, behind, {_HEADER_BYTES: asked} if echoed else {}).records()
    except (_UnusualError, IndexError, error):
        return None


class _Reader:
    def __init__(self, wire: bytes, at: int, names: dict[int, str]) -> None:
        self._wire = wire
        self._at = at
        self._names = names
        self._seen: set[tuple[str, int, str]] = set()

    def records(self) -> Records:
        answers, authorities, additionals = _COUNTS.unpack_from(self._wire, 6)
        if answers + authorities + additionals > _MOST_RECORDS:
            raise _UnusualError
        answer = self._section(answers)
        if answers > 1:
            _require_together(answer)
        authority = self._section(authorities) if authorities else ()
        additional = self._section(additionals, last=True) if additionals else ()
        if self._at != len(self._wire):
            raise _UnusualError
        return Records(answer, len(authority), len(additional))

    def _section(self, count: int, *, last: bool = False) -> tuple[Record, ...]:
        self._seen.clear()
        found: list[Record] = []
        edns = False
        for _ in range(count):
            owner = self._name().lower()
            kind, group, ttl, size = _RECORD.unpack_from(self._wire, self._at)
            self._at += _RECORD.size
            if kind == OPT:
                if not last or edns or owner != "." or size or ttl >> 16:  # options, or an rcode over 15
                    raise _UnusualError
                edns = True
                continue
            if group != _IN or ttl > _LONGEST_TTL:
                raise _UnusualError
            found.append(self._once(Record(owner, kind, self._text(kind, self._at + size))))
        return tuple(found)

    def _once(self, record: Record) -> Record:
        # A record that comes twice counts once, and of aliases and zones the last of a name counts.
        of = "" if record.kind in (CNAME, SOA) else record.text.lower()
        known = (record.owner, record.kind, of)
        if known in self._seen:
            raise _UnusualError
        self._seen.add(known)
        return record

    def _text(self, kind: int, end: int) -> str:
        read = _TEXTS.get(kind)
        if read is None:
            raise _UnusualError
        text = read(self, end)
        if self._at != end:
            raise _UnusualError
        return text

    def _bytes(self, count: int) -> bytes:
        found = self._wire[self._at : self._at + count]
        self._at += count
        return found

    def ipv4(self, end: int) -> str:
        return ".".join(map(str, self._bytes(4)))

    def ipv6(self, end: int) -> str:
        if end > len(self._wire):
            raise _UnusualError
        return dns.ipv6.inet_ntoa(self._bytes(16))

    def target(self, end: int) -> str:
        return self._name()

    def mail(self, end: int) -> str:
        preference = int.from_bytes(self._bytes(2), "big")
        return f"{preference} {self._name()}"

    def service(self, end: int) -> str:
        priority, weight, port = _SERVICE.unpack(self._bytes(_SERVICE.size))
        return f"{priority} {weight} {port} {self._name()}"

    def zone(self, end: int) -> str:
        names = f"{self._name()} {self._name()}"
        return " ".join([names, *map(str, _SERIAL_AND_TIMES.unpack(self._bytes(_SERIAL_AND_TIMES.size)))])

    def strings(self, end: int) -> str:
        texts = []
        while self._at < end:
            start = self._at + 1
            self._at = start + self._wire[self._at]
            piece = self._wire[start : self._at]
            if not _ORDINARY_TEXT.fullmatch(piece):
                raise _UnusualError
            texts.append(f'"{piece.decode("ascii")}"')
        if not texts:
            raise _UnusualError
        return " ".join(texts)

    def _name(self) -> str:
        """A name as it is spelled; most are a pointer to one that was read before."""
        wire, at = self._wire, self._at
        first = wire[at]
        if first >= _POINTER:
            self._at = at + 2
            target = (first & 0x3F) << 8 | wire[at + 1]
            name = self._names.get(target)
            if name is None:
                name = self._names[target] = self._spelled(at)[0]
            return name
        if first == 0:
            self._at = at + 1
            return "."
        name, self._at = self._spelled(at)
        return name

    def _spelled(self, at: int) -> tuple[str, int]:
        """A name and where what follows it begins. Pointers lead strictly backwards (RFC 1035 §4.1.4)."""
        wire, labels = self._wire, list[bytes]()
        start, limit, behind, pointers = at, len(wire), 0, 0
        while size := wire[at]:
            if size >= _POINTER:
                target = (size & 0x3F) << 8 | wire[at + 1]
                behind = behind or at + 2
                pointers += 1
                if target >= start or at + 2 > limit or pointers > _MOST_POINTERS:
                    raise _UnusualError
                limit, start, at = start, target, target
                continue
            labels.append(wire[at + 1 : at + 1 + size])
            at += 1 + size
            if size > 63 or at >= limit or len(labels) > _MOST_LABELS:
                raise _UnusualError
        if not labels:
            return ".", behind or at + 1
        labels.append(b"")
        name = b".".join(labels).decode("latin-1")
        dots = len(labels) - 1
        if len(name) > _LONGEST_NAME or name.count(".") != dots or not _ORDINARY_NAME.fullmatch(name):
            raise _UnusualError
        return name, behind or at + 1


_TEXTS: Mapping[int, Callable[[_Reader, int], str]] = {
    A: _Reader.ipv4,
    AAAA: _Reader.ipv6,
    NS: _Reader.target,
    CNAME: _Reader.target,
    PTR: _Reader.target,
    MX: _Reader.mail,
    SRV: _Reader.service,
    SOA: _Reader.zone,
    TXT: _Reader.strings,
}
"""From the place where a record's content begins to its text; where it ends is told for those that need it."""


def _require_together(answer: tuple[Record, ...]) -> None:
    """Records of one name and type stand together, so that grouping them would not change their order."""
    groups = [
        (record.owner, record.kind)
        for previous, record in zip((None, *answer), answer, strict=False)
        if previous is None or (previous.owner, previous.kind) != (record.owner, record.kind)
    ]
    if len(set(groups)) != len(groups):
        raise _UnusualError
