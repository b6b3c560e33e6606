"""Declared checks made whole: defaults merged in, for_each expanded, references resolved, validated."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pydantic import ValidationError

from watchbill.config.documents import Sections
from watchbill.config.expansion import MOST_ID_CHARACTERS, Expanded, expand
from watchbill.config.fields import CHECK_MODELS, INTERNAL, suggestion
from watchbill.config.files import UnreadableError, read_regular
from watchbill.config.interpolation import Interpolated, Values
from watchbill.config.mistakes import KEY_RULES, Explained, described, unknown_key
from watchbill.config.nodes import CHARACTERS_OF_A_VALUE, Entry, Mapping, Node, shown_key
from watchbill.config.plain import Plain
from watchbill.config.references import SHOWN_FIELDS, split_userinfo, with_references
from watchbill.config.validation import validated
from watchbill.domain.checks import TYPE_NAMES, Check
from watchbill.domain.effort import Effort
from watchbill.domain.errors import MOST_PROBLEMS, Problem
from watchbill.domain.fields import ID_PATTERN, CheckFields
from watchbill.domain.units import format_duration, parse_duration

MOST_CHECKS = 100_000
MOST_ADDED = 750_000
"""Values that for_each, defaults and files of JSON Schemas add to those that are written: what bounds the time that loading takes."""
VALUES_OF_A_COPY = 16
"""As many values as another check takes the time of, beside its own."""
MOST_KEYS = 200
"""Of one check, none of which has as many; so that thousands of unknown ones are one mistake."""
MOST_REFERENCES = 200
"""In one check."""
MOST_MISSES = 50
"""How many unknown services get a suggestion: to search thousands of names takes a while."""
LONGEST_PATH = 200
"""As it is quoted in a message."""
MOST_NAMED_BYTES = 4 << 20
"""Of a file that a check names: a JSON Schema, a certificate, a key."""


@dataclass(slots=True)
class Checks:
    """Collects checks and their problems. ``service_defaults``: the nearest first, by service id."""

    sections: Sections
    values: Values
    services: Iterable[str]
    service_defaults: dict[str, list[Entry]]
    min_interval: Any
    section: str = "checks"
    texts: dict[str, str] = field(default_factory=dict)
    """What files that checks name hold, one text however many name it."""
    looks: bool = True
    """Off: files are taken as they were found when ``texts`` was read, none is looked at."""
    problems: list[Problem] = field(default_factory=list)
    checks: dict[str, Check] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    """Every id that was declared, valid or not."""
    _declared: int = 0
    _added: int = 0
    _full: str = ""
    """Why no more checks are looked at."""
    _effort: Effort = field(default_factory=Effort)
    _missed: dict[str, str] = field(default_factory=dict)
    _places: dict[str, Node] = field(default_factory=dict)
    _layers: dict[tuple[str, str], Mapping] = field(default_factory=dict)

    def for_a_template(self) -> Checks:
        """For one check of ``discover``, which stands beside those that are declared."""
        return Checks(
            self.sections,
            self.values,
            self.services,
            self.service_defaults,
            self.min_interval,
            section="discover",
            _effort=self._effort,
        )

    def add(self, check_id: str, entry: Entry) -> None:
        """Every check that one declaration stands for."""
        self.ids.add(check_id)
        if len(self.problems) >= MOST_PROBLEMS:
            return
        model = self.model_of(check_id, entry)
        if model is None:
            return
        for copy, expanded in enumerate(expand(check_id, entry, self.values, self.problems)):
            if len(self.problems) >= MOST_PROBLEMS or not self._room(entry, copy):
                return
            self.ids.add(expanded.id)
            self.one(check_id, entry, expanded, model)

    def model_of(self, check_id: str, entry: Entry) -> type[CheckFields] | None:
        """Of which kind it is; ``None`` where it is no check at all, which is a problem then."""
        if not isinstance(entry.value.value, dict):
            message = f"a check must be a mapping such as {{type: tcp, ...}}, got {described(entry.value)}"
            self.problems.append(entry.value.problem(message, f"{self.section}.{check_id}"))
            return None
        model = self._model(check_id, entry)
        if model is not None and len(entry.value.value) > MOST_KEYS:
            message = f"a check has at most {MOST_KEYS} keys, not {len(entry.value.value):,}"
            self.problems.append(entry.key.problem(message, f"{self.section}.{check_id}"))
            return None
        return model

    def _room(self, entry: Entry, copy: int) -> bool:
        """Whether one more fits; the first that does not says so."""
        if self._full:
            return False
        self._declared += 1
        for_each = _mapping(entry).get("for_each")
        if for_each is not None and copy:
            self._added += VALUES_OF_A_COPY + entry.value.size - for_each.value.size
        if self._declared > MOST_CHECKS:
            self._full = f"more than {MOST_CHECKS:,} checks; split them between several exporters"
        elif self._added > MOST_ADDED:
            self._full = f"for_each, defaults and JSON Schemas add more than {MOST_ADDED:,} values to all checks together; declare fewer"
        if self._full:
            self.problems.append(entry.key.problem(self._full, "checks"))
        return not self._full

    def _model(self, check_id: str, entry: Entry) -> type[CheckFields] | None:
        assert isinstance(entry.value.value, dict)  # noqa: S101 - add has looked
        declared = entry.value.value.get("type")
        path = f"{self.section}.{check_id}.type"
        if declared is None:
            message = f"`type` is missing; it is one of {', '.join(TYPE_NAMES)}"
            self.problems.append(entry.key.problem(message, path))
            return None
        kind = declared.value.value
        if isinstance(kind, str) and kind in CHECK_MODELS:
            return CHECK_MODELS[kind]
        got = kind if isinstance(kind, str) and len(kind) <= 40 else described(declared.value)
        hint = suggestion(kind, TYPE_NAMES) if isinstance(kind, str) else ""
        message = f"type must be one of {', '.join(TYPE_NAMES)}, got {got}{hint}"
        self.problems.append(declared.value.problem(message, path))
        return None

    def one(self, check_id: str, entry: Entry, expanded: Expanded, model: type[CheckFields]) -> None:
        """The check that a declaration is for one combination, or one target."""
        plain = Plain(self.values, expanded.each)
        own = entry.value.value
        assert isinstance(own, dict)  # noqa: S101 - add has looked
        service = self._service(own, entry, plain)
        node = self._merged(own, entry.value, service)
        plain.problems.clear()
        declared = plain.mapping(node)
        path = f"{self.section}.{check_id}"
        found = [replace(problem, key=f"{path}.{problem.key}") for problem in plain.problems]
        if len(plain.found) > MOST_REFERENCES:
            message = (
                f"a check holds at most {MOST_REFERENCES} values with references, not {len(plain.found):,}"
            )
            self.problems += [*found, entry.key.problem(message, path)]
            return
        found += self._internal(own, model, path) + _secrets_in_sight(plain, path)
        if expanded.labels:
            declared["labels"] = _with_those_of_the_target(declared.get("labels", {}), expanded, own)
        for name in INTERNAL & declared.keys():
            del declared[name]
        userinfo = split_userinfo(declared, plain) if model is CHECK_MODELS["http"] else {}
        bad = _bad_id(expanded, path)
        found += bad
        declared["id"] = "stand-in" if bad else expanded.id
        at = Entry(entry.key, node)
        result = validated(model, declared, plain, self.context(entry))
        explained = Explained(node, entry.key, model, path, _tainted(plain))
        found += self._undeclared_service(node, service, path)
        if isinstance(result, ValidationError):
            found += explained.problems(result)
            # What is wrong with one field must not hide what is wrong between interval and timeout.
            timing = _timing(declared)
            found += (
                explained.problems(timing)
                if isinstance(timing, ValidationError)
                else self._too_often(timing, at, path, plain)
            )
            found = [_near_the_check(problem, own) for problem in found]
        else:
            found += self._too_often(result, at, path, plain)
            if result.id == expanded.id:
                self._keep(with_references(cast("Check", result), plain, userinfo), expanded)
        self.problems += found

    def _keep(self, check: Check, expanded: Expanded) -> None:
        first = self._places.get(check.id)
        if first is not None:
            for one, other in ((first, expanded.place), (expanded.place, first)):
                where = f"{other.source.shown}:{other.line}:{other.column}"
                message = f"check {shown_key(check.id)} is declared twice, also at {where}"
                self.problems.append(one.problem(message, f"checks.{check.id}"))
            return
        self._places[check.id] = expanded.place
        self.checks[check.id] = check

    def _service(self, own: Mapping, entry: Entry, plain: Plain) -> str:
        """The id of the service that the check belongs to, from the check or the nearest defaults."""
        layers = [own, *(_mapping(layer) for layer in self.sections.defaults_for(entry.key.source))]
        for layer in layers:
            declared = layer.get("service")
            if declared is not None:
                value = plain.mapping(Node({"service": declared}, entry.key.source, 1, 1))["service"]
                found = plain.found.get("service")
                hidden = found is not None and any(part.secret for part in found.text.parts)
                return value if isinstance(value, str) and not hidden else ""
        return ""

    def _merged(self, own: Mapping, node: Node, service: str) -> Node:
        layer = self._layer(service, node)
        self._added += sum(entry.value.size for entry in layer.values())
        merged = {**layer, **own}
        merged.pop("for_each", None)
        if "labels" in own and "labels" in layer:
            merged["labels"] = _with_labels(own["labels"], layer["labels"])
        return Node(merged, node.source, node.line, node.column)

    def _layer(self, service: str, node: Node) -> Mapping:
        """The defaults of service, file and folders as one mapping, the nearest winning."""
        slot = (service, node.source.shown)
        if slot not in self._layers:
            layer: Mapping = {}
            entries = [*self.service_defaults.get(service, ()), *self.sections.defaults_for(node.source)]
            for entry in entries:
                for name, value in _mapping(entry).items():
                    if name == "labels" and name in layer:
                        layer[name] = _with_labels(layer[name], value)
                    else:
                        layer.setdefault(name, value)
            self._layers[slot] = layer
        return self._layers[slot]

    def _internal(self, own: Mapping, model: type[CheckFields], path: str) -> list[Problem]:
        return [
            own[name].key.problem(
                "the id of a check is its key under checks; leave it out here"
                if name == "id"
                else unknown_key(name, model),
                f"{path}.{name}",
            )
            for name in INTERNAL & own.keys()
        ]

    def context(self, entry: Entry) -> dict[str, Any]:
        """What validating what stands there asks for."""
        folder = entry.key.source.folder
        return {"resolve": self._resolver(folder), "read": self._reader(folder), "effort": self._effort}

    def _resolver(self, folder: str) -> Callable[[str], str]:
        def resolve(path: str) -> str:
            whole = _join(folder, path)
            self._refuse_each(path)
            if self.looks and "${" not in path and whole not in self.values.named:
                _bytes(self.values.real(whole), path)
                self.values.named.add(whole)
            return whole

        return resolve

    def _reader(self, folder: str) -> Callable[[str], str]:
        def read(path: str) -> str:
            self._refuse_each(path)
            if "${" in path:
                return "{}"
            whole = _join(folder, path)
            self.values.named.add(whole)
            if whole not in self.texts:
                self.texts[whole] = _text(self.values.real(whole), path)
            self._added += len(self.texts[whole]) // CHARACTERS_OF_A_VALUE
            return self.texts[whole]

        return read

    def _refuse_each(self, path: str) -> None:
        if "${each." in path and self.section != "checks":  # elsewhere it has been said already
            raise ValueError(
                "the name of a file cannot hold ${each...}: it is read with the configuration, before there are targets"
            )

    def _too_often(self, check: CheckFields, at: Entry, path: str, plain: Plain) -> list[Problem]:
        declared = plain.found.get("interval")
        unknown = declared is not None and declared.text.unresolved
        if unknown or check.interval >= self.min_interval:
            return []
        fields = _mapping(at)
        place = fields["interval"].value if "interval" in fields else at.key
        shown = format_duration(check.interval)
        message = f"interval must be at least {format_duration(self.min_interval)} (limits.min_interval), got {shown}"
        return [place.problem(message, f"{path}.interval")]

    def _undeclared_service(self, node: Node, service: str, path: str) -> list[Problem]:
        if not service or service in self.services or "${" in service:
            return []
        message = f"service {shown_key(service)} is not declared under services"
        place = _mapping(Entry(node, node))["service"].value
        if service not in self._missed:
            known = self.services if len(self._missed) < MOST_MISSES else ()
            self._missed[service] = suggestion(service, known)
        return [place.problem(message + self._missed[service], f"{path}.service")]


def _bad_id(expanded: Expanded, path: str) -> list[Problem]:
    if re.fullmatch(ID_PATTERN, expanded.id) and len(expanded.id) <= MOST_ID_CHARACTERS:
        return []
    message = f"{shown_key(expanded.id)} cannot be an id: {KEY_RULES['checks']}, in at most {MOST_ID_CHARACTERS} characters"
    return [expanded.place.problem(message, path)]


def _mapping(entry: Entry) -> Mapping:
    return entry.value.value if isinstance(entry.value.value, dict) else {}


def _with_labels(near: Entry, far: Entry) -> Entry:
    """Labels merge key by key; anything that is no mapping stays as it is, for validation to name."""
    if not isinstance(near.value.value, dict) or not isinstance(far.value.value, dict):
        return near
    node = near.value
    return Entry(near.key, Node({**far.value.value, **near.value.value}, node.source, node.line, node.column))


def _with_those_of_the_target(labels: Any, expanded: Expanded, own: Mapping) -> Any:
    """What the check itself declares wins over its target's, and those over all defaults."""
    if not isinstance(labels, dict):
        return labels
    written = _mapping(own["labels"]) if "labels" in own else {}
    return {**labels, **{name: text for name, text in expanded.labels.items() if name not in written}}


def _join(folder: str, path: str) -> str:
    return os.path.normpath(os.path.join(folder, path))  # noqa: PTH118 - text in, text out


def _bytes(real: str, path: str) -> bytes:
    try:
        return read_regular(real, MOST_NAMED_BYTES)
    except UnreadableError as error:
        raise ValueError(f"the file {_short(path)} {error}") from None


def _text(real: str, path: str) -> str:
    try:
        return _bytes(real, path).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"the file {_short(path)} is not UTF-8 text") from None


def _short(path: str) -> str:
    return path if len(path) <= LONGEST_PATH else f"{path[: LONGEST_PATH - 1]}…"


def _secrets_in_sight(plain: Plain, path: str) -> list[Problem]:
    return [
        found.node.problem(
            f"{where} is shown in metrics and pages and cannot hold a secret ({found.text.references})",
            f"{path}.{where}",
        )
        for where, found in plain.found.items()
        if where.split(".")[0] in SHOWN_FIELDS and any(part.secret for part in found.text.parts)
    ]


def _tainted(plain: Plain) -> dict[int, Interpolated]:
    return {id(found.node): found.text for found in plain.found.values() if found.text.referenced}


def _timing(declared: dict[str, Any]) -> CheckFields | ValidationError:
    valid: dict[str, Any] = {"id": "stand-in"}
    for name in ("interval", "timeout"):
        try:
            valid[name] = parse_duration(declared[name])
        except (KeyError, ValueError):
            continue
    return validated(CheckFields, valid, Plain(Values({})))


def _near_the_check(problem: Problem, own: Mapping) -> Problem:
    """A timeout from defaults that a check's own interval does not allow is the check's mistake."""
    name = problem.key.rpartition(".")[2]
    if name == "timeout" and "timeout" not in own and "interval" in own:
        where = f"{problem.path}:{problem.line}"
        place = own["interval"].value
        return place.problem(f"{problem.message}; that timeout is a default ({where})", problem.key)
    return problem
