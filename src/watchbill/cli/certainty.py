"""Whether a configuration that was read without its secrets is known as the exporter will have it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr

from watchbill.config.interpolation import is_secret_reference
from watchbill.domain.config import Config

_REFERENCE = re.compile(r"\$\{[^{}]*\}")


def known_wholly(config: Config) -> bool:
    """Whether no variable without a value stands where its value counts: a secret counts by its reference."""
    rest = config.model_dump(exclude={"checks"})
    if _open(rest, "", {}):
        return False
    return not any(
        _open(check.model_dump(exclude={"references", "interpolated"}), "", check.references)
        for check in config.checks.values()
    )


def _open(value: Any, path: str, references: Mapping[str, str]) -> bool:
    if isinstance(value, SecretStr):
        return False
    if isinstance(value, dict):
        return any(
            _open(item, f"{path}.{key}" if path else str(key), references) for key, item in value.items()
        )
    if isinstance(value, list | tuple):
        return any(_open(item, f"{path}.{index}", references) for index, item in enumerate(value))
    text = references.get(path, value)
    return isinstance(text, str) and any(not is_secret_reference(token) for token in _REFERENCE.findall(text))
