"""``discover:``: each block validated as far as it is known before there are targets, and its template kept for them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pydantic import SecretStr, ValidationError

from watchbill.config.checks import Checks
from watchbill.config.expansion import Expanded
from watchbill.config.interpolation import ANY_EACH
from watchbill.config.mistakes import KEY_RULES, Explained, described
from watchbill.config.nodes import Entry, Mapping, Node, shown_key
from watchbill.config.plain import Plain, verbatim
from watchbill.config.templates import Kept
from watchbill.config.validation import validated
from watchbill.domain.checks import Check
from watchbill.domain.discovery import Discovery, Template
from watchbill.domain.errors import Problem
from watchbill.domain.fields import ID_PATTERN
from watchbill.domain.specs import masked_spec

MOST_BLOCKS = 200
LONGEST_NAME = 100
_STAND_IN = "stand-in"


@dataclass(slots=True)
class Blocks:
    """Collects blocks, their templates and their problems. ``checks``: how checks are made whole here."""

    checks: Checks
    problems: list[Problem] = field(default_factory=list)
    blocks: dict[str, Discovery] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)

    def add(self, name: str, entry: Entry) -> None:
        path = f"discover.{name}"
        if len(self.blocks) >= MOST_BLOCKS:
            self.problems.append(
                entry.key.problem(f"more than {MOST_BLOCKS} blocks of discover; declare fewer", path)
            )
        elif not re.fullmatch(ID_PATTERN, name) or len(name) > LONGEST_NAME:
            message = f"{shown_key(name)} cannot be a block of discover: {KEY_RULES['checks']}, in at most {LONGEST_NAME} characters"
            self.problems.append(entry.key.problem(message, path))
        elif not isinstance(entry.value.value, dict):
            message = f"a block of discover must be a mapping such as {{file_sd: ..., check: ...}}, got {described(entry.value)}"
            self.problems.append(entry.value.problem(message, path))
        else:
            self._block(name, entry, entry.value.value, path)

    def _block(self, name: str, entry: Entry, fields: Mapping, path: str) -> None:
        template = self._template(name, fields["check"]) if "check" in fields else None
        block = self._declared(entry, fields, path, template[0] if template else None)
        if block is not None and template is not None:
            self.blocks[name] = block
            kept = Kept.of(name, block, fields["check"], template[1])
            self.templates[name] = kept.template()

    def _template(self, name: str, entry: Entry) -> tuple[Check, Checks] | None:
        """The check with its references, and what was needed to make it; ``None`` where it is not valid."""
        checks = self.checks.for_a_template()
        at = f"{name}.check"
        model = checks.model_of(at, entry)
        if model is not None and "for_each" in cast("Mapping", entry.value.value):
            for_each = cast("Mapping", entry.value.value)["for_each"].key
            message = "the check of a block has no for_each: it is made once for each target"
            checks.problems.append(for_each.problem(message, f"discover.{at}.for_each"))
        elif model is not None:
            checks.one(at, entry, Expanded(_STAND_IN, ANY_EACH, entry.key), model)
        self.problems += checks.problems
        if checks.problems or _STAND_IN not in checks.checks:
            return None
        return checks.checks[_STAND_IN], checks

    def _declared(self, entry: Entry, fields: Mapping, path: str, check: Check | None) -> Discovery | None:
        plain = Plain(self.checks.values)
        rest = {key: value for key, value in fields.items() if key not in ("check", "relabel", "id")}
        declared = plain.mapping(_like(entry.value, rest))
        problems = [replace(problem, key=f"{path}.{problem.key}") for problem in plain.problems]
        problems += self._id(fields, path)
        declared |= {key: verbatim(fields[key].value) for key in ("relabel", "id") if key in fields}
        if "check" in fields:  # what is wrong with it has been said
            declared["check"] = masked_spec(check) if check is not None else {}
        result = validated(Discovery, declared, plain, self.checks.context(entry))
        if isinstance(result, ValidationError):
            tainted = {id(found.node): found.text for found in plain.found.values()}
            problems += Explained(entry.value, entry.key, Discovery, path, tainted).problems(result)
        else:
            problems += _secrets_in_sight(plain, result, path)
        self.problems += problems
        return None if isinstance(result, ValidationError) or problems else result

    def _id(self, fields: Mapping, path: str) -> list[Problem]:
        if "id" not in fields or not isinstance(fields["id"].value.value, str):
            return []
        node = fields["id"].value
        text = self.checks.values.interpolate(str(node.value), folder=node.source.folder, each=ANY_EACH)
        found = [node.problem(problem, f"{path}.id") for problem in text.problems]
        if any(part.secret for part in text.parts):
            found.append(node.problem("an id cannot be a secret", f"{path}.id"))
        return found


def _like(node: Node, mapping: Mapping) -> Node:
    return Node(mapping, node.source, node.line, node.column)


def _secrets_in_sight(plain: Plain, block: Discovery, path: str) -> list[Problem]:
    """Secrets stand in fields that are secrets: everything else of a block is shown."""
    return [
        found.node.problem(
            f"{where} is shown and cannot hold a secret ({found.text.references})", f"{path}.{where}"
        )
        for where, found in plain.found.items()
        if any(part.secret for part in found.text.parts) and not isinstance(_at(block, where), SecretStr)
    ]


def _at(block: Discovery, path: str) -> Any:
    value: Any = block
    for name in path.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, tuple):
            value = value[int(name)] if int(name) < len(value) else None
        else:
            value = getattr(value, name, None)
    return value
