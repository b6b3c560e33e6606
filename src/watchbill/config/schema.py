"""The JSON Schema (draft-07) of a configuration file, generated from the models, for editors and for CI.

It rejects what the loader rejects as far as one file's structure shows it: references between keys, what regular
expressions and paths mean, and what variables hold are the loader's alone.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from pydantic import BaseModel

from watchbill.config.constraints import EXTRA, KEYS, REFERENCE, RULES, SHORT_FORMS, Schema
from watchbill.config.expansion import MOST_NAMES
from watchbill.config.fields import CHECK_MODELS, INTERNAL, NOT_WRITTEN, SECTIONS, documented
from watchbill.domain.checks import TYPE_NAMES
from watchbill.domain.config import Config, Defaults, Limits, MetricsOptions, StorageOptions
from watchbill.domain.discovery import SOURCES, Discovery
from watchbill.domain.fields import ID_PATTERN, CheckFields, Service
from watchbill.domain.objectives import Slo
from watchbill.domain.otlp import OtlpOptions
from watchbill.domain.rules import Comparison
from watchbill.domain.units import DURATION_PATTERN, format_duration

_ZERO = r"^(0+(\.0+)?(ms|s|m|h|d))+$"
_UNDER_A_SECOND = r"^0*[0-9]{1,3}(\.[0-9]+)?ms$|^0*\.[0-9]+s$|^0+\.[0-9]+s$"
_UNTOLD = ("title", "default", "writeOnly", "format")
_CONSTRAINTS = ("pattern", "enum", "const", "format", "minLength", "maxLength")


def render() -> str:
    """The exact text of ``schemas/checks.schema.json``."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def json_schema() -> Schema:
    definitions: Schema = {}
    branches = {name: _model(model, definitions) for name, model in CHECK_MODELS.items()}
    for name, branch in branches.items():
        branch["properties"] = {
            "type": {"const": name, "description": documented(CHECK_MODELS[name])["type"]},
            **branch["properties"],
            "for_each": _ref("for_each"),
        }
        definitions[f"check_{name}"] = branch
    definitions |= {
        "for_each": _for_each(),
        "check": _check(),
        "defaults": _defaults(Defaults, definitions),
        "service": _service(definitions),
        "slo": _model(Slo, definitions),
    }
    sections = _sections(definitions)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://watchbill.example/schemas/checks.schema.json",
        "title": "Watchbill checks",
        "description": _summary(Config),
        "type": "object",
        "properties": {name: sections[name] for name in SECTIONS},
        "required": ["version"],
        "minProperties": 2,
        "additionalProperties": False,
        "definitions": dict(sorted(definitions.items())),
    }


def _sections(definitions: Schema) -> Schema:
    told = documented(Config)
    ids = {"pattern": ID_PATTERN, "maxLength": 200}
    sections: Schema = {
        "version": {"const": 1},
        "defaults": _ref("defaults"),
        "services": {"type": "object", "propertyNames": ids, "additionalProperties": _ref("service")},
        "checks": {"type": "object", "propertyNames": ids, "additionalProperties": _ref("check")},
        "moved": {
            "type": "object",
            "propertyNames": ids,
            "additionalProperties": _or_reference({"type": "string", **ids}),
        },
        "slos": {"type": "object", "propertyNames": ids, "additionalProperties": _ref("slo")},
        "discover": {
            "type": "object",
            "propertyNames": {**ids, "maxLength": 100},
            "additionalProperties": _discovery(definitions),
        },
        "storage": _model(StorageOptions, definitions),
        "metrics": _model(MetricsOptions, definitions),
        "limits": _model(Limits, definitions),
        "otlp": _model(OtlpOptions, definitions),
    }
    told = {
        "defaults": "What holds for the checks of this file; in a folder's `watchbill.yaml`, for all files.",
        **told,
    }
    return {
        name: {"description": told[name], **_without_description(section)}
        for name, section in sections.items()
    }


def _without_description(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "description"}


def _check() -> Schema:
    return {
        "type": "object",
        "description": "One check; `type` says of which kind, and so which other keys it has.",
        "required": ["type"],
        "properties": {"type": {"enum": list(TYPE_NAMES), "description": "What kind of check it is."}},
        "allOf": [
            {
                "if": {"type": "object", "required": ["type"], "properties": {"type": {"const": name}}},
                "then": _ref(f"check_{name}"),
            }
            for name in TYPE_NAMES
        ],
    }


def _for_each() -> Schema:
    return {
        "type": "object",
        "description": "Names and lists: one check for every combination, with `${each.NAME}` in its text. Ids get the values appended: `edge-eu`.",
        "minProperties": 1,
        "maxProperties": MOST_NAMES,
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": {
            "type": "array",
            "minItems": 1,
            "items": {"type": ["string", "number", "boolean"]},
        },
        "examples": [{"region": ["eu", "us"]}],
    }


def _defaults(model: type[BaseModel], definitions: Schema) -> Schema:
    """Defaults have values or are absent; a null would say neither."""
    schema = _model(model, definitions)
    schema["properties"] = {name: _without_null(field) for name, field in schema["properties"].items()}
    return schema


def _service(definitions: Schema) -> Schema:
    schema = _model(Service, definitions)
    defaults = _defaults(Defaults, definitions)
    defaults["description"] = "What holds for every check of this service."
    del defaults["properties"]["service"]
    schema["properties"]["defaults"] = defaults
    return schema


def _discovery(definitions: Schema) -> Schema:
    """A block: exactly one source, rules in which no text is a reference, and a check that is made once for each target."""
    schema = _model(Discovery, definitions)
    check = {"allOf": [_ref("check"), {"properties": {"for_each": {"not": {}}}}]}
    schema["properties"]["check"] = {"description": documented(Discovery)["check"], **check}
    sources = [{"required": [name], "properties": {name: {"type": "object"}}} for name in SOURCES]
    return {**schema, "oneOf": sources}


def _without_null(schema: Schema) -> Schema:
    if "anyOf" not in schema:
        return schema
    left = [branch for branch in schema["anyOf"] if branch.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**left[0], **rest} if len(left) == 1 else {**rest, "anyOf": left}


def _model(model: type[BaseModel], definitions: Schema) -> Schema:
    """The model's own schema; those of the models in it go to ``definitions``."""
    raw = model.model_json_schema(ref_template="#/definitions/{model}")
    for name, schema in raw.pop("$defs", {}).items():
        if name not in definitions and name not in {hidden.__name__ for hidden in NOT_WRITTEN}:
            definitions[name] = _finished(_models()[name], schema)
    return _finished(model, raw)


def _finished(model: type[BaseModel], raw: Schema) -> Schema:
    """What pydantic says of a model, as this file says it: described, closed, open to references."""
    written = [key for key in raw["properties"] if not _is_internal(model, key)]
    properties = {key: _property(model, key, raw["properties"][key]) for key in written}
    schema: Schema = {"type": "object", "description": _summary(model), "properties": properties}
    required = [key for key in raw.get("required", ()) if key in properties]
    if required:
        schema["required"] = required
    rules = _of_class(RULES, model)
    return {**schema, "additionalProperties": False, **(rules or {})}


def _of_class(told: Mapping[Any, Schema], model: type[BaseModel], *key: str) -> Schema | None:
    """What is told of a model, or of one that it extends."""
    names = [(origin.__name__, *key) if key else origin.__name__ for origin in model.__mro__]
    return next((told[name] for name in names if name in told), None)


def _is_internal(model: type[BaseModel], key: str) -> bool:
    return issubclass(model, CheckFields) and key in (*INTERNAL, "type")


def _property(model: type[BaseModel], key: str, raw: Schema) -> Schema:
    schema = _value(raw, key, _of_class(EXTRA, model, key) or {})
    if short := SHORT_FORMS.get((model.__name__, key)):
        schema = {"anyOf": _flat([short, schema])}
    if key == "interval":
        schema = _at_least_a_second(schema)
    default = _default(model, key)
    return {
        "description": documented(model)[key],
        **schema,
        **({} if default is None else {"default": default}),
    }


def _default(model: type[BaseModel], key: str) -> Any:
    """The default as it would be written; ``None`` where nothing would be."""
    field = next(item for name, item in model.model_fields.items() if key in (name, item.alias))
    match field.default:
        case timedelta():
            return format_duration(field.default)
        case bool() | int():
            return field.default
        case str() if field.default:
            return field.default
        case tuple() if field.default:
            return list(field.default) if len(field.default) > 1 else field.default[0]
        case Comparison():
            return str(field.default)
        case _:
            return None


def _value(raw: Schema, key: str, extra: Schema) -> Schema:
    """One value, without titles and defaults."""
    if "anyOf" in raw:
        branches = [_value(branch, key, extra) for branch in raw["anyOf"]]
        return {"anyOf": _flat(branches)}
    if "$ref" in raw:
        return {"$ref": raw["$ref"]}
    match raw.get("type"):
        case "object":
            return _object(raw, key)
        case "array":
            return _list(raw, key)
        case "null":
            return {"type": "null"}
        case _:
            told = {name: item for name, item in raw.items() if name not in _UNTOLD}
            return _or_reference({**_not_zero(told), **extra})


def _object(raw: Schema, key: str) -> Schema:
    values = raw.get("additionalProperties", True)
    if "patternProperties" in raw:  # pydantic's form lets a key that fits no pattern pass
        values = next(iter(raw["patternProperties"].values()))
    if isinstance(values, dict):
        values = _value(values, key, {})
        if key == "headers" and "$ref" in values:
            values = {"anyOf": [{"type": "string"}, values]}
    schema: Schema = {"type": "object", "additionalProperties": values}
    if key in KEYS:
        schema["propertyNames"] = KEYS[key]
    return schema | {name: raw[name] for name in ("minProperties", "maxProperties") if name in raw}


def _list(raw: Schema, key: str) -> Schema:
    """Where a list may stand, so may its only item, except for bounds, which are numbers in a row."""
    item = _value(raw["items"], key, {})
    most = {"maxItems": raw["maxItems"]} if "maxItems" in raw else {}
    schema: Schema = {"type": "array", "items": item, "minItems": 1, **most}
    return schema if key == "buckets" else {"anyOf": _flat([item, schema])}


def _flat(branches: list[Schema]) -> list[Schema]:
    """Nested choices as one, each branch once."""
    flat: list[Schema] = []
    for branch in branches:
        inner = branch["anyOf"] if set(branch) == {"anyOf"} else [branch]
        flat += [one for one in inner if one not in flat]
    return flat


def _or_reference(schema: Schema) -> Schema:
    """Text under a rule, a number or a flag, or the reference that it comes from."""
    free = schema.get("type") == "string" and not any(name in schema for name in _CONSTRAINTS)
    return schema if free else {"anyOf": [schema, REFERENCE]}


def _not_zero(schema: Schema) -> Schema:
    return {**schema, "not": {"pattern": _ZERO}} if schema.get("pattern") == DURATION_PATTERN else schema


def _at_least_a_second(schema: Schema) -> Schema:
    text = json.dumps(schema).replace(json.dumps(_ZERO), json.dumps(f"{_ZERO}|{_UNDER_A_SECOND}"))
    return dict(json.loads(text))


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _summary(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split())


@cache
def _models() -> Mapping[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}

    def visit(model: type[BaseModel]) -> None:
        for child in model.__subclasses__():
            found[child.__name__] = child
            visit(child)

    visit(BaseModel)
    return found
