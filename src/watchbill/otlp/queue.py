"""Encoded spans on their way out: bounded in number and in bytes, the oldest going first."""

from __future__ import annotations

from collections import deque

import anyio

MOST_SPANS = 16_384
MOST_BYTES = 16 << 20
BATCH_SPANS = 2_048
BATCH_BYTES = 2 << 20


class SpanQueue:
    """Filled without waiting, emptied a batch at a time."""

    def __init__(self) -> None:
        self._spans: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._some = anyio.Event()
        self._enough = anyio.Event()

    def __len__(self) -> int:
        return len(self._spans)

    def put(self, span: bytes) -> int:
        """How many had to go for it."""
        self._spans.append(span)
        self._bytes += len(span)
        dropped = 0
        while len(self._spans) > MOST_SPANS or self._bytes > MOST_BYTES:
            self._bytes -= len(self._spans.popleft())
            dropped += 1
        if not self._some.is_set():
            self._some.set()
        if len(self._spans) >= BATCH_SPANS or self._bytes >= BATCH_BYTES:
            self._enough.set()
        return dropped

    async def ready(self, linger_seconds: float) -> None:
        """Until there are some, and then until there is a batch of them, or for as long as that."""
        await self._some.wait()
        with anyio.move_on_after(linger_seconds):
            await self._enough.wait()

    def close(self) -> None:
        """Nobody waits any more."""
        self._closed = True
        self._some.set()
        self._enough.set()

    def take(self) -> list[bytes]:
        """The oldest, at most a batch."""
        batch: list[bytes] = []
        size = 0
        while (
            self._spans
            and len(batch) < BATCH_SPANS
            and (not batch or size + len(self._spans[0]) <= BATCH_BYTES)
        ):
            span = self._spans.popleft()
            batch.append(span)
            size += len(span)
        self._bytes -= size
        if not self._spans and not self._closed:
            self._some = anyio.Event()
        if len(self._spans) < BATCH_SPANS and self._bytes < BATCH_BYTES and not self._closed:
            self._enough = anyio.Event()
        return batch
