"""Servers that never end, end too soon, or unfold without end."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import brotli
from backports import zstd

from tests.misbehaviour.rows import (
    TIMEOUT_SECONDS,
    Misbehaviour,
    asked_securely,
    at_a_port,
    certified,
    over_dns_streams,
    over_http,
    over_https,
    over_udp,
    says,
)
from tests.servers import LOOPBACK, Caller, Conversation, TlsCaller, full_listener, hang, response, serving
from watchbill.domain.results import Reason

OK = b"HTTP/1.1 200 OK\r\n"
SHORT = f"{TIMEOUT_SECONDS * 1000:g}ms"
LONG = "10s"
JUDGED = {"expect": {"body": {"contains": "nowhere to be found"}}}


# --- over HTTP ----------------------------------------------------------------------------------------


def endless(piece: bytes, *, after: bytes = OK, pause: float | None = None) -> Conversation:
    """Answer with the beginning and then with that piece again and again, ``pause`` seconds apart."""

    async def converse(caller: Caller) -> None:
        await caller.request()
        await caller.say(after)
        while True:
            await caller.say(piece)
            if pause is not None:
                await asyncio.sleep(pause)

    return converse


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
DEFLATED = OK + b"Content-Encoding: deflate\r\n\r\n\x78\x9c"
EMPTY_BLOCKS = b"\x00\x00\x00\xff\xff" * 10_000
drip_headers = endless(b"X: y\r\n", pause=0.02)
flood_headers = endless(b"x" * 65_536, after=OK + b"X: ")
flood_interim = endless(b"HTTP/1.1 100 Continue\r\n\r\n", after=b"")
endless_body = endless(b"x" * 65_536, after=OK + b"\r\n")
endless_single_bytes = endless(b"1\r\nx\r\n", after=CHUNKED, pause=0.0005)
endless_trailers = endless(b"X: y\r\n" * 1000, after=CHUNKED + b"2\r\nok\r\n0\r\n")
endless_empty_blocks = endless(EMPTY_BLOCKS, after=DEFLATED)
"""A deflate stream that never holds a byte."""


async def stop_in_the_body(caller: Caller) -> None:
    await caller.request()
    await caller.say(response(b"half", length=1000))
    await hang(caller)


async def reset_before_the_head(caller: Caller) -> None:
    await caller.request()
    caller.reset()


async def reset_in_the_body(caller: Caller) -> None:
    await caller.request()
    await caller.say(response(b"half", length=1000))
    await asyncio.sleep(0.05)
    caller.reset()


async def never_reads(caller: Caller) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def never_accepts() -> AsyncIterator[dict[str, Any]]:
    with full_listener() as port:
        yield {"url": f"http://{LOOPBACK}:{port}/", "timeout": SHORT}


@asynccontextmanager
async def from_https_to_http_and_back() -> AsyncIterator[dict[str, Any]]:
    places: dict[str, str] = {}

    async def on_to(caller: Caller, place: str) -> None:
        await caller.request()
        await caller.say(response(status="302 Found", headers=[f"Location: {places[place]}"]))

    async with (
        serving(lambda caller: on_to(caller, "secure")) as plain,
        serving(lambda caller: on_to(caller, "plain"), tls=certified()) as secure,
    ):
        places |= {"plain": plain.url(), "secure": secure.url(scheme="https")}
        yield {"url": places["secure"], "tls": {"skip_verification": True}, "timeout": LONG}


# --- what unfolds -------------------------------------------------------------------------------------

BOMB_BYTES = 64 << 20


@cache
def bomb(*codings: str) -> bytes:
    pack = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "br": lambda data: brotli.compress(data, quality=5),
        "zstd": zstd.compress,
    }
    body = b"\0" * BOMB_BYTES
    for coding in codings:
        body = pack[coding](body)
    return response(body, headers=[f"Content-Encoding: {', '.join(codings)}"])


BOMBS = (("gzip",), ("deflate",), ("br",), ("zstd",), ("gzip", "gzip"), ("gzip", "br"))


def warm_up() -> None:
    """Make now what would hold the first probe up."""
    certified()
    for codings in BOMBS:
        bomb(*codings)


def bombs(*codings: str) -> Misbehaviour:
    async def explode(caller: Caller) -> None:
        await caller.request()
        await caller.say(bomb(*codings))

    said = "body must be at most 1048576 bytes to be judged, is larger"
    name = f"a bomb in {' in '.join(codings)}"
    return Misbehaviour(name, Reason.TOO_LARGE, said, over_http(explode, timeout=LONG, **JUDGED))


def packed(coding: str, body: bytes) -> bytes:
    return response(body, headers=[f"Content-Encoding: {coding}"])


# --- over TLS -----------------------------------------------------------------------------------------


async def alert(caller: Caller) -> None:
    await caller.reader.read(65_536)
    await caller.say(b"\x15\x03\x03\x00\x02\x02\x28")
    await hang(caller)


async def garbage(caller: Caller) -> None:
    await caller.reader.read(65_536)
    await caller.say(b"\x16\x03\x03\xff\xff" + b"\xff" * 70_000)


async def drip_a_handshake(caller: Caller) -> None:
    """Records of one byte each, of a server's hello that is said to be long."""
    await caller.reader.read(65_536)
    for byte in b"\x02\x00\xff\xff" + b"\x03" * 100_000:
        await caller.say(b"\x16\x03\x03\x00\x01" + bytes([byte]))
        await asyncio.sleep(0.005)


async def flood_a_handshake(caller: Caller) -> None:
    await caller.reader.read(65_536)
    await caller.say(b"\x16\x03\x03\x40\x00\x02\xff\xff\xff" + b"\x03" * 16_380)
    while True:
        await caller.say(b"\x16\x03\x03\x40\x00" + b"\x03" * 16_384)


async def reset_in_the_handshake(caller: Caller) -> None:
    await caller.reader.read(65_536)
    caller.reset()


async def speak_plain_http(caller: Caller) -> None:
    await caller.reader.read(65_536)
    await caller.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


async def expect_tls(caller: Caller) -> None:
    secure = TlsCaller(caller, certified())
    await secure.run(secure.tls.do_handshake)


async def leave_without_a_word(caller: Caller) -> None:
    """The end of the connection is the end of the body, and nobody said that it is."""
    secure = await asked_securely(caller)
    await secure.run(lambda: secure.tls.write(response(b"half", length=1000)))


async def endless_records_of_a_byte(caller: Caller) -> None:
    secure = await asked_securely(caller)
    await secure.run(lambda: secure.tls.write(response(b"", length=10**9)))
    while True:
        for _ in range(500):
            secure.tls.write(b"x")
        await secure.run(lambda: secure.tls.write(b"x"))


async def damage_a_record(caller: Caller) -> None:
    secure = await asked_securely(caller)
    await secure.run(lambda: secure.tls.write(response(b"half", length=1000)))
    await asyncio.sleep(0.05)
    await caller.say(b"\x17\x03\x03\x00\x20" + b"\x00" * 32)


async def stop_behind_the_handshake(caller: Caller) -> None:
    await asked_securely(caller)
    await hang(caller)


# --- over TCP -----------------------------------------------------------------------------------------


async def chatter(caller: Caller) -> None:
    while True:
        await caller.say(b"yes " * 1000)


async def drip(caller: Caller) -> None:
    while True:
        await caller.say(b"y")
        await asyncio.sleep(0.01)


# --- over DNS -----------------------------------------------------------------------------------------


def of_another(question: bytes) -> bytes:
    return bytes([question[0] ^ 0xFF]) + question[1:2] + b"\x81\x80" + question[4:]


def not_dns(question: bytes) -> bytes:
    return b"\xff" * 700


def cut(question: bytes) -> bytes:
    """Answers that it says to hold, and does not."""
    return question[:2] + b"\x81\x80" + question[4:6] + b"\x00\x05" + question[8:]


def boastful(question: bytes) -> bytes:
    return question[:2] + b"\x81\x80" + question[4:6] + b"\xff\xff" + question[8:]


async def say_a_length_and_no_more(caller: Caller) -> None:
    await caller.reader.read(512)
    await caller.say(b"\xff\xff" + b"\x00" * 100)
    await hang(caller)


async def endless_messages(caller: Caller) -> None:
    await caller.reader.read(512)
    while True:
        await caller.say(b"\x00\x0c" + b"\x00" * 12)


WAITING, RECEIVING = "while waiting for the response", "while receiving the response"
SHAKING = "during the TLS handshake"
TIMED_OUT, RESET, TLS = Reason.TIMEOUT, Reason.RESET, Reason.TLS
HUNG_UP = "the server hung up in the middle of the response's body"
EXPECTED = {"expect": {"response": {"contains": "no"}}}

CONVERSATIONS: tuple[Misbehaviour, ...] = (
    Misbehaviour("a full accept queue", Reason.CONNECT_TIMEOUT, "while connecting", never_accepts),
    Misbehaviour("silence", TIMED_OUT, WAITING, over_http(hang, timeout=SHORT)),
    Misbehaviour("a request never read", TIMED_OUT, WAITING, over_http(never_reads, method="POST", body="x" * 8_000_000, timeout=SHORT)),
    Misbehaviour("slow headers", TIMED_OUT, WAITING, over_http(drip_headers, timeout=SHORT)),
    Misbehaviour("a flood of headers", Reason.TOO_LARGE, "at most 64 KiB", over_http(flood_headers, timeout=LONG)),
    Misbehaviour("a flood of interim responses", Reason.PROTOCOL, "more than 20 interim", over_http(flood_interim, timeout=LONG)),
    Misbehaviour("a reset before the head", RESET, "connection reset by peer", over_http(reset_before_the_head, timeout=LONG)),
    Misbehaviour("a reset in the body", RESET, "connection reset by peer", over_http(reset_in_the_body, timeout=LONG)),
    Misbehaviour("a body that stops", TIMED_OUT, RECEIVING, over_http(stop_in_the_body, timeout=SHORT)),
    Misbehaviour("an endless body nobody judges", None, "", over_http(endless_body, timeout=LONG)),
    Misbehaviour("an endless body to be judged", Reason.TOO_LARGE, "to be judged, is larger", over_http(endless_body, timeout=LONG, **JUDGED)),
    Misbehaviour("an endless body of single bytes", TIMED_OUT, RECEIVING, over_http(endless_single_bytes, timeout=SHORT, **JUDGED)),
    Misbehaviour("endless trailers", Reason.PROTOCOL, "more framing than content", over_http(endless_trailers, timeout=LONG)),
    Misbehaviour("endless empty blocks", Reason.TOO_LARGE, "to be judged, is larger", over_http(endless_empty_blocks, timeout=LONG, **JUDGED)),
    Misbehaviour("a ring of https and http", Reason.REDIRECT, "redirects must be at most", from_https_to_http_and_back),
    *(bombs(*codings) for codings in BOMBS),
    *(
        Misbehaviour(f"{coding} cut short within its length", Reason.PROTOCOL, f"not valid {coding}: it ends too soon", over_http(says(packed(coding, body[: len(body) // 2])), timeout=LONG, **JUDGED))
        for coding, body in (
            ("gzip", gzip.compress(b"hello" * 1000)),
            ("deflate", zlib.compress(b"hello" * 1000)),
            ("br", brotli.compress(b"hello" * 1000)),
            ("zstd", zstd.compress(b"hello" * 1000)),
        )
    ),
    *(
        Misbehaviour(f"{coding} that is none", Reason.PROTOCOL, f"not valid {coding}: ", over_http(says(packed(coding, b"\xff\xfe not packed at all")), timeout=LONG, **JUDGED))
        for coding in ("gzip", "deflate", "br", "zstd", "snappy")
    ),
    Misbehaviour("too many codings", Reason.PROTOCOL, "at most 2 content codings", over_http(says(packed(", ".join(["gzip"] * 500), b"")), timeout=LONG, **JUDGED)),
    Misbehaviour("a TLS alert", TLS, "the server refused (handshake failure)", over_https(alert, timeout=LONG)),
    Misbehaviour("a handshake that hangs", TIMED_OUT, SHAKING, over_https(hang, timeout=SHORT)),
    Misbehaviour("a handshake of single bytes", TIMED_OUT, SHAKING, over_https(drip_a_handshake, timeout=SHORT)),
    Misbehaviour("a flood of handshake", TLS, "TLS handshake failed", over_https(flood_a_handshake, timeout=LONG)),
    Misbehaviour("garbage for a handshake", TLS, "TLS handshake failed", over_https(garbage, timeout=LONG)),
    Misbehaviour("a reset in the handshake", TLS, "connection reset by peer", over_https(reset_in_the_handshake, timeout=LONG)),
    Misbehaviour("plain HTTP on a TLS port", TLS, "the peer does not speak TLS", over_https(speak_plain_http, timeout=LONG)),
    Misbehaviour("TLS on a plain port", RESET, "hung up before the response's head", over_http(expect_tls, timeout=LONG)),
    Misbehaviour("an end without a word", RESET, HUNG_UP, over_https(leave_without_a_word, timeout=LONG)),
    Misbehaviour("a body of TLS records of a byte each", TIMED_OUT, RECEIVING, over_https(endless_records_of_a_byte, timeout=SHORT, **JUDGED)),
    Misbehaviour("a damaged record", TLS, "TLS failed while receiving", over_https(damage_a_record, timeout=LONG)),
    Misbehaviour("silence behind the handshake", TIMED_OUT, WAITING, over_https(stop_behind_the_handshake, timeout=SHORT)),
    Misbehaviour("tls: a handshake that hangs", TIMED_OUT, SHAKING, at_a_port(hang, timeout=SHORT), "tls"),
    Misbehaviour("tls: plain HTTP", TLS, "does not speak TLS", at_a_port(speak_plain_http, timeout=LONG), "tls"),
    Misbehaviour("tcp: endless chatter", Reason.BODY, "response must contain", at_a_port(chatter, timeout=LONG, **EXPECTED), "tcp"),
    Misbehaviour("tcp: a drip", TIMED_OUT, WAITING, at_a_port(drip, timeout=SHORT, **EXPECTED), "tcp"),
    Misbehaviour("dns: silence", TIMED_OUT, WAITING, over_udp(timeout=SHORT), "dns"),
    Misbehaviour("dns: a flood of other answers", TIMED_OUT, WAITING, over_udp(of_another, times=50, timeout=SHORT), "dns"),
    Misbehaviour("dns: a flood of no answers", TIMED_OUT, WAITING, over_udp(not_dns, times=50, timeout=SHORT), "dns"),
    Misbehaviour("dns: an answer that is cut", Reason.PROTOCOL, "", over_udp(cut, timeout=LONG), "dns"),
    Misbehaviour("dns: an answer of 65,535 records", Reason.TOO_LARGE, "at most 1024", over_udp(boastful, timeout=LONG), "dns"),
    Misbehaviour("dns/tcp: half an answer", TIMED_OUT, WAITING, over_dns_streams(say_a_length_and_no_more, timeout=SHORT), "dns"),
    Misbehaviour("dns/tcp: endless messages", Reason.PROTOCOL, "", over_dns_streams(endless_messages, timeout=LONG), "dns"),
    Misbehaviour("tcp: silence", TIMED_OUT, WAITING, at_a_port(hang, timeout=SHORT, **EXPECTED), "tcp"),
)  # fmt: skip
