"""A seed and a number -> one mutated configuration, the same one each time."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import yaml

from tests.fuzz import nodes, texts
from tests.fuzz.case import Case
from tests.fuzz.growth import LARGEST_BYTES, grown, size_of
from tests.fuzz.valid import Documents, configuration, corpus


def case_of(seed: int, number: int) -> Case:
    """Every seventh is as valid as it was made; the others are changed up to five times as trees and as often as text.

    Every twentieth is made large before, up to a megabyte.
    """
    chance = Random(f"{seed}:{number}")
    size = size_of(chance)
    documents = configuration(chance) if size or chance.random() < 0.8 else chance.choice(corpus())
    if size:
        documents = grown(documents, size, chance)
    mutations = 0 if number % 7 == 0 else chance.choice((1, 1, 1, 1, 1, 2, 3, 5))
    as_text = sum(chance.random() < 0.4 for _ in range(mutations))
    documents = _changed(documents, mutations - as_text, chance)
    files = {name: _written(tree, chance) for name, tree in documents.items()}
    for _ in range(as_text):
        name = chance.choice(sorted(files))
        files[name] = texts.mutate(files[name], chance)[:LARGEST_BYTES]
    single = len(files) == 1 and chance.random() < 0.7
    return Case(f"{seed}:{number}", files, next(iter(files)) if single else ".")


def _changed(documents: Documents, times: int, chance: Random) -> Documents:
    if not times:
        return documents
    documents = {name: _read(tree) for name, tree in copy.deepcopy(documents).items()}
    for _ in range(times):
        nodes.mutate(documents, chance)
    return documents


def _read(tree: Any) -> Any:
    """What the repository has as text, as a tree; what is no YAML stays text."""
    if not isinstance(tree, str):
        return tree
    try:
        return yaml.load(tree, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError):
        return tree


def _written(tree: Any, chance: Random) -> bytes:
    if isinstance(tree, str):
        return tree.encode("utf-8", "surrogatepass")
    flow = chance.choice((False, False, None, True))
    try:
        text: str = yaml.dump(
            tree,
            Dumper=_Dumper,
            default_flow_style=flow,
            allow_unicode=chance.random() < 0.7,
            sort_keys=False,
            width=chance.choice((80, 10_000)),
        )
    except (yaml.YAMLError, UnicodeError, RecursionError):  # a tree may hold itself
        text = repr(tree)
    return text.encode("utf-8", "surrogatepass")


class _Dumper(yaml.CSafeDumper):
    """Writes what is shared between two places twice: aliases are made on purpose only."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
