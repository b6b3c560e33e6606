"""How exactly the phases of a probe show where a server took its time: ``python -m bench phases``.

Servers on the same event loop take 200 ms in one phase of a probe, measured by themselves; the table shows what the probe
counted in that phase beyond them (and beyond what the phase takes anyway), and how far its phases are from adding up to its duration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.probes.support import Prober, open_prober
from tests.slow_servers import INJECTIONS, RESENT_SYN_SECONDS, Injection, check_type

from bench.tables import Table
from watchbill.domain.results import Result

INJECTED_SECONDS = 0.2
NEAR_SECONDS = 0.005
RESENT_NEAR_SECONDS = 0.05
"""A SYN is sent again on the kernel's own clock."""
SUM_NEAR_SECONDS = 20e-6


@dataclass(frozen=True, slots=True)
class Figures:
    """In seconds. ``usual``: what the phase takes where nobody sleeps; ``beyond``: what it took more than both."""

    injection: Injection
    injected: float
    usual: float
    beyond: float
    unaccounted: float

    @property
    def exact(self) -> bool:
        near = RESENT_NEAR_SECONDS if self.injection.phase == "connect" else NEAR_SECONDS
        return abs(self.beyond) <= near and abs(self.unaccounted) <= SUM_NEAR_SECONDS


async def probed(probe: Prober, injection: Injection, seconds: float) -> tuple[Result, float]:
    """What was found, and what was injected."""
    async with injection.open(seconds) as slow:
        result = await probe(check_type(injection), **slow.declared)
    if result.failures:
        raise RuntimeError(f"{injection}: {result.message}")
    return result, sum(slow.seconds)


async def measure(probe: Prober, injection: Injection, rounds: int) -> Figures:
    """The median of so many rounds."""
    phase, usual = injection.phase, 0.0
    seconds = RESENT_SYN_SECONDS if phase == "connect" else INJECTED_SECONDS
    if phase != "connect":
        usual = median([(await probed(probe, injection, 0.0))[0].phases[phase] for _ in range(rounds + 2)])
    found = []
    for _ in range(rounds):
        result, injected = await probed(probe, injection, seconds)
        unaccounted = result.duration_seconds - sum(result.phases.values())
        beyond = result.phases[phase] - injected - usual
        found.append(Figures(injection, injected, usual, beyond, unaccounted))
    return sorted(found, key=lambda figures: figures.beyond)[rounds // 2]


async def measure_all(rounds: int) -> list[Figures]:
    async with open_prober() as probe:  # one, since what TLS needs is made once
        return [await measure(probe, injection, rounds) for injection in INJECTIONS]


def table(found: Sequence[Figures]) -> Table:
    rows = [
        (
            str(figures.injection),
            figures.injection.phase,
            f"{figures.injected * 1e3:.1f}",
            f"{figures.usual * 1e3:.2f}",
            f"{figures.beyond * 1e3:+.2f}",
            f"{abs(figures.unaccounted) * 1e6:.0f}",
            "yes" if figures.exact else "no",
        )
        for figures in found
    ]
    heads = ("probe", "phase", "injected, ms", "usual, ms", "beyond, ms", "sum off by, us", "exact")
    return Table("phases", heads, rows)
