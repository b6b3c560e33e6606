"""Validating plain values whose text may have come from references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from watchbill.config.plain import Found, Plain
from watchbill.config.scalars import resolve_plain

M = TypeVar("M", bound=BaseModel)
STAND_INS: tuple[Any, ...] = (
    "1s", "30s", "1d", 1, 4, 200, 1024, True, "https://stand-in.invalid/", "stand-in.invalid", "stand-in",
    "GET", "A", "NOERROR", "udp", "refuse", "< 1", "0",
)  # fmt: skip
"""What takes the place of an unresolved reference where its own text does not pass: the first that does."""
_NUMBER_KINDS = ("int_", "bool_", "float_", "literal_error")


def validated(
    model: type[M], declared: dict[str, Any], plain: Plain, context: Mapping[str, Any] | None = None
) -> M | ValidationError:
    """The model, or what is wrong with it. Numbers and booleans are read from the text of references.

    A reference without a value (a problem of its own, or none) is given one that passes.
    """

    def attempt() -> M | ValidationError:
        try:
            return model.model_validate(declared, context=context)
        except ValidationError as error:
            return error

    result = attempt()
    if isinstance(result, ValidationError) and plain.found:
        if _reread_numbers(result, plain):
            result = attempt()
        for path, found in plain.found.items():
            if isinstance(result, ValidationError) and found.text.unresolved and _concerns(result, path):
                result = _stand_in(found, attempt, result)
    return result


def _paths(error: ValidationError) -> list[tuple[str, str]]:
    """Where each mistake is, as dotted path, and its kind."""
    found = []
    for detail in error.errors(include_url=False, include_input=False):
        key = detail["ctx"]["key"] if detail["type"] == "declared" else ""
        found.append((".".join([*map(str, detail["loc"]), *([key] if key else [])]), detail["type"]))
    return found


def _concerns(error: ValidationError, path: str) -> bool:
    return any(place == path or place.startswith(f"{path}.") for place, _ in _paths(error))


def _reread_numbers(error: ValidationError, plain: Plain) -> bool:
    reread = False
    for path, kind in _paths(error):
        found = plain.found.get(path)
        if found is not None and kind.startswith(_NUMBER_KINDS):
            value = resolve_plain(found.text.value)
            if isinstance(value, bool | int | float):
                found.put(value)
                reread = True
    return reread


def _stand_in(found: Found, attempt: Callable[[], M | ValidationError], result: ValidationError) -> Any:
    """The value that leaves the fewest mistakes, or the reference's own text."""
    best, kept = result, found.text.value
    for value in STAND_INS:
        found.put(value)
        tried = attempt()
        if not isinstance(tried, ValidationError):
            return tried
        if tried.error_count() < best.error_count():
            best, kept = tried, value
    found.put(kept)
    return best
