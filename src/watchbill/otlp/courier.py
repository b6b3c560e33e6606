"""One load after the other to the receiver, and again where that may help (https://opentelemetry.io/docs/specs/otlp/#failures-1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import anyio
import structlog

from watchbill.clock import Clock
from watchbill.domain.otlp import OtlpOptions
from watchbill.otlp.delivery import Later, Refused, Taken, deliver, pack
from watchbill.otlp.tally import DropReason, Signal, Tally
from watchbill.ports import HttpClient, Offload, RandomBytes

FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 30.0
LONGEST_ASKED_SECONDS = 300.0
"""More than this a receiver's ``Retry-After`` is not waited for."""
JITTER = 0.2
PACKED_INLINE_BYTES = 8 * 1024
"""Packing so little takes less than a thread."""

Body: TypeAlias = Callable[[OtlpOptions], bytes]

log = structlog.get_logger()


class Courier:
    """Each signal has one load under way at most. ``carried``: how many spans or points that is."""

    def __init__(
        self,
        http: HttpClient,
        clock: Clock,
        offload: Offload,
        random_bytes: RandomBytes,
        tally: Tally,
    ) -> None:
        self._http = http
        self._clock = clock
        self._offload = offload
        self._random_bytes = random_bytes
        self._tally = tally
        self._options: OtlpOptions | None = None
        self._former: OtlpOptions | None = None
        self._stirred = anyio.Event()
        self._troubles: dict[tuple[Signal, str], str] = {}
        self._resume: dict[Signal, float] = {}
        """Before this (monotonic) the receiver wants nothing more, whatever is next."""
        self.carried: dict[Signal, int] = {"metrics": 0, "traces": 0}

    def use(self, options: OtlpOptions | None) -> None:
        """From now on; with ``None`` what is left goes once to where it went before."""
        self._former, self._options = self._options or self._former, options
        self.hurry()

    def hurry(self) -> None:
        """Whoever waits to try again tries now."""
        self._resume.clear()
        self._stirred.set()
        self._stirred = anyio.Event()

    async def carry(self, signal: Signal, count: int, body: Body, *, patience_seconds: float) -> bool:
        """Whether the receiver took it. It is tried for so long, with the options that hold at each attempt.

        What the receiver asked for comes first: until then nothing is tried, and nothing is given up.
        """
        self.carried[signal] = count
        until = self._clock.monotonic() + patience_seconds
        wait = FIRST_WAIT_SECONDS
        packed: tuple[OtlpOptions, bytes] | None = None
        try:
            await self._pause(signal, 0.0)
            while (options := self._options or self._former) is not None:
                if signal == "metrics" and not options.metrics:  # since a reload
                    self._tally.drop(signal, "expired", count)
                    return False
                if packed is None or packed[0] is not options:
                    packed = options, await self._pack(body(options), options)
                now = self._clock.now()
                match await deliver(self._http, options, signal, packed[1], now=now):
                    case Taken() as taken:
                        self._took(signal, count, taken)
                        return True
                    case Refused(message):
                        self._lost(signal, count, "rejected", message)
                        return False
                    case Later(message, after):
                        self._tally.failures[signal] += 1
                        self._failing(signal, message)
                        self._postpone(signal, after or 0.0)
                        if self._options is None or self._clock.monotonic() + wait > until:
                            self._lost(signal, count, "expired", message)
                            return False
                        await self._pause(signal, wait)
                        wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        except Exception:  # the border: what cannot be exported must not end the probing
            log.exception("otlp.crashed", signal=signal)
            self._tally.drop(signal, "internal", count)
        finally:
            self.carried[signal] = 0
        return False

    async def _pack(self, body: bytes, options: OtlpOptions) -> bytes:
        if len(body) <= PACKED_INLINE_BYTES:
            return pack(body, options.compression)
        return await self._offload(pack, body, options.compression)

    def _postpone(self, signal: Signal, asked_seconds: float) -> None:
        """Later than asked, so that not all come back at once; never sooner."""
        if asked_seconds:
            spread = 1 + JITTER * self._drawn()
            pause = min(asked_seconds, LONGEST_ASKED_SECONDS) * spread
            self._resume[signal] = self._clock.monotonic() + pause

    async def _pause(self, signal: Signal, seconds: float) -> None:
        own = seconds * (1 - JITTER + 2 * JITTER * self._drawn()) if seconds else 0.0
        asked = self._resume.pop(signal, 0.0) - self._clock.monotonic()
        with anyio.move_on_after(max(own, asked)):
            await self._stirred.wait()

    def _drawn(self) -> float:
        return int.from_bytes(self._random_bytes(2), "big") / 0xFFFF

    # --- what is told ---------------------------------------------------------------------------------

    def _took(self, signal: Signal, count: int, taken: Taken) -> None:
        rejected = max(0, min(taken.rejected, count))
        self._tally.exported[signal] += count - rejected
        if rejected:
            self._tally.drop(signal, "partial", rejected)
        trouble = f"it did not take all: {taken.message}" if rejected or taken.message else ""
        if trouble:
            self._tell(signal, trouble, "otlp.partial_success", rejected=rejected)
        elif told := [key for key in self._troubles if key[0] == signal]:
            for key in told:
                del self._troubles[key]
            log.info("otlp.recovered", signal=signal)

    def _lost(self, signal: Signal, count: int, reason: DropReason, message: str) -> None:
        self._tally.drop(signal, reason, count)
        self._tell(signal, message, "otlp.dropped", count=count, reason=reason)

    def _failing(self, signal: Signal, message: str) -> None:
        self._tell(signal, message, "otlp.failing")

    def _tell(self, signal: Signal, message: str, event: str, **facts: object) -> None:
        """Each trouble once, however often it comes; the counters say how often."""
        if self._troubles.get((signal, event)) != message:
            self._troubles[signal, event] = message
            log.warning(event, signal=signal, error=message, **facts)
