"""What blocks of discovery will make, whose targets only the exporter will know: for rules, and what to say of it."""

from __future__ import annotations

import re
from collections.abc import Collection

from watchbill.config.samples import Sample, samples
from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.discovery import Discovery, slug
from watchbill.generate.families import Family, apart
from watchbill.generate.texts import span

_REFERENCE = re.compile(r"\$\{[^{}]*\}")
_NOTHING_FIXED = "begin its `id` with a fixed text, by which its checks can be told from others, such as {block}-${{each.instance}}"


def families(loaded: LoadedConfig) -> tuple[tuple[Family, ...], list[str]]:
    """One for each block whose checks can be told from others; and what the user should know of the blocks."""
    found: dict[tuple[str, ...], tuple[str, Family]] = {}
    warnings: list[str] = []
    declared, made_of = loaded.config.checks, samples(loaded.templates)
    for block, options in loaded.config.discover.items():
        pieces, made = _pieces(block, options), made_of[block]
        if not re.search("[a-z0-9]", pieces[0] + pieces[-1]):
            made = _NOTHING_FIXED.format(block=block)
        if isinstance(made, str):
            warnings.append(f"discover.{block}: no rules for the checks that it makes: {made}")
            continue
        warnings += [f"discover.{block}: {said}" for said in _guessed(made)]
        family = Family(pieces, _of_its_own(made.check, pieces, declared))
        if pieces in found:
            other, first = found[pieces]
            warnings.append(
                f"discover.{block}: its ids look like those of {other}, so its checks have the same rules"
            )
            family = max(first, family, key=lambda each: each.like.interval)
        found[pieces] = (found.get(pieces, (block,))[0], family)
    return apart([family for _, family in found.values()], declared), warnings


def _pieces(block: str, options: Discovery) -> tuple[str, ...]:
    """What stands in the ids of all of its checks, between what hangs on the target."""
    if not options.id:
        return (f"{block}-", "")
    first, *others = _REFERENCE.split(options.id)
    return (slug(first), *(slug(f"x{piece}")[1:] for piece in others))


def _of_its_own(check: Check, pieces: tuple[str, ...], declared: Collection[str]) -> Check:
    """With an id that looks like theirs and is no declared one."""
    ids = (check.id, *(f"sample-{number}".join(pieces) for number in range(len(declared) + 1)))
    return check.model_copy(update={"id": next(each for each in ids if each not in declared)})


def _guessed(made: Sample) -> list[str]:
    """What hangs on the target, and what rules do about it."""
    check, hangs = made.check, made.hanging
    said = []
    if hangs & {"interval", "timeout"}:
        said.append(
            f"the interval or timeout of its checks hangs on the target: alerts wait as for {span(check.interval)} and "
            f"{span(check.timeout)}, so that a check that takes longer may ring at its first failure"
        )
    if "service" in hangs:
        said.append(
            "the service of its checks hangs on the target: alerts have neither owner nor runbook of it, and no objective counts them"
        )
    if "severity" in hangs:
        said.append("the severity of its checks hangs on the target: their alerts are critical")
    return said
