"""A peer that always has more to say does not outlive the deadline.

anyio cancels a task that waits, and passes over one that is about to be woken. A task to which something comes in every
turn of the event loop can be about to be woken whenever anyio looks: a flood of single bytes held one for a minute.
"""

from __future__ import annotations

from anyio.lowlevel import checkpoint_if_cancelled

BETWEEN_LOOKS = 16
"""A look costs a microsecond; hardly a probe waits as often."""


class Turns:
    """How often one reader has waited."""

    __slots__ = ("_waited",)

    def __init__(self) -> None:
        self._waited = 0

    async def taken(self) -> None:
        """The reader has waited once more; now and then see whether it should go on."""
        self._waited += 1
        if self._waited % BETWEEN_LOOKS == 0:
            await checkpoint_if_cancelled()
