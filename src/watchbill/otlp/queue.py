"""Spans on their way out: bounded in number and in bytes, the oldest going first.

They are encoded some dozens at a time, so that the code that does it is in the processor's caches for all but the first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

from watchbill.domain.results import Result

MOST_SPANS = 16_384
MOST_BYTES = 16 << 20
ENCODED_AT_ONCE = 64
"""A third of a millisecond."""
BATCH_SPANS = 2_048
BATCH_BYTES = 2 << 20


class SpanQueue:
    """Filled without waiting, emptied a batch at a time. What ``encode`` leaves empty is left out."""

    def __init__(self, encode: Callable[[Result], bytes]) -> None:
        self._encode = encode
        self._fresh: list[Result] = []
        self._spans: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._some = anyio.Event()
        self._enough = anyio.Event()

    def __len__(self) -> int:
        return len(self._spans) + len(self._fresh)

    def put(self, result: Result) -> int:
        """How many had to go for it."""
        self._fresh.append(result)
        if not self._some.is_set():
            self._some.set()
        return self.settle() if len(self._fresh) >= ENCODED_AT_ONCE else 0

    def settle(self) -> int:
        """Encode what has come; how many had to go for it."""
        fresh, self._fresh = self._fresh, []
        for span in filter(None, map(self._encode, fresh)):
            self._spans.append(span)
            self._bytes += len(span)
        dropped = 0
        while len(self._spans) > MOST_SPANS or self._bytes > MOST_BYTES:
            self._bytes -= len(self._spans.popleft())
            dropped += 1
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
        if not self._spans:
            self.settle()
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
        if not len(self) and not self._closed:
            self._some = anyio.Event()
        if len(self._spans) < BATCH_SPANS and self._bytes < BATCH_BYTES and not self._closed:
            self._enough = anyio.Event()
        return batch
