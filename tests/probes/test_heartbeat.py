"""Heartbeats are judged by the last one that came."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from watchbill.domain.checks import parse_check
from watchbill.domain.results import Outcome, Reason, Result
from watchbill.domain.units import SECOND, Instant, isoformat
from watchbill.probes import heartbeat
from watchbill.probes.execute import Executor
from watchbill.testing import START, ManualClock

MINUTE, HOUR = 60 * SECOND, 3_600 * SECOND


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def probed(silence: int, **declared: Any) -> Result:
    clock = ManualClock(instant=START + silence)
    seen: dict[str, Instant] = {"backup": START}
    probers = {"heartbeat": partial(heartbeat.probe, now=clock.now, last_seen=seen.__getitem__)}
    check = parse_check({"id": "backup", "type": "heartbeat", **declared})
    return await Executor(probers, clock=clock, monotonic=clock.monotonic).execute(check)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("silence", "declared"),
    [
        (0, {"every": "24h", "grace": "1h"}),
        (24 * HOUR, {"every": "24h", "grace": "1h"}),
        (25 * HOUR, {"every": "24h", "grace": "1h"}),
        (2 * MINUTE, {"every": "1m"}),
        (-5 * SECOND, {"every": "1m"}),
    ],
)
async def test_a_heartbeat_within_its_time_is_a_success(silence: int, declared: dict[str, str]) -> None:
    result = await probed(silence, **declared)
    assert (result.outcome, result.failures) == (Outcome.SUCCESS, ())
    assert result.facts == {"last_seen_at": START / SECOND}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("silence", "declared", "due", "nothing"),
    [
        (25 * HOUR + 1, {"every": "24h", "grace": "1h"}, "every 1d (+ 1h grace)", "1d1h"),
        (26 * HOUR + 3 * MINUTE + 7, {"every": "24h", "grace": "1h"}, "every 1d (+ 1h grace)", "1d2h3m"),
        (121 * SECOND, {"every": "1m"}, "every 1m (+ 1m grace)", "2m1s"),
        (3 * SECOND, {"every": "1s", "grace": "500ms"}, "every 1s (+ 500ms grace)", "3s"),
    ],
)
async def test_a_heartbeat_that_is_overdue_is_missing(
    silence: int, declared: dict[str, str], due: str, nothing: str
) -> None:
    result = await probed(silence, **declared)
    (failure,) = result.failures
    assert failure.reason is Reason.MISSING
    assert failure.message == (
        f"a heartbeat is due {due}, nothing has come for {nothing}, since {isoformat(START)}"
    )
    assert result.outcome is Outcome.FAILURE
    assert result.facts == {"last_seen_at": START / SECOND}
