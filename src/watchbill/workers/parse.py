"""The worker that loads: it parses and validates, tells each check's digest, then hands over the checks that are asked for."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import Any, BinaryIO

from pydantic import SecretStr

from watchbill.config import load
from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import ConfigError, WatchbillError
from watchbill.workers.frames import read, write

CHECKS_A_FRAME = 50
"""Unpickling a hundred takes the event loop two milliseconds."""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """One configuration: the heap that thousands of checks leave behind goes with the process."""
    gc.disable()  # it would go through all that is built again and again, a fifth of the time, and find next to nothing
    path, environ = read(requests)
    try:
        loaded = load(path, environ=environ, patient=True)
        write(answers, _without_checks(loaded))
        checks = loaded.config.checks
        write(answers, {check_id: digest(check) for check_id, check in checks.items()})
        for ids in _slices(read(requests)):
            write(answers, [checks[check_id] for check_id in ids])
    except ConfigError as error:
        write(answers, error)
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 - the border: what the exporter is told instead of a traceback between its log lines
        write(answers, WatchbillError(f"loading the configuration failed with {type(error).__name__}"))
    read(requests)  # the end: what was written is read before


def _without_checks(loaded: LoadedConfig) -> LoadedConfig:
    return replace(loaded, config=loaded.config.model_copy(update={"checks": {}}))


def _slices(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), CHECKS_A_FRAME):
        yield ids[start : start + CHECKS_A_FRAME]


def digest(check: Check) -> bytes:
    """All of a check, its secrets too: only for comparing within the exporter, never to be shown or kept."""
    values = check.model_dump(by_alias=True, exclude_defaults=True)
    text = json.dumps([check.type, values], sort_keys=True, default=_plain)
    return blake2b(text.encode(), digest_size=16).digest()


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else repr(value)
