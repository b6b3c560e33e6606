"""Sections into a ``Config``: services and their defaults first, then checks, then what refers to checks."""

from __future__ import annotations

import re
from collections.abc import Collection
from collections.abc import Mapping as Map
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from watchbill.config.blocks import Blocks
from watchbill.config.checks import MOST_MISSES, Checks
from watchbill.config.documents import Sections
from watchbill.config.fields import CHECK_MODELS, keys_of, secret_fields, suggestion
from watchbill.config.interpolation import ANY_EACH, Values
from watchbill.config.mistakes import KEY_RULES, Explained, described
from watchbill.config.nodes import Entry, Mapping, Node, shown_key
from watchbill.config.objectives import MOST_SLOS, Selection
from watchbill.config.plain import Plain
from watchbill.config.samples import samples
from watchbill.config.validation import validated
from watchbill.domain.config import Config, Defaults, Limits, MetricsOptions, StorageOptions
from watchbill.domain.discovery import Discovery, Template
from watchbill.domain.errors import Problem
from watchbill.domain.fields import ID_PATTERN, Service
from watchbill.domain.objectives import Slo
from watchbill.domain.otlp import OtlpOptions

M = TypeVar("M", bound=BaseModel)
MOST_SERVICES = 20_000


@dataclass(frozen=True, slots=True)
class Assembled:
    """``config`` is ``None`` where there are problems. ``templates``: for each block of ``discover``."""

    config: Config | None
    templates: Map[str, Template]
    problems: list[Problem]


def assemble(sections: Sections, values: Values) -> Assembled:
    """The configuration, or why there is none."""
    assembly = _Assembly(sections, values)
    config = assembly.run()
    return Assembled(None if assembly.problems else config, assembly.templates, assembly.problems)


@dataclass(slots=True)
class _Assembly:
    sections: Sections
    values: Values
    problems: list[Problem] = field(default_factory=list)
    service_defaults: dict[str, list[Entry]] = field(default_factory=dict)
    templates: Map[str, Template] = field(default_factory=dict)

    def run(self) -> Config | None:
        for entry in self.sections.defaults.values():
            self._defaults(entry, "defaults", keys_of(Defaults))
        services = {
            name: self._service(name, entry) for name, entry in self._few("services", MOST_SERVICES).items()
        }
        limits = self._options("limits", Limits)
        checks = self._checks(services, limits or Limits())
        moved = self._moved(checks.ids)
        discover = self._discover(checks)
        storage, metrics = self._options("storage", StorageOptions), self._options("metrics", MetricsOptions)
        slos = self._slos(services, self._selection(checks), metrics)
        otlp = self._otlp(checks)
        if self.problems or storage is None or metrics is None or limits is None:
            return None
        # Every part is a valid model already, so nothing is left to validate but what is shared by all.
        return Config.model_construct(
            version=1,
            services={name: service for name, service in services.items() if service},
            checks=checks.checks,
            moved=moved,
            slos=slos,
            discover=discover,
            storage=storage,
            metrics=metrics,
            limits=limits,
            otlp=otlp,
        )

    def _few(self, section: str, most: int) -> Mapping:
        """What the section declares, or nothing where that is more than can be looked at."""
        declared = self.sections.merged[section]
        if len(declared) <= most:
            return declared
        few = dict(islice(declared.items(), most + 1))
        last = next(reversed(few.values())).key
        self.problems.append(last.problem(f"more than {most:,} {section}; declare fewer", section))
        return {}

    def _checks(self, services: Collection[str], limits: Limits) -> Checks:
        checks = Checks(
            self.sections,
            self.values,
            services=services,
            service_defaults=self.service_defaults,
            min_interval=limits.min_interval,
        )
        for check_id, entry in self.sections.merged["checks"].items():
            checks.add(check_id, entry)
        self.problems += checks.problems
        return checks

    def _discover(self, checks: Checks) -> dict[str, Discovery]:
        blocks = Blocks(checks)
        for name, entry in self.sections.merged["discover"].items():
            blocks.add(name, entry)
        self.problems += blocks.problems
        self.templates = blocks.templates
        return blocks.blocks

    def _defaults(self, entry: Entry, path: str, keys: Collection[str]) -> None:
        """Validate defaults where they stand, and leave out what is wrong, so that no check repeats it."""
        mapping = entry.value.value
        if not isinstance(mapping, dict):
            message = f"defaults must be a mapping, got {described(entry.value)}"
            self.problems.append(entry.value.problem(message, path))
            return
        found = []
        for name in list(mapping):
            if problem := _misplaced(name, mapping[name], f"{path}.{name}", keys):
                found.append(problem)
                del mapping[name]
        found += self._validate(Defaults, entry, path, each=ANY_EACH)[1]
        for problem in found:
            mapping.pop(problem.key.removeprefix(f"{path}.").split(".")[0], None)
        self.problems += found

    def _service(self, name: str, entry: Entry) -> Service | None:
        path = f"services.{name}"
        if not re.fullmatch(ID_PATTERN, name):
            message = f"{shown_key(name)} cannot be a service: {KEY_RULES['checks']}"
            self.problems.append(entry.key.problem(message, path))
        layers = self.service_defaults.setdefault(name, [])
        if isinstance(entry.value.value, dict):
            fields = dict(entry.value.value)
            if "defaults" in fields:
                defaults = fields.pop("defaults")
                keys = [key for key in keys_of(Defaults) if key != "service"]
                self._defaults(defaults, f"{path}.defaults", keys)
                layers.append(defaults)
            entry = Entry(entry.key, _like(entry.value, fields))
        service, problems = self._validate(Service, entry, path, known=("defaults",))
        self.problems += problems
        labels = _mapping(entry).get("labels")
        # What is wrong with them has been said here, and no check repeats it.
        if labels is not None and not any(each.key.startswith(f"{path}.labels") for each in problems):
            layers.append(Entry(entry.key, _like(entry.value, {"labels": labels})))
        return service

    def _otlp(self, checks: Checks) -> OtlpOptions | None:
        mapping = self.sections.merged["otlp"]
        if not mapping:
            return None
        names_files = mapping.get("tls", next(iter(mapping.values())))
        return self._options("otlp", OtlpOptions, checks.context(names_files))

    def _options(self, name: str, model: type[M], context: Map[str, object] | None = None) -> M | None:
        mapping = self.sections.merged[name]
        if not mapping:
            return model()
        key = next(iter(mapping.values())).key
        options, problems = self._validate(model, Entry(key, _like(key, mapping)), name, context=context)
        self.problems += problems
        return options

    def _validate(
        self,
        model: type[M],
        entry: Entry,
        path: str,
        *,
        each: Map[str, str] | None = None,
        known: tuple[str, ...] = (),
        context: Map[str, object] | None = None,
    ) -> tuple[M | None, list[Problem]]:
        if not isinstance(entry.value.value, dict):
            message = f"{path.rpartition('.')[2]} must be a mapping, got {described(entry.value)}"
            return None, [entry.value.problem(message, path)]
        plain = Plain(self.values, each)
        declared = plain.mapping(entry.value)
        problems = [replace(problem, key=f"{path}.{problem.key}") for problem in plain.problems]
        problems += _secrets(plain, path, secret_fields(model))
        result = validated(model, declared, plain, context)
        if isinstance(result, ValidationError):
            tainted = {id(found.node): found.text for found in plain.found.values()}
            explained = Explained(entry.value, entry.key, model, path, tainted, known)
            return None, problems + explained.problems(result)
        return result, problems

    def _selection(self, checks: Checks) -> Selection | None:
        """What blocks of discovery will make can be selected too, as far as it is known."""
        incomplete = len(self.templates) < len(self.sections.merged["discover"])
        if checks.problems or incomplete or not self.sections.merged["slos"]:
            return None
        return Selection(checks.checks, samples(self.templates))

    def _slos(
        self, services: Collection[str], selection: Selection | None, metrics: MetricsOptions | None
    ) -> dict[str, Slo]:
        """``selection``: nothing while there are mistakes in checks or blocks, of which an objective would only repeat some."""
        slos = {}
        for name, entry in self._few("slos", MOST_SLOS).items():
            path = f"slos.{name}"
            if not re.fullmatch(ID_PATTERN, name):
                message = f"{shown_key(name)} cannot be the id of an objective: {KEY_RULES['checks']}"
                self.problems.append(entry.key.problem(message, path))
            slo, problems = self._validate(Slo, entry, path)
            self.problems += problems
            if slo is None or selection is None or metrics is None:
                continue
            explained = Explained(entry.value, entry.key, Slo, path)
            for place, message in selection.mistakes(slo, services=services, buckets=metrics.buckets):
                self.problems.append(explained.problem(place, message))
            slos[name] = slo
        return slos

    def _moved(self, ids: Collection[str]) -> dict[str, str]:
        declared = self.sections.merged["moved"]
        moved: dict[str, str] = {}
        for old, entry in declared.items():
            plain = Plain(self.values)
            new = plain.mapping(_like(entry.key, {old: entry}))[old]
            near = ids if len(self.problems) < MOST_MISSES else ()
            found = plain.problems + _secrets(plain, "moved") or _move_problems(
                old, new, entry, ids, declared, near=near
            )
            self.problems += [replace(problem, key=f"moved.{old}") for problem in found]
            if not found:
                moved[old] = new
        self.problems += _cycles(moved, declared)
        return moved


def _mapping(entry: Entry) -> Mapping:
    return entry.value.value if isinstance(entry.value.value, dict) else {}


def _like(node: Node, mapping: Mapping) -> Node:
    return Node(mapping, node.source, node.line, node.column)


def _misplaced(name: str, entry: Entry, where: str, keys: Collection[str]) -> Problem | None:
    """What defaults cannot hold though a check can."""
    types = [kind for kind, model in CHECK_MODELS.items() if name in keys_of(model)]
    if name in keys:
        return (
            entry.value.problem(f"{name} has no value; give it one, or leave it out", where)
            if entry.value.value is None
            else None
        )
    if name in keys_of(Defaults):
        return entry.key.problem(f"the defaults of a service cannot name a {name}", where)
    if not types:
        return None
    why = "each check names its own" if name == "type" else f"`{name}` belongs to {', '.join(types)}"
    return entry.key.problem(f"defaults take what every check has ({', '.join(keys)}); {why}", where)


def _secrets(plain: Plain, path: str, fields: Collection[str] = ()) -> list[Problem]:
    """Where a secret stands outside of the ``fields`` that hold one."""
    who = f"only `{path}.{'` and `'.join(fields)}`" if fields else "only a check"
    return [
        found.node.problem(f"{who} can use a secret ({found.text.references})", f"{path}.{where}")
        for where, found in plain.found.items()
        if any(part.secret for part in found.text.parts) and where.partition(".")[0] not in fields
    ]


def _move_problems(
    old: str,
    new: object,
    entry: Entry,
    ids: Collection[str],
    declared: Map[str, Entry],
    *,
    near: Collection[str],
) -> list[Problem]:
    """``near``: the ids that a suggestion may come from."""
    if not isinstance(new, str):
        return [entry.value.problem(f"moved takes an id, got {described(entry.value)}")]
    if not re.fullmatch(ID_PATTERN, old):
        return [entry.key.problem(f"{shown_key(old)} cannot be an id: {KEY_RULES['checks']}")]
    if old == new:
        return [entry.value.problem(f"{shown_key(old)} moves to itself")]
    if old in ids:
        message = f"check {shown_key(old)} is still declared; moved names an id that is gone"
        return [entry.key.problem(message)]
    if new in ids or new in declared or "${" in new:
        return []
    return [entry.value.problem(f"no check {shown_key(new)} is declared{suggestion(new, near)}")]


def _cycles(moved: Map[str, str], declared: Map[str, Entry]) -> list[Problem]:
    found, seen = [], set[str]()
    for start in moved:
        trail: dict[str, None] = {}
        name: str | None = start
        while name is not None and name not in seen:
            seen.add(name)
            trail[name] = None
            name = moved.get(name)
        if name is not None and name in trail:
            ring = list(trail)[list(trail).index(name) :]
            message = f"moved runs in a circle: {' -> '.join((*ring, name))}"
            found.append(declared[name].key.problem(message, f"moved.{name}"))
    return found
