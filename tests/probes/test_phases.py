"""The phases of every type add up to its duration, and time that a server takes shows in the phase it was taken in."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.servers import no_socket_left
from tests.slow_servers import INJECTIONS, RESENT_SYN_SECONDS, Injection, check_type
from watchbill.domain.results import PHASES

pytestmark = pytest.mark.anyio

ROUNDING = 20e-6


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.usefixtures("kernel_allows_icmp")
@pytest.mark.parametrize("injection", INJECTIONS, ids=str)
async def test_the_time_a_server_takes_shows_in_its_phase(injection: Injection) -> None:
    seconds = RESENT_SYN_SECONDS if injection.phase == "connect" else 0.15
    with anyio.fail_after(20):
        async with no_socket_left(), injection.open(seconds) as slow, open_prober() as probe:
            result = await probe(check_type(injection), **slow.declared)
    assert told(result) == []
    assert set(result.phases) <= set(PHASES)
    assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=ROUNDING)
    assert max(result.phases, key=lambda phase: result.phases[phase]) == injection.phase
    if injection.kind != "icmp":  # whose duration is a round trip, beside the time to resolve
        assert result.duration_seconds >= sum(slow.seconds) - ROUNDING
