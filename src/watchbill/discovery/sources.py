"""What every source of targets is: it tells what it has, all of it each time, or that it could not be asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from watchbill.domain.discovery import TargetGroup


class Report(Protocol):
    """Whom a source tells. Every call is synchronous and cheap; what follows from it happens elsewhere."""

    def found(self, groups: Sequence[TargetGroup]) -> None:
        """All that the source has now; it replaces what was told before. An empty sequence removes everything."""
        ...

    def failed(self, reason: str) -> None:
        """It could not be asked, or what it said makes no sense: what was found last stays, and the failure counts.

        ``reason`` is one line for the log, without secrets.
        """
        ...

    def last(self) -> Sequence[TargetGroup]:
        """What holds now, also from before a restart: for a source that keeps a part of it where only that part fails."""
        ...


Source: TypeAlias = Callable[[Report], Awaitable[None]]
"""Runs until it is cancelled; never raises for what the world does."""
