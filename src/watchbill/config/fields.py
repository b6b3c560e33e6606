"""What keys a declared model has, by the names a person writes; for suggestions, the schema and the documentation."""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel, SecretStr

from watchbill.domain.checks import CHECK_TYPES, TYPE_NAMES
from watchbill.domain.config import Config
from watchbill.domain.fields import CheckFields
from watchbill.domain.json_rules import JsonSchema
from watchbill.domain.rules import Comparison

INTERNAL = frozenset({"id", "references", "interpolated"})
"""Fields of a check that the loader fills in; the id is the mapping key."""
NOT_WRITTEN: tuple[type[BaseModel], ...] = (Comparison, JsonSchema)
"""Models that are written as text or as a foreign document, never key by key."""
CHECK_MODELS: Mapping[str, type[CheckFields]] = dict(zip(TYPE_NAMES, CHECK_TYPES, strict=True))
SECTIONS = ("version", "defaults", *(name for name in Config.model_fields if name != "version"))


@cache
def keys_of(model: type[BaseModel]) -> Mapping[str, Any]:
    """Written key -> annotation, in the order of declaration."""
    hidden = INTERNAL if issubclass(model, CheckFields) else frozenset()
    return {
        field.alias or name: field.annotation
        for name, field in model.model_fields.items()
        if name not in hidden
    }


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a value of this annotation may hold, looking through optionals, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None if annotation in NOT_WRITTEN else annotation
    for argument in reversed(get_args(annotation)):
        found = model_in(argument)
        if found is not None:
            return found
    return None


def model_at(model: type[BaseModel], path: Iterable[str | int]) -> type[BaseModel]:
    """The model of the mapping at ``path`` under ``model``; names of mapping entries are passed over."""
    for part in path:
        annotation = keys_of(model).get(str(part))
        model = (model_in(annotation) if annotation is not None else None) or model
    return model


@cache
def secret_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys whose values, or the values in them, are secrets."""
    return tuple(key for key, annotation in keys_of(model).items() if _mentions(annotation, SecretStr))


def _mentions(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_mentions(part, kind) for part in get_args(annotation))


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean `timeout`?``, or nothing where no known name is near."""
    by_lower = {one.lower(): one for one in islice(known, 2000)}
    close = difflib.get_close_matches(name[:100].lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean `{by_lower[close[0]]}`?" if close else ""


@cache
def documented(model: type[BaseModel]) -> Mapping[str, str]:
    """What the text under each field of a model (and of those it extends) says of it, by written key."""
    told: dict[str, str] = {}
    for origin in reversed(model.__mro__):
        if issubclass(origin, BaseModel) and origin is not BaseModel:
            told |= _texts(origin)
    return {field.alias or name: told[name] for name, field in model.model_fields.items() if name in told}


def _texts(model: type[BaseModel]) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - the source of a class
    texts = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                texts[name] = " ".join(words.split())
    return texts
