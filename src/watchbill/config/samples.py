"""A check like those that a block of discovery will make: what is known of them before there are targets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import NamedTuple, TypeAlias

from watchbill.config.nodes import Entry
from watchbill.config.templates import Kept, Made, named_service, texts_of
from watchbill.domain.checks import Check
from watchbill.domain.discovery import ADDRESS, Template

_EACH = re.compile(r"\$\{each\.(\w+)")
_WHOLLY = re.compile(r"\$\{each\.(\w+)[^{}]*\}")
MOST_TRIES, MOST_TRIES_IN_ALL = 300, 2_000
"""Of one block, and of all: a second or two of loading, whatever is declared."""
GUIDING = ("owner", "severity")
"""Labels that say who is told of a check, and how."""


class _Value(NamedTuple):
    """What a label might hold, and what else: where the two checks differ, they hang on the target."""

    one: str
    other: str


_TEXT, _HTTPS = _Value("sample", "other"), _Value("https", "https")
_KINDS = {
    "text": _TEXT,
    "number": _Value("443", "8443"),
    "length": _Value("5m", "4m"),
    "moment": _Value("10s", "9s"),
    "url": _Value("https://sample.example/", "https://other.example/"),
    "scheme": _HTTPS,
    "path": _Value("/", "/other"),
    "truth": _Value("true", "false"),
    "address": _Value("192.0.2.1", "192.0.2.2"),
}
_TELLING = (
    (r"timeout", "moment"),
    (r"interval", "length"),
    (r"port", "number"),
    (r"scheme", "scheme"),
    (r"path", "path"),
    (r"url|param_target", "url"),
)
"""What the names of labels say of their values."""
_ADDRESSES = (
    _Value("sample.example:443", "other.example:443"),
    _Value("sample.example", "other.example"),
    _Value("192.0.2.1", "192.0.2.2"),
)
_Choice: TypeAlias = Mapping[str, _Value]


@dataclass(frozen=True, slots=True)
class Sample:
    """``hanging``: what of it hangs on the target and is a guess: ``interval``, ``timeout``, ``service``, ``owner``, ``severity``.

    A service that hangs on the target is none, and a label empty.
    """

    check: Check
    hanging: frozenset[str] = frozenset()


def samples(templates: Mapping[str, Template]) -> dict[str, Sample | str]:
    """For each block what its template makes, or why nothing can be thought of."""
    most = min(MOST_TRIES, MOST_TRIES_IN_ALL // max(1, len(templates)))
    return {block: _sampled(template, most) for block, template in templates.items()}


def _sampled(template: Template, most: int) -> Sample | str:
    kept: Kept = template.kept
    kept = replace(kept, relabel=())
    why = "its rules may leave every target out"
    for choice in islice(_choices(kept), most):
        one = _make(kept, choice, other=False)
        if not isinstance(one, str | None):
            return _sample(template.kept, choice, one, _make(kept, choice, other=True))
        why = one or why
    return why


def _make(kept: Kept, choice: _Choice, *, other: bool) -> Made:
    return kept.make({name: value.other if other else value.one for name, value in choice.items()})


def _choices(kept: Kept) -> Iterator[_Choice]:
    """The likeliest first: what a label's name says, then a text, then whatever else a field may want."""
    texts = [text for layer in _layers(kept) for text in texts_of(layer.value)]
    names = set(_EACH.findall(" ".join([*texts, kept.id]))) - {ADDRESS}
    alone = {each[1] for each in map(_WHOLLY.fullmatch, texts) if each}
    values = {name: _likely(name, [*_KINDS.values()] if name in alone else []) for name in names}
    service = _WHOLLY.fullmatch(named_service(kept.entry, _defaults(kept)) or "")
    if service and kept.services:
        values[service[1]] = [_Value(kept.services[0], kept.services[0])]
    order = sorted(values, key=lambda name: (name in alone, name))
    for chosen in product(*(values[name] for name in order), _ADDRESSES):
        yield dict(zip((*order, ADDRESS), chosen, strict=True))


def _likely(name: str, others: list[_Value]) -> list[_Value]:
    likely = [_KINDS[kind] for pattern, kind in _TELLING if re.search(pattern, name)]
    return list(dict.fromkeys([*likely[:1], *([] if likely else [_TEXT]), *others]))


def _defaults(kept: Kept) -> list[Entry]:
    return [*kept.sections.defaults.values(), *kept.sections.folders.values()]


def _layers(kept: Kept) -> Iterator[Entry]:
    yield kept.entry
    yield from _defaults(kept)
    for found in kept.service_defaults.values():
        yield from found


def _sample(kept: Kept, choice: _Choice, one: Check, other: Made) -> Sample:
    like = other if not isinstance(other, str | None) else one
    hanging = {name for name in ("interval", "timeout") if getattr(one, name) != getattr(like, name)}
    if "${each" in (named_service(kept.entry, _defaults(kept)) or ""):
        hanging.add("service")
    labels = _fixed(choice, one.labels, like.labels)
    of_targets = one.labels.keys() | {rule.target_label for rule in kept.relabel}
    hanging |= {name for name in GUIDING if name in of_targets and name not in labels}
    labels |= dict.fromkeys(hanging.intersection(GUIDING), "")
    service = None if "service" in hanging else one.service
    return Sample(one.model_copy(update={"labels": labels, "service": service}), frozenset(hanging))


def _fixed(choice: _Choice, one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """The labels that are the same for all targets."""
    alike = {value.one for value in choice.values() if value.one == value.other}
    return {
        name: text
        for name, text in one.items()
        if other.get(name) == text and name not in choice and not any(value in text for value in alike)
    }
