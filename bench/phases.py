"""How exactly the phases of a probe show where a server took its time: ``python -m bench phases``.

Servers on the same event loop take 200 ms in one phase of a probe, measured by themselves; the table shows what the probe
counted in that phase beyond them (and beyond what the phase takes anyway), and how far its phases are from adding up to its duration.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from statistics import median

import anyio
from tests.probes.support import Prober, open_prober
from tests.slow_servers import INJECTIONS, RESENT_SYN_SECONDS, Injection, check_type

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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench phases", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args(arguments)
    found = anyio.run(measure_all, asked.rounds, backend_options={"use_uvloop": True})
    print(
        f"{'probe':<28} {'phase':<11} {'injected ms':>11} {'usual ms':>9} {'beyond ms':>10} {'sum off by us':>14}"
    )
    for figures in found:
        print(
            f"{figures.injection!s:<28} {figures.injection.phase:<11} {figures.injected * 1e3:>11.2f} "
            f"{figures.usual * 1e3:>9.2f} {figures.beyond * 1e3:>+10.2f} {abs(figures.unaccounted) * 1e6:>14.2f}"
            f"{'' if figures.exact else '  <- not exact'}"
        )
    return 0 if all(figures.exact for figures in found) else 1


if __name__ == "__main__":
    sys.exit(main())
