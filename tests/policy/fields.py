"""Every field that can be declared, found by walking the models, so that none can be forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from watchbill.config.fields import INTERNAL
from watchbill.domain.checks import CHECK_TYPES
from watchbill.domain.config import Config

TELLING = re.compile("pass|secret|token|key|auth|cred", re.IGNORECASE)
NO_SECRETS: Mapping[str, str] = {
    "KubernetesSd.token_file": "the path of a token, which is read for each request and shown to the API alone",
    "TlsOptions.key_file": "the path of a key, which is read by the TLS library and shown nowhere",
}
"""Fields that sound like secrets -> why they are of another type."""


_MODELS: tuple[type[BaseModel], ...] = (*CHECK_TYPES, Config)


class Leaf(NamedTuple):
    """A field that holds a value: ``headers.*``, ``expect.body.contains.*``."""

    model: str
    path: str
    type: Any

    @property
    def secret(self) -> bool:
        return self.type is SecretStr


def leaves(model: type[BaseModel]) -> list[Leaf]:
    """What a person can write under one check type, deeper models included."""
    found: dict[str, Leaf] = {}
    for leaf in _within(model, ""):
        if leaf.type is str or leaf.path not in found:  # of a union, text is what can hold anything
            found[leaf.path] = leaf
    return [leaf for path, leaf in found.items() if path.partition(".")[0] not in INTERNAL]


def _within(model: type[BaseModel], prefix: str) -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        yield from _typed(model.__name__, f"{prefix}{field.alias or name}", field.annotation)


def _typed(model: str, path: str, annotation: Any) -> Iterator[Leaf]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _within(annotation, f"{path}.")
    elif origin is Annotated:
        yield from _typed(model, path, arguments[0])
    elif origin in (Union, UnionType):
        for each in arguments:
            yield from _typed(model, path, each)
    elif origin is dict:
        yield from _typed(model, f"{path}.*", arguments[1])
    elif origin in (tuple, list):
        yield from _typed(model, f"{path}.*", arguments[0])
    elif origin is Literal:
        yield Leaf(model, path, Literal)
    elif annotation is not type(None):
        yield Leaf(model, path, annotation)


def mistyped() -> list[str]:
    """Fields whose name tells of a secret, and whose type does not; and excuses that nobody needs."""
    found = {
        f"{leaf.model}.{name}": leaf
        for model in _MODELS
        for leaf in _within(model, "")
        for name in leaf.path.replace(".*", "").split(".")[-1:]
        if TELLING.search(name)
    }
    return [name for name, leaf in found.items() if not leaf.secret and name not in NO_SECRETS] + [
        f"{name} needs no excuse" for name in NO_SECRETS if name not in found or found[name].secret
    ]
