"""Configurations made large: more checks, more services, longer lists and texts, until they are of about a given size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import exp, log
from random import Random
from typing import Any

from tests.fuzz.valid import Documents, Tree, check

SMALLEST_BYTES, LARGEST_BYTES = 10_000, 1 << 20
SHARE = 0.05
"""Of the cases: a large one takes as long as a hundred others."""
COPIED = 0.8
"""Of the large ones have copies of their own checks, so that what was valid stays it; the others have checks made up anew."""


def size_of(chance: Random) -> int | None:
    """Of the case that is made next: each order of magnitude is as likely, ``None`` as it comes."""
    if chance.random() >= SHARE:
        return None
    return round(exp(chance.uniform(log(SMALLEST_BYTES), log(LARGEST_BYTES))))


def grown(documents: Documents, size: int, chance: Random) -> Documents:
    """With more of it, in one of several ways. What has no checks stays as it is."""
    documents = copy.deepcopy(documents)
    holders = [
        tree for tree in documents.values() if isinstance(tree, dict) and isinstance(tree.get("checks"), dict)
    ]
    if holders and any(holders[0]["checks"].values()):
        chance.choice((_more_checks, _more_checks, _more_checks, _more_services, _longer))(
            holders[0], size, chance
        )
    return documents


def _more_checks(tree: Tree, size: int, chance: Random) -> None:
    own = list(tree["checks"].values())
    if chance.random() < 0.3:
        own = [{"type": "tcp", "host": "127.0.0.1", "port": 9}, {"type": "icmp", "host": "127.0.0.1"}]
    copied = chance.random() < COPIED

    def another() -> Any:
        return copy.deepcopy(chance.choice(own)) if copied else check(chance)

    _fill(tree["checks"], size, another)


def _more_services(tree: Tree, size: int, chance: Random) -> None:
    services = tree.setdefault("services", {})
    if isinstance(services, dict):
        own = list(services.values())
        _fill(services, size, lambda: copy.deepcopy(chance.choice(own or [{}])))


def _fill(holder: dict[str, Any], size: int, another: Callable[[], Any]) -> None:
    written, number = 0, 0
    while written < size and number < size // 40:
        made = another()
        holder[f"g{number}"] = made
        written += len(str(made)) + 8
        number += 1


def _longer(tree: Tree, size: int, chance: Random) -> None:
    """One list or one text of one check."""
    made = chance.choice([each for each in tree["checks"].values() if isinstance(each, dict)] or [{}])
    items = size // 12
    match chance.randrange(6):
        case 0:
            made["description"] = "x" * size
        case 1:
            made["for_each"] = {"x": [f"v{number}" for number in range(items)]}
        case 2:
            made["labels"] = {f"l{number}": "prod" for number in range(items)}
        case 3:
            made["expect"] = {"body": {"contains": [f"part {number}" for number in range(items)]}}
        case 4:
            made["headers"] = {f"X-{number}": "value" for number in range(items)}
        case _:
            made["expect"] = {"json": {f"$.a{number}": "ok" for number in range(items)}}
