"""Checks that stand for those of a block of discovery, whose targets only the exporter will know."""

from __future__ import annotations

import re

import re2

from watchbill.config.templates import sample
from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.discovery import slug
from watchbill.generate.promql import literal

_REFERENCE = re.compile(r"\$\{[^{}]*\}")


def samples(loaded: LoadedConfig) -> tuple[dict[str, Check], list[str]]:
    """A pattern of the ids that a block's checks have -> a check like them; and of which blocks there is none."""
    found: dict[str, Check] = {}
    warnings: list[str] = []
    for block, declared in sorted(loaded.config.discover.items()):
        pattern = _pattern(declared.id) if declared.id else f"{literal(block)}-.+"
        made = sample(loaded.templates[block])
        if pattern == ".+":
            why = "begin its `id` with a fixed text, by which they can be told from others"
        elif isinstance(made, str | None):
            why = made or "none can be thought of"
        elif not re2.fullmatch(pattern, made.id):
            why = f"its ids do not look like {pattern}"
        else:
            found[pattern] = made
            continue
        warnings.append(f"discover.{block}: no alerts on the checks that it makes: {why}")
    return found, warnings


def _pattern(template: str) -> str:
    """What all ids made of the template match."""
    pieces = _REFERENCE.split(template)
    fixed = [slug(pieces[0]), *(slug(f"x{piece}")[1:] for piece in pieces[1:])]
    return ".+".join(map(literal, fixed))
