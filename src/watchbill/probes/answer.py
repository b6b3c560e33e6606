"""One HTTP/1.1 response as it arrives over a connection: first its head, then, iterated over, its body.

llhttp parses by its strict rules; what it does not bound is bounded here, and every violation has a reason.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import httptools
import httpx2

from watchbill.domain.results import Reason
from watchbill.ports import Connection, NetworkError

MOST_HEAD_BYTES = 64 * 1024
_MOST_HEAD = f"{MOST_HEAD_BYTES // 1024} KiB"
MOST_FIELDS = 200
MOST_INTERIM = 20
MOST_FRAMING = 32
"""Bytes of chunk sizes, extensions and trailers for each byte of the body, beyond what a head may have."""
SHOWN_START = 40
_START = b"HTTP/"
_VERSIONS = frozenset({"1.0", "1.1"})
_TRANSFERS = frozenset({b"", b",chunked", b",identity"})
UNASKED_SWITCH = "the server switched protocols without being asked"


class Reply(httpx2.AsyncByteStream):
    """A response of either version: a head, and a body by iterating."""

    status: int
    version: str
    headers: list[tuple[bytes, bytes]]

    def release(self) -> None:
        """Nobody reads on: refer to nothing that refers back, whatever became of the response."""

    def values(self, name: bytes) -> list[bytes]:
        """Of every field of that name (in lower case), in order."""
        return [value for field, value in self.headers if field.lower() == name]


class Answer(Reply):
    """``bodiless``: the request was a HEAD; ``upgradable``: it asked for another protocol (101).

    The connection stays its owner's to close.
    """

    def __init__(self, connection: Connection, *, bodiless: bool, upgradable: bool = False) -> None:
        self.status = 0
        self.version = ""
        self.headers: list[tuple[bytes, bytes]] = []
        self._connection = connection
        self._bodiless = bodiless
        self._upgradable = upgradable
        self._parser: Any = httptools.HttpResponseParser(self)
        self._start = b""
        self._head_bytes = 0
        self._field_bytes = 0
        self._framing_bytes = 0
        self._interim = 0
        self._head_done = False
        self._done = False
        self._bounded = False
        self._chunks: list[bytes] = []
        self._problem: NetworkError | None = None

    async def read_head(self) -> None:
        """:raises NetworkError: ``protocol``, ``too_large``, ``reset``, or what the connection raised."""
        while not self._head_done:
            data = await self._connection.receive()
            if not data:
                seen = "in the middle of" if self._head_bytes else "before"
                raise NetworkError(Reason.RESET, f"the server hung up {seen} the response's head")
            if self._head_bytes < len(_START):
                self._check_start(data)
            self._head_bytes += len(data)
            self._feed(data)
            if not self._head_done and self._head_bytes > MOST_HEAD_BYTES:
                raise flood(_MOST_HEAD)

    def _check_start(self, data: bytes) -> None:
        # llhttp takes RTSP and ICE for HTTP, and its words do not say what was there instead.
        self._start += data[: SHOWN_START + 1]
        if not self._start.startswith(_START[: len(self._start)]):
            text = self._start[:SHOWN_START].decode("utf-8", errors="replace")
            if len(self._start) > SHOWN_START:
                text = text.rstrip("\N{REPLACEMENT CHARACTER}") + "…"
            seen = json.dumps(text, ensure_ascii=False)
            raise NetworkError(Reason.PROTOCOL, f"the response is not HTTP/1.1: it begins with {seen}")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._done:
                raise StopAsyncIteration
            data = await self._connection.receive()
            if data:
                self._framing_bytes += len(data)
                self._feed(data)
                if self._framing_bytes > MOST_HEAD_BYTES:
                    raise NetworkError(Reason.PROTOCOL, "the response is more framing than content")
            elif self._bounded:
                raise NetworkError(Reason.RESET, "the server hung up in the middle of the response's body")
            else:
                self._done = True
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body

    def release(self) -> None:
        # The parser refers back to this answer, and an exception does by its traceback. A probe must not leave a cycle
        # for the collector to find: one that was frozen while a probe waited would be kept for ever.
        self._parser = self._problem = None

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            if self._upgradable:
                self._done = True
                return
            raise NetworkError(Reason.PROTOCOL, UNASKED_SWITCH) from error
        except httptools.HttpParserError as error:
            if self._problem is not None:
                raise self._problem from error
            if not self._done:  # what follows a complete response is none of our business
                raise NetworkError(Reason.PROTOCOL, f"the response is not HTTP/1.1: {error}") from error

    # What the parser calls, in this order. An exception from within ends parsing.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer
        self.headers.append((name, value))
        self._field_bytes += len(name) + len(value)
        if len(self.headers) > MOST_FIELDS:
            self._problem = flood(f"{MOST_FIELDS} fields")
        elif self._field_bytes > MOST_HEAD_BYTES:  # however large the pieces in which they came
            self._problem = flood(_MOST_HEAD)
        if self._problem is not None:
            raise self._problem

    def on_headers_complete(self) -> None:
        if self._head_done:
            return  # another response behind the one that was asked for
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200 and self.status != 101:
            self._skip_interim()
            return
        self.version = self._parser.get_http_version()
        if self.version not in _VERSIONS:
            self._violation(f"the response is not HTTP/1.1 but {self.version}")
        if self.status < 100:
            self._violation(f"the response is not HTTP/1.1: there is no status {self.status:03}")
        if self.status == 101 and not self._upgradable:
            self._violation(UNASKED_SWITCH)
        self._bounded = self._has_bounds()
        self._head_done = True
        if self._bodiless:
            self._done = True

    def _skip_interim(self) -> None:
        self.headers.clear()
        self._interim += 1
        if self._interim > MOST_INTERIM:
            self._violation(f"the server sent more than {MOST_INTERIM} interim (1xx) responses")

    def _has_bounds(self) -> bool:
        """Whether the head says where the body ends (RFC 9112 §6.3); else the end of the connection does."""
        known, coding = False, b""
        for name, value in self.headers:
            if len(name) == 14:
                known = known or name.lower() == b"content-length"
            elif len(name) == 17 and name.lower() == b"transfer-encoding":
                coding += b"," + value.lower().replace(b" ", b"")
        if coding not in _TRANSFERS:
            self._violation("the response is in a transfer coding that was not asked for")
        return known or coding == b",chunked"

    def _violation(self, message: str) -> NoReturn:
        self._problem = NetworkError(Reason.PROTOCOL, message)
        raise self._problem

    def on_body(self, data: bytes) -> None:
        if not self._done:
            self._chunks.append(data)
            self._framing_bytes -= MOST_FRAMING * len(data)

    def on_message_complete(self) -> None:
        if self._head_done:
            self._done = True


def flood(limit: str) -> NetworkError:
    return NetworkError(Reason.TOO_LARGE, f"the response's headers must be at most {limit}, are more")
