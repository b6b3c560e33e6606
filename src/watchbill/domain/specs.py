"""A declared check as plain values that can be shown, compared and stored without showing a secret."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from watchbill.domain.checks import Check, Http
from watchbill.domain.redaction import folded, spelled
from watchbill.domain.units import Micros

MASK = "(secret)"
SHORTEST_REDACTED = 6
_TELLING_HEADERS = ("auth", "cookie", "token", "key", "secret", "pass", "cred")

Seal = Callable[[str, str], Any]
"""(plaintext, reference text) -> what stands in the secret's place."""


def _sealed(check: Check, seal: Seal) -> dict[str, Any]:
    values = check.model_dump(
        by_alias=True, exclude_defaults=True, exclude={"id", "references", "interpolated"}
    )
    return {"type": check.type, **_walk(values, "", check.references, seal)}


def _walk(value: Any, path: str, references: Mapping[str, str], seal: Seal) -> Any:
    if isinstance(value, SecretStr):
        return seal(value.get_secret_value(), references.get(path, MASK))
    if path in references and isinstance(value, str | int | float):
        return seal(str(value), references[path])
    if isinstance(value, dict):
        return {
            key: _walk(item, f"{path}.{key}" if path else key, references, seal)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_walk(item, f"{path}.{index}", references, seal) for index, item in enumerate(value)]
    return value


def masked_spec(check: Check) -> dict[str, Any]:
    """What was declared beside the defaults, with the reference text in the place of every secret."""
    return _sealed(check, lambda _, reference: reference)


def sealed_spec(check: Check, seal: Callable[[str], str]) -> dict[str, Any]:
    """The same with ``seal(plaintext)`` in the place of every secret (an HMAC, for storing)."""
    return _sealed(check, lambda plaintext, _: seal(plaintext))


@dataclass(frozen=True, slots=True)
class Spec:
    """A check flattened for comparing: dotted path -> masked JSON value.

    ``secrets`` holds, for the paths that are secret, what tells one value from another; a path whose
    value is not known here (``None``) is taken as unchanged.
    """

    type: str
    interval: Micros
    enabled: bool
    fields: Mapping[str, Any]
    secrets: Mapping[str, SecretStr | None] = field(default_factory=dict, repr=False)


def spec_of(check: Check) -> Spec:
    secrets: dict[str, SecretStr | None] = {}
    flat = dict(
        _flatten(_sealed(check, lambda plaintext, reference: _Masked(reference, SecretStr(plaintext))))
    )
    for path, value in flat.items():
        found: list[str] = []
        flat[path] = _shown(value, found)
        if isinstance(value, _Masked):
            secrets[path] = value.plaintext
        elif found:  # a list with secrets in it is compared as one
            secrets[path] = SecretStr(json.dumps(found))
    return Spec(check.type, check.interval_micros, check.enabled, flat, secrets)


def spec_from_masked(spec: Mapping[str, Any], *, interval: Micros) -> Spec:
    """A spec as the API of a running exporter shows it, where no secret is known."""
    return Spec(str(spec["type"]), interval, bool(spec.get("enabled", True)), dict(_flatten(spec)))


@dataclass(frozen=True, slots=True)
class _Masked:
    reference: str
    plaintext: SecretStr


def _shown(value: Any, found: list[str]) -> Any:
    """The value with references in the places of its secrets, which are added to ``found``."""
    match value:
        case _Masked():
            found.append(value.plaintext.get_secret_value())
            return value.reference
        case dict():
            return {key: _shown(item, found) for key, item in value.items()}
        case list():
            return [_shown(item, found) for item in value]
        case _:
            return value


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{path}.{key}" if path else str(key))
    elif path == "interpolated":
        return
    else:
        yield path, value


def spec_digest(spec: Mapping[str, Any]) -> str:
    """A short, stable name for a spec: equal specs, equal digests."""
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def redactions(check: Check) -> tuple[str, ...]:
    """What ``redact`` must take out of what is shown of a check."""
    return folded(_secret_texts(check))


def echoes(check: Check) -> tuple[str, ...]:
    """The same of what a target says, which may have written it in another way. Takes 0.1 ms a secret, 1 ms a long one."""
    return spelled(_secret_texts(check))


def _secret_texts(check: Check) -> set[str]:
    """The texts that must not be repeated when a target echoes them."""
    found = {secret.get_secret_value() for secret in check.interpolated}

    def collect(plaintext: str, _: str) -> str:
        found.add(plaintext)
        return ""

    values = check.model_dump(
        by_alias=True, exclude_defaults=True, include={"auth", "body", "send", "token", "proxy"}
    )
    _walk(values, "", {}, collect)
    if isinstance(check, Http):
        found |= {
            value.get_secret_value()
            for name, value in check.headers.items()
            if any(part in name.lower() for part in _TELLING_HEADERS)
        }
        if check.auth is not None and check.auth.basic is not None:
            basic = check.auth.basic
            found.add(b64encode(f"{basic.username}:{basic.password.get_secret_value()}".encode()).decode())
        if check.proxy is not None and check.proxy.credentials is not None:
            found.add(b64encode(":".join(check.proxy.credentials).encode()).decode())
    return {text for text in found if len(text) >= SHORTEST_REDACTED}
