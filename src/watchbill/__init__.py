"""Declarative monitoring as code. The few names that a program needs; see docs/library.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watchbill.bus import Bus
    from watchbill.config import load
    from watchbill.domain.checks import parse_check
    from watchbill.domain.messages import (
        CheckErrored,
        CheckFailed,
        CheckRegistered,
        CheckSucceeded,
        DeleteCheck,
        ExecuteChecks,
        RegisterCheck,
        ServiceStatusChanged,
    )
    from watchbill.domain.results import Outcome, Reason, Result
    from watchbill.library import open_core
    from watchbill.storage import open_storage

_HOMES = {
    "Bus": "watchbill.bus",
    "CheckErrored": "watchbill.domain.messages",
    "CheckFailed": "watchbill.domain.messages",
    "CheckRegistered": "watchbill.domain.messages",
    "CheckSucceeded": "watchbill.domain.messages",
    "DeleteCheck": "watchbill.domain.messages",
    "ExecuteChecks": "watchbill.domain.messages",
    "Outcome": "watchbill.domain.results",
    "Reason": "watchbill.domain.results",
    "RegisterCheck": "watchbill.domain.messages",
    "Result": "watchbill.domain.results",
    "ServiceStatusChanged": "watchbill.domain.messages",
    "load": "watchbill.config",
    "open_core": "watchbill.library",
    "open_storage": "watchbill.storage",
    "parse_check": "watchbill.domain.checks",
}

__all__ = [
    "Bus",
    "CheckErrored",
    "CheckFailed",
    "CheckRegistered",
    "CheckSucceeded",
    "DeleteCheck",
    "ExecuteChecks",
    "Outcome",
    "Reason",
    "RegisterCheck",
    "Result",
    "ServiceStatusChanged",
    "load",
    "open_core",
    "open_storage",
    "parse_check",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that a command line that needs little starts quickly."""
    if name not in _HOMES:
        raise AttributeError(f"module 'watchbill' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
