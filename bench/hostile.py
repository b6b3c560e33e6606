"""Servers that misbehave in every way we know: when each probe ended, beside its timeout."""

from __future__ import annotations

from collections import Counter

import anyio
from tests.misbehaviour import time_past_the_timeout
from tests.servers import open_sockets

from bench.tables import Table

AT_MOST_SECONDS = 0.1
NEAR_SECONDS = 0.05
"""A probe that ended so short before its timeout had waited for it."""


async def meet_all() -> tuple[list[tuple[str, str, float]], int]:
    """All of them (name, reason, seconds past the timeout or before it), and how many sockets are left after."""
    before = open_sockets()
    met = [line async for line in time_past_the_timeout()]
    with anyio.move_on_after(5):
        while open_sockets() > before:
            await anyio.sleep(0.01)
    return met, open_sockets() - before


def measure() -> Table:
    """A row for each probe that ran into its timeout; the others are counted by reason."""
    met, left = anyio.run(meet_all, backend_options={"use_uvloop": True})
    waited = sorted((line for line in met if line[2] > -NEAR_SECONDS), key=lambda line: -line[2])
    early = [line for line in met if line[2] <= -NEAR_SECONDS]
    reasons = ", ".join(
        f"{count} {reason or 'success'}" for reason, count in Counter(r for _, r, _ in early).most_common()
    )
    late = sum(past > AT_MOST_SECONDS for _, _, past in met)
    notes = (
        (
            f"{len(early)} more ended by themselves, {-max(past for _, _, past in early):.1f} s before their timeout "
            f"or earlier: {reasons}."
        ),
        (
            f"Of {len(met)} in all, {late} ended more than {AT_MOST_SECONDS * 1000:.0f} ms past their timeout; "
            f"{left} sockets were left open."
        ),
    )
    rows = [(name, reason or "none: success", f"{past * 1000:+.1f}") for name, reason, past in waited]
    return Table("hostile", ("the server", "reason", "ms past the timeout"), rows, notes)
