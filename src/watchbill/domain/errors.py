"""Every exception Watchbill raises on purpose. A target that is down is never one of them."""

from __future__ import annotations

from dataclasses import dataclass

MOST_PROBLEMS = 5_000
"""That one configuration is told of: more are no help, and take seconds and memory."""


class WatchbillError(Exception):
    """The root: its text is one line that says what is wrong and what to do next."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in the declared configuration.

    ``line`` and ``column`` count from 1; a problem with a whole file stands at 1:1.
    """

    path: str
    line: int
    column: int
    message: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"


class ConfigError(WatchbillError):
    """The configuration is not valid; ``problems`` holds every mistake found, sorted by place."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = tuple(sorted(set(problems)))

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class MassDeleteError(WatchbillError):
    """A reload would delete most of what is running, which is more often a mistake than a wish."""


class UnknownCheckError(WatchbillError):
    """A command named a check that is not registered."""


class StorageError(WatchbillError):
    """History could not be read or written.

    ``retryable``: closing and opening the store again may heal it (a full disk, a lost lock).
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class StorageStarvedError(StorageError):
    """Memory, room or the disk itself failed the store, which says nothing of what it holds."""


class StorageOutOfReachError(StorageError):
    """This user, or this version, cannot open the store, which says nothing of what it holds."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class StorageLockedError(StorageError):
    """Another process holds the store: ``pid``, where that is known."""

    def __init__(self, message: str, pid: str = "") -> None:
        super().__init__(message, retryable=False)
        self.pid = pid


class ListenError(WatchbillError):
    """A listen address could not be taken."""
