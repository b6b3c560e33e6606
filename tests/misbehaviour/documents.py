"""Bodies that are made to break whoever judges them."""

from __future__ import annotations

from typing import Any

from tests.misbehaviour.rows import Misbehaviour, over_http, says
from tests.servers import response
from watchbill.domain.results import Reason

MIB = 1 << 20
BODY, JSON, SCHEMA = Reason.BODY, Reason.JSON, Reason.SCHEMA
FIRST = {"json": {"$[0]": 2}}
OBJECT = {"json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}
COSTLY = r"\pL{300}.{300}x"
"""What RE2 takes longest for, of what was tried: 7 us a byte."""

_DOCUMENTS: list[tuple[str, bytes, dict[str, Any], Reason | None]] = [
    ("JSON of a million levels", b"[" * (MIB - 9), FIRST, JSON),
    ("JSON of a million objects", b'{"a":' * (MIB // 6), {"json": {"$.a": 1}}, JSON),
    ("a number of 100,000 digits", b"[" + b"9" * 100_000 + b"]", FIRST, JSON),
    ("a number beyond numbers", b"[1e999999999]", FIRST, JSON),
    ("a number that is none", b"[NaN, Infinity]", FIRST, JSON),
    ("a million empty lists", b"[" + b"[]," * (MIB // 3 - 9) + b"1]", FIRST, JSON),
    ("a key ten thousand times", b"{" + b'"a":1,' * 10_000 + b'"a":2}', {"json": {"$.a": 1}}, JSON),
    ("a string that is half a pair", b'["\\ud800"]', {"json": {"$[0]": "x"}}, JSON),
    ("JSON behind a byte order mark", b"\xef\xbb\xbf[1]", FIRST, JSON),
    ("JSON in UTF-16", "[1]".encode("utf-16"), FIRST, JSON),
    ("every node of a megabyte", b"[" + b"1," * (MIB // 2 - 9) + b"1]", {"json": {"$..[?@ > 5]": 1}}, JSON),
    ("a schema on a megabyte", b"[" + b"1," * (MIB // 2 - 9) + b"1]", OBJECT, SCHEMA),
    ("a schema on what is no JSON", b"<html>" * 1000, OBJECT, JSON),
    ("a pattern that explodes", b"a" * (MIB - 9) + b"!", {"body": {"matches": "^(a+)+$"}}, BODY),
    ("a pattern that costs most", "é".encode() * (100_000), {"body": {"matches": COSTLY}}, BODY),
    ("a megabyte that is no text", bytes(range(128, 256)) * (MIB // 128 - 1), {"body": {"contains": "x" * 50}}, BODY),
    ("a megabyte of zeros", bytes(MIB - 9), {"body": {"contains": "x"}}, BODY),
    ("escapes of a terminal", b"\x1b]0;owned\x07\x1b[2J\r\nforged\xe2\x80\xae" * 1000, {"body": {"equals": "x"}}, BODY),
    ("markup", b"<script>alert(1)</script>" * 1000, {"body": {"equals": "x"}}, BODY),
    ("a charset nobody knows", b"ok", {"body": {"equals": "ok"}}, None),
]  # fmt: skip

DOCUMENTS: tuple[Misbehaviour, ...] = tuple(
    Misbehaviour(
        name,
        reason,
        "",
        over_http(
            says(response(body, headers=["Content-Type: text/html; charset=x-evil"])),
            timeout="10s",
            expect=expect,
        ),
    )
    for name, body, expect, reason in _DOCUMENTS
)
