"""Judging away from the event loop what would hold it: large bodies, and patterns on more than a little text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from watchbill.domain.results import Failure, Reason
from watchbill.ports import Judge, UnjudgedError

COSTLY_BYTES = 4 * 1024
"""What is longer is judged aside where patterns or JSON are judged, which take up to 7 us a byte."""
JUDGING_SECONDS = 5


async def judge_aside(
    judge: Judge,
    function: Callable[..., list[Failure]],
    content: Sequence[bytes],
    *arguments: object,
    what: str,
) -> list[Failure]:
    """``what`` is judged, for the failure that says that it could not be."""
    why = f"within {JUDGING_SECONDS}s"
    # What was received in time is judged in peace: a busy machine of ours must not look like a slow target.
    with anyio.move_on_after(JUDGING_SECONDS, shield=True):
        try:
            return await judge(function, content, *arguments)
        except UnjudgedError as error:
            why = f"({error})"
    return [Failure(Reason.INTERNAL, f"the {what} could not be judged {why}")]
