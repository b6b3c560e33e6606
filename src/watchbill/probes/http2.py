"""HTTP/2 over a connection: one request at a time, its response as a :class:`~watchbill.probes.answer.Reply`.

The h2 library speaks the protocol and its rules; here stands what bounds a hostile server: how much may come
before the head is there, how much that is no body after it, and how much is worked on without giving way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import assert_never

import anyio.lowlevel
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from h2.settings import SettingCodes

from watchbill.domain.results import Reason
from watchbill.ports import Connection, NetworkError
from watchbill.probes.answer import MOST_FIELDS, MOST_HEAD_BYTES, MOST_INTERIM, Reply, flood
from watchbill.probes.transport import Outgoing

ALPN = ("h2", "http/1.1")
FRAMES_AT_ONCE = 100
"""Then others come to run: some 1 ms."""
MOST_FRAME_BYTES = 16 * 1024
WINDOW_BYTES = 1 << 20
LEAST_FRAME_BYTES = 64
"""What a frame counts for at least: taking it costs 20 us, however little it holds, and a flood of empty ones took half a second."""
MOST_FRAMING_BYTES = 256 * 1024
"""Of what comes after the head and is no body: headers of frames, pings, settings..."""
FRAMING_SHARE = 16
"""...and this share of the body on top."""
# RFC 9113 §8.2.2: what belongs to a connection of HTTP/1.1; and host, which :authority replaces.
_OF_THE_CONNECTION = frozenset(
    {b"host", b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_SETTINGS = {
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.MAX_CONCURRENT_STREAMS: 1,
    SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
    SettingCodes.MAX_HEADER_LIST_SIZE: MOST_HEAD_BYTES,
}
_BODILESS = frozenset({204, 304})
_HEADER_BYTES = 9
_GOAWAY = 7
Headers = list[tuple[bytes, bytes]]


class Http2Session:
    """A connection on which h2 was agreed on. It stays its owner's to close."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ended: NetworkError | None = None
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self._buffer = bytearray()
        self._begun = False
        self._frames_at_once = 0

    def ask(self, outgoing: Outgoing) -> Http2Answer:
        """:raises NetworkError: ``reset``, where the server takes no more requests on this connection."""
        head, body = _request(outgoing)
        try:
            if not self._begun:
                self._begin()
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, head, end_stream=not body)
        except h2.exceptions.ProtocolError as error:
            raise NetworkError(
                Reason.RESET, f"the connection takes no more requests: {_said(error)}"
            ) from error
        return Http2Answer(self, stream, body, bodiless=outgoing.bodiless)

    def _begin(self) -> None:
        self._h2.local_settings = h2.settings.Settings(client=True, initial_values=dict(_SETTINGS))
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES)
        self._begun = True

    async def flush(self) -> None:
        if said := self._h2.data_to_send():
            await self.connection.send(said)

    async def receive(self) -> tuple[int, list[h2.events.Event]]:
        """The next frames, what they count for in bytes, and what they mean.

        :raises NetworkError: ``reset`` at the end of the connection, ``protocol``, ``too_large``.
        """
        if self._size_of_first() is None:
            data = await self.connection.receive()
            if not data:
                raise NetworkError(Reason.RESET, "the server hung up")
            self._buffer += data
        if self._frames_at_once >= FRAMES_AT_ONCE:  # receiving need not suspend, however small the pieces
            self._frames_at_once = 0
            await anyio.lowlevel.checkpoint()
        size, events = 0, list[h2.events.Event]()
        for frame in islice(self._frames(), FRAMES_AT_ONCE - self._frames_at_once):
            self._frames_at_once += 1
            size += max(len(frame), LEAST_FRAME_BYTES)
            events += self._understand(frame)
        await self.flush()
        return size, events

    def _frames(self) -> Iterator[bytes]:
        while (size := self._size_of_first()) is not None:
            frame = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield frame

    def _size_of_first(self) -> int | None:
        """``None`` while it is not there in full (RFC 9113 §4.1)."""
        if len(self._buffer) < _HEADER_BYTES:
            return None
        length = int.from_bytes(self._buffer[:3], "big")
        if length > MOST_FRAME_BYTES:
            raise NetworkError(
                Reason.PROTOCOL,
                f"the response is not HTTP/2: a frame has at most {MOST_FRAME_BYTES} bytes, this one {length}",
            )
        return _HEADER_BYTES + length if len(self._buffer) >= _HEADER_BYTES + length else None

    def _understand(self, frame: bytes) -> list[h2.events.Event]:
        if frame[3] == _GOAWAY and len(frame) >= _HEADER_BYTES + 8:
            # h2 takes nothing more after it; but servers say goodbye before they answer the last request.
            last, code = (int.from_bytes(frame[at : at + 4], "big") for at in (9, 13))
            goodbye = h2.events.ConnectionTerminated()
            goodbye.error_code, goodbye.last_stream_id = code, last & 0x7FFF_FFFF
            return [goodbye]
        try:
            return self._h2.receive_data(frame)
        except h2.exceptions.DenialOfServiceError as error:
            raise flood(f"{MOST_HEAD_BYTES // 1024} KiB") from error
        except (h2.exceptions.ProtocolError, ValueError) as error:
            raise NetworkError(Reason.PROTOCOL, f"the response is not HTTP/2: {_said(error)}") from error

    def window(self, stream: int) -> int:
        return min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)

    def send_data(self, stream: int, data: bytes, *, end: bool) -> None:
        self._h2.send_data(stream, data, end_stream=end)

    def acknowledge(self, stream: int, size: int) -> None:
        self._h2.acknowledge_received_data(size, stream)

    @property
    def idle(self) -> bool:
        return self.ended is None and not self._buffer


class Http2Answer(Reply):
    """The response on one stream. ``heard``: something came on it; ``again``: all came, and nothing went wrong."""

    def __init__(self, session: Http2Session, stream: int, body: bytes, *, bodiless: bool) -> None:
        self.status = 0
        self.version = "2"
        self.headers: Headers = []
        self.heard = False
        self._session = session
        self._stream = stream
        self._unsent = body
        self._bodiless = bodiless
        self._done = False
        self._interim = 0
        self._chunks: list[bytes] = []
        self._received = 0
        self._body_bytes = 0

    @property
    def again(self) -> bool:
        return self._done and not self._unsent and self._session.idle

    async def read_head(self) -> None:
        """Send the request and wait for the head. :raises NetworkError: with its reason."""
        await self._send()
        while not self.status:
            await self._step("before the response's head")
            if not self.status and self._received > MOST_HEAD_BYTES:
                raise flood(f"{MOST_HEAD_BYTES // 1024} KiB")

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._done:
                raise StopAsyncIteration
            await self._step("in the middle of the response's body")
            if self._received - self._body_bytes > MOST_FRAMING_BYTES + self._body_bytes // FRAMING_SHARE:
                raise NetworkError(
                    Reason.PROTOCOL, "the server floods the connection with frames that hold no body"
                )
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body

    async def _send(self) -> None:
        """The head, and the body as far as the server lets it, until it answers."""
        await self._session.flush()
        while self._unsent and not self.status:
            window = self._session.window(self._stream)
            if window <= 0:
                await self._step("before it took the request's body")
                continue
            piece, self._unsent = self._unsent[:window], self._unsent[window:]
            self._session.send_data(self._stream, piece, end=not self._unsent)
            await self._session.flush()

    async def _step(self, when: str) -> None:
        try:
            size, events = await self._session.receive()
        except NetworkError as error:
            if error.reason is Reason.RESET:
                raise NetworkError(Reason.RESET, f"{error.message} {when}") from error
            raise
        self._received += size
        for event in events:
            self._take(event)
        await self._session.flush()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ConnectionTerminated():
                self._goaway(event)
            case h2.events.StreamReset(stream_id=self._stream):
                self._reset(event)
            case (
                h2.events.ResponseReceived()
                | h2.events.InformationalResponseReceived()
                | h2.events.DataReceived()
                | h2.events.StreamEnded()
            ) if event.stream_id == self._stream:
                self.heard = True
                self._hear(event)
            case _:
                pass  # settings, pings, windows: h2 answers them

    def _hear(
        self,
        event: h2.events.ResponseReceived
        | h2.events.InformationalResponseReceived
        | h2.events.DataReceived
        | h2.events.StreamEnded,
    ) -> None:
        match event:
            case h2.events.ResponseReceived(headers=headers):
                self._head(headers or [])
            case h2.events.InformationalResponseReceived():
                self._interim += 1
                if self._interim > MOST_INTERIM:
                    text = f"the server sent more than {MOST_INTERIM} interim (1xx) responses"
                    raise NetworkError(Reason.PROTOCOL, text)
            case h2.events.DataReceived(data=data):
                self._chunks.append(data or b"")
                self._body_bytes += len(data or b"")
                self._session.acknowledge(self._stream, event.flow_controlled_length or 0)
            case h2.events.StreamEnded():
                self._end()
            case _ as never:
                assert_never(never)

    def _end(self) -> None:
        # h2 counts the bytes of a body, but not where the head is all there is.
        none = not (self._body_bytes or self._bodiless or self.status in _BODILESS)
        if none and any(value.strip(b"0") for value in self.values(b"content-length")):
            raise NetworkError(Reason.PROTOCOL, "the response is not HTTP/2: it tells of a body and has none")
        self._done = True

    def _head(self, headers: Headers) -> None:
        fields = [(bytes(name), bytes(value)) for name, value in headers]
        status = next((value for name, value in fields if name == b":status"), b"")
        if len(fields) > MOST_FIELDS:
            raise flood(f"{MOST_FIELDS} fields")
        if len(status) != 3 or not status.isdigit():
            raise NetworkError(
                Reason.PROTOCOL, "the response is not HTTP/2: its status is no number of three digits"
            )
        self.headers = [field for field in fields if not field[0].startswith(b":")]
        self.status = int(status)

    def _goaway(self, event: h2.events.ConnectionTerminated) -> None:
        ended = NetworkError(
            Reason.RESET, f"the server ended the connection (GOAWAY: {_code(event.error_code)})"
        )
        self._session.ended = ended
        if event.error_code or (event.last_stream_id or 0) < self._stream:
            raise ended

    def _reset(self, event: h2.events.StreamReset) -> None:
        if self._done:
            return
        # REFUSED_STREAM says that nothing was done yet (RFC 9113 §8.7).
        self.heard = self.heard or event.error_code != h2.errors.ErrorCodes.REFUSED_STREAM
        raise NetworkError(Reason.RESET, f"the server reset the stream ({_code(event.error_code)})")


def _request(outgoing: Outgoing) -> tuple[Headers, bytes]:
    """The request of HTTP/1.1 as fields of HTTP/2, and its body."""
    head, _, body = outgoing.wire.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    method, target, _ = start.split(b" ")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    authority = next((value for name, value in fields if name == b"host"), outgoing.host.encode("ascii"))
    pseudo = [(b":method", method), (b":scheme", b"https"), (b":authority", authority), (b":path", target)]
    others = [field for field in fields if field[0] not in _OF_THE_CONNECTION and _may_be_said(*field)]
    return [*pseudo, *others], body


def _may_be_said(name: bytes, value: bytes) -> bool:
    return name != b"te" or value.lower() == b"trailers"


def _code(code: int | None) -> str:
    try:
        return h2.errors.ErrorCodes(code or 0).name
    except ValueError:
        return f"error {code}"


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
