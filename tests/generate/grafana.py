"""What Grafana would say of a dashboard, by the types that are generated from its own schema.

The decoders of grafana-foundation-sdk take any value for any field and drop a key that they do not know. So here a
dashboard is decoded, every value is compared with the type that its field declares, and what is encoded again must hold
all that went in.
"""

from __future__ import annotations

import enum
import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()

PROMETHEUS_ANNOTATION = {"titleFormat", "textFormat", "useValueForTime"}
"""Keys of an annotation that Prometheus' own plugin reads: the schema leaves what belongs to a data source open."""


def complaints(board: Mapping[str, Any]) -> list[str]:
    """Everything that Grafana's schema does not know or would have otherwise."""
    decoded = Dashboard.from_json(json.loads(json.dumps(board)))
    encoded = json.loads(json.dumps(decoded, cls=JSONEncoder))
    return [*_mistyped(decoded, ""), *_lost(board, encoded, "")]


def _mistyped(value: Any, path: str) -> Iterator[str]:
    """Fields of the decoded objects whose values are not of the declared type."""
    for name, declared in _hints(type(value)).items():
        held = getattr(value, name)
        yield from _unlike(held, declared, f"{path}.{name}")


def _hints(kind: type) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        if one is not object and "__annotations__" in vars(one):
            hints |= typing.get_type_hints(one)
    return hints


def _unlike(value: Any, declared: Any, path: str) -> Iterator[str]:
    if declared is Any or declared is object:
        if hasattr(value, "to_json"):  # an object of a panel's own, behind a field that is open to all kinds
            yield from _mistyped(value, path)
        return
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        yield from _unlike_any(
            value, [one for one in arguments if one is not type(None) or value is None], path
        )
    elif origin is list:
        yield from _unlike_list(value, arguments, path)
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{path} is {value!r}, not an object"
            return
        for key, one in value.items():
            yield from _unlike(one, arguments[1], f"{path}.{key}")
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{path} is {value!r}, not one of {arguments}"
    else:
        yield from _unlike_plain(value, declared, path)


def _unlike_any(value: Any, kinds: list[Any], path: str) -> Iterator[str]:
    """None of several types; of several classes the one that it is of tells what is wrong within."""
    own = [one for one in kinds if isinstance(one, type) and type(value) is one]
    found = [list(_unlike(value, one, path)) for one in own or kinds]
    if [] not in found:
        yield from min(found, key=len)


def _unlike_list(value: Any, arguments: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path} is {value!r}, not a list"
        return
    for index, one in enumerate(value):
        yield from _unlike(one, arguments[0], f"{path}[{index}]")


def _unlike_plain(value: Any, declared: Any, path: str) -> Iterator[str]:
    if declared is type(None):
        if value is not None:
            yield f"{path} is {value!r}, not null"
    elif issubclass(declared, enum.Enum):
        if value not in {one.value for one in declared}:
            yield f"{path} is {value!r}, not one of {[one.value for one in declared]}"
    elif declared in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, declared)):
            yield f"{path} is {value!r}, not a number"
    elif declared in (str, bool):
        if not isinstance(value, declared):
            yield f"{path} is {value!r}, not {declared.__name__}"
    elif isinstance(value, dict) and hasattr(
        declared, "from_json"
    ):  # some decoders leave objects as they are
        made = declared.from_json(value)
        yield from _mistyped(made, path)
        yield from _lost(value, json.loads(json.dumps(made, cls=JSONEncoder)), path)
    elif isinstance(value, declared):
        yield from _mistyped(value, path)
    elif not (inspect.isabstract(declared) and hasattr(value, "to_json")):
        yield f"{path} is {value!r}, not a {declared.__name__}"


def _lost(written: Any, kept: Any, path: str) -> Iterator[str]:
    """What we write and the types do not hold. What they add are their defaults."""
    if isinstance(written, dict) and isinstance(kept, dict):
        for key, value in written.items():
            if key in kept:
                yield from _lost(value, kept[key], f"{path}.{key}")
            elif not (key in PROMETHEUS_ANNOTATION and path.startswith(".annotations.list")):
                yield f"{path}.{key} is unknown"
    elif isinstance(written, (list, tuple)) and isinstance(kept, list):
        if len(written) != len(kept):
            yield f"{path} has {len(kept)} entries of {len(written)}"
        for index, (one, other) in enumerate(zip(written, kept, strict=False)):
            yield from _lost(one, other, f"{path}[{index}]")
    elif written != kept:
        yield f"{path} is {written!r} and comes back as {kept!r}"
