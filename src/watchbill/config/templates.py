"""A check that is made later, once for each target: everything that takes is kept when the configuration is read.

Nothing here reads a file: what the template names was read with it. The text of a target's label is put in as it is, and
is not searched for references.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from watchbill.config.checks import Checks
from watchbill.config.documents import Sections
from watchbill.config.expansion import Expanded
from watchbill.config.fields import CHECK_MODELS
from watchbill.config.interpolation import Labels, Part, Values, mentioned, storable
from watchbill.config.mistakes import KEY_RULES
from watchbill.config.nodes import Entry, Node, Source, shown_key
from watchbill.config.plain import verbatim
from watchbill.domain.checks import Check
from watchbill.domain.discovery import ADDRESS, Discovery, Template, check_labels, slug, without_credentials
from watchbill.domain.fields import LABEL_PATTERN, LONGEST_LABEL, LONGEST_LABEL_NAME, MOST_LABELS
from watchbill.domain.relabelling import Relabel, relabelled

Made = Check | str | None
"""The check of a target, or why there can be none; ``None`` where a rule leaves the target out."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What makes the checks of one block. ``environ`` and ``read`` are what its references need, and no more."""

    block: str
    id: str
    relabel: tuple[Relabel, ...]
    entry: Entry
    sections: Sections
    services: tuple[str, ...]
    service_defaults: dict[str, list[Entry]]
    min_interval: Any
    environ: dict[str, str] = field(repr=False)
    read: dict[str, Part] = field(repr=False)
    texts: dict[str, str] = field(repr=False)
    resolve_secrets: bool

    @classmethod
    def of(cls, block: str, declared: Discovery, entry: Entry, checks: Checks) -> Kept:
        """``checks``: what the template was made whole with just now."""
        values, source = checks.values, entry.key.source
        defaults = checks.sections.defaults_for(source)
        service_defaults = _concerned(checks, entry, defaults)
        layers = (layer for found in service_defaults.values() for layer in found)
        texts = [text for each in (entry, *defaults, *layers) for text in texts_of(each.value)]
        names, tokens = mentioned([*texts, declared.id])
        return cls(
            block=block,
            id=declared.id,
            relabel=declared.relabel,
            entry=entry,
            sections=_only(defaults, source),
            services=tuple(service_defaults),
            service_defaults=service_defaults,
            min_interval=checks.min_interval,
            environ={name: values.environ[name] for name in sorted(names) if name in values.environ},
            read={path: part for path, part in sorted(values.read.items()) if part.reference in tokens},
            texts=checks.texts,
            resolve_secrets=values.resolve_secrets,
        )

    def template(self) -> Template:
        return Template(self, self._digest(), self.entry.key.source.folder)

    def _digest(self) -> bytes:
        """Of all that a check may hang on, secrets too."""
        defaults = (*self.sections.defaults.values(), *self.sections.folders.values())
        written = [verbatim(each.value) for each in (self.entry, *defaults)]
        services = {
            name: [verbatim(layer.value) for layer in found] for name, found in self.service_defaults.items()
        }
        read = {path: part.value for path, part in self.read.items()}
        rules = [rule.model_dump() for rule in self.relabel]
        everything = [
            self.id,
            rules,
            written,
            services,
            str(self.min_interval),
            self.environ,
            read,
            self.texts,
        ]
        return blake2b(json.dumps(everything, default=str).encode(), digest_size=16).digest()

    def make(self, target: Mapping[str, str]) -> Made:
        labels = relabelled(target, self.relabel)
        if labels is None:
            return None
        each = Labels({"instance": labels.get(ADDRESS, ""), **labels})
        values = Values(self.environ, resolve_secrets=self.resolve_secrets, read=dict(self.read))
        text = values.interpolate(self.id, folder=self.entry.key.source.folder, each=each)
        if text.problems:
            return f"id: {text.problems[0]}"
        address = labels.get(ADDRESS)
        if not self.id and not address:
            return f"the target has no label `{ADDRESS}`, which its id is made of"
        own = check_labels(labels)
        if problem := _unfit(own):
            return problem
        check_id = slug(text.value) if self.id else slug(f"{self.block}-{without_credentials(address or '')}")
        checks = self._checks(values)
        model = CHECK_MODELS[_type_of(self.entry)]
        expanded = Expanded(check_id, each, self.entry.key, own)
        checks.one(f"{self.block}.check", self.entry, expanded, model)
        if checks.problems:
            return checks.problems[0].message
        return checks.checks.get(check_id, "it makes no check")

    def _checks(self, values: Values) -> Checks:
        return Checks(
            self.sections,
            values,
            services=self.services,
            service_defaults=self.service_defaults,
            min_interval=self.min_interval,
            section="discover",
            texts=self.texts,
            looks=False,
        )


def make_checks(_: bytes, kept: Kept, targets: Sequence[Mapping[str, str]]) -> list[Made]:
    """For each target what a template makes of it: what a :class:`~watchbill.ports.Judge` is asked for."""
    return [kept.make(target) for target in targets]


def _unfit(labels: Mapping[str, str]) -> str:
    """Why these cannot be the labels of a check, at the label: they stand in no file."""
    for name, text in labels.items():
        if len(name) > LONGEST_LABEL_NAME or not re.fullmatch(LABEL_PATTERN, name):
            return f"{shown_key(name)} cannot be a label: {KEY_RULES['labels']}; rename or drop it by a rule"
        if not storable(text):
            return f"the label {shown_key(name)} is not text"
        if len(text) > LONGEST_LABEL:
            return f"the label {shown_key(name)} has more than {LONGEST_LABEL} characters; drop it by a rule"
    return f"more than {MOST_LABELS} labels; drop some by a rule" if len(labels) > MOST_LABELS else ""


def _type_of(entry: Entry) -> str:
    assert isinstance(entry.value.value, dict)  # noqa: S101 - it was made whole before
    return str(entry.value.value["type"].value.value)


def _only(defaults: Sequence[Entry], source: Source) -> Sections:
    """The same defaults for the same file, without what else the configuration declares."""
    depths = [source.depth[:length] for length in range(len(source.depth), -1, -1)]
    sections = Sections(merged={})
    for number, entry in enumerate(defaults):
        if number == 0:
            sections.defaults[source.shown] = entry
        else:
            sections.folders[depths[number - 1]] = entry
    return sections


def named_service(entry: Entry, defaults: Sequence[Entry]) -> str | None:
    """The service as it is written: the check's own word goes before its defaults'."""
    layers = [layer.value.value for layer in (entry, *defaults) if isinstance(layer.value.value, dict)]
    named = next((layer["service"].value.value for layer in layers if "service" in layer), None)
    return named if isinstance(named, str) else None


def _concerned(checks: Checks, entry: Entry, defaults: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The services that the checks may belong to: one, or any where a target names it."""
    named = named_service(entry, defaults)
    known = {name: checks.service_defaults.get(name, []) for name in checks.services}
    if named is not None and "${" not in named:
        return {named: known[named]} if named in known else {}
    return known if named is not None else {}


def texts_of(node: Node) -> Iterator[str]:
    if isinstance(node.value, str):
        yield node.value
    elif isinstance(node.value, dict):
        for entry in node.value.values():
            yield from texts_of(entry.value)
    elif isinstance(node.value, list):
        for item in node.value:
            yield from texts_of(item)
