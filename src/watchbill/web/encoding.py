"""JSON of many items, encoded one by one.

Python's encoder keeps the interpreter to itself from the first byte to the last, in a thread too, so ten
thousand checks in one call would hold every probe for a tenth of a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from anyio.lowlevel import checkpoint

T = TypeVar("T")

SLICE = 50


def encoded(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), default=str).encode()


async def in_slices(items: Iterable[T], shown: Callable[[T], bytes]) -> list[bytes]:
    """What each item is shown as, letting probes run in between."""
    answers = []
    for index, item in enumerate(items):
        answers.append(shown(item))
        if index % SLICE == SLICE - 1:
            await checkpoint()
    return answers


async def encoded_list(items: Iterable[T], shown: Callable[[T], Any]) -> bytes:
    return b"[" + b",".join(await in_slices(items, lambda item: encoded(shown(item)))) + b"]"


async def encoded_object(items: Iterable[tuple[str, T]], shown: Callable[[T], Any]) -> bytes:
    members = await in_slices(items, lambda item: encoded(item[0]) + b":" + encoded(shown(item[1])))
    return b"{" + b",".join(members) + b"}"


def object_of(members: Mapping[str, bytes]) -> bytes:
    """An object of members that are encoded already."""
    return b"{" + b",".join(encoded(name) + b":" + value for name, value in members.items()) + b"}"
