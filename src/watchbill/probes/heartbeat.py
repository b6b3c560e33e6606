"""Heartbeats: nothing is sent; a job calls in, and here it is seen whether it did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import anyio.lowlevel

from watchbill.domain.checks import Heartbeat
from watchbill.domain.results import Reason
from watchbill.domain.units import SECOND, Instant, Micros, format_duration, isoformat, to_micros
from watchbill.probes.attempt import Attempt


async def probe(
    check: Heartbeat, attempt: Attempt, *, now: Callable[[], Instant], last_seen: Callable[[str], Instant]
) -> None:
    """``last_seen`` gives the last ping of an id, or the first registration where none has come since."""
    await anyio.lowlevel.checkpoint()
    seen = last_seen(check.id)
    attempt.facts["last_seen_at"] = seen / SECOND
    silence = now() - seen
    if silence > to_micros(check.every) + to_micros(check.grace):
        attempt.fail(
            Reason.MISSING,
            f"a heartbeat is due every {format_duration(check.every)} (+ {format_duration(check.grace)} grace), "
            f"nothing has come for {_roughly(silence)}, since {isoformat(seen)}",
        )


def _roughly(silence: Micros) -> str:
    """To the second, and to the minute once it is over an hour."""
    unit = 60 * SECOND if silence >= 3_600 * SECOND else SECOND
    return format_duration(timedelta(microseconds=silence - silence % unit))
