"""Bodies of many megabytes, sent a slice at a time, few of them at once.

A client that asks and does not read holds what was made for it. So a hundred of them could hold gigabytes; here
the oldest unfinished body gives way to the newest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SLICE_BYTES = 256 << 10
MOST_AT_ONCE = 8


class Outbox:
    """Makes the responses, and knows which large ones are being sent, the oldest first."""

    def __init__(self) -> None:
        self._sending: list[anyio.CancelScope] = []

    def response(self, parts: Sequence[bytes], headers: Mapping[str, str]) -> Response:
        return InParts(parts, headers, self._sending)

    def json(self, body: bytes) -> Response:
        return self.response([body], {"Content-Type": "application/json"})


class InParts(Response):
    """A body that is sent as it lies, without being joined."""

    def __init__(
        self, parts: Sequence[bytes], headers: Mapping[str, str], sending: list[anyio.CancelScope]
    ) -> None:
        self._length = sum(map(len, parts))
        super().__init__(headers={**headers, "Content-Length": str(self._length)})
        self._parts = parts
        self._sending = sending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
        elif self._length <= SLICE_BYTES:
            await send({"type": "http.response.body", "body": b"".join(self._parts)})
        else:
            await self._send_large(send)

    async def _send_large(self, send: Send) -> None:
        """An answer that has to give way ends early; its client sees that the length is not reached."""
        with anyio.CancelScope() as giving_way:
            self._sending.append(giving_way)
            try:
                if len(self._sending) > MOST_AT_ONCE:
                    self._sending.pop(0).cancel()
                for piece in self._slices():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                if giving_way in self._sending:
                    self._sending.remove(giving_way)

    def _slices(self) -> Iterator[bytes]:
        for part in self._parts:
            for start in range(0, len(part), SLICE_BYTES):
                yield part[start : start + SLICE_BYTES]
