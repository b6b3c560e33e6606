"""The rules for a JSON document: JSONPath (RFC 9535) and JSON Schema, both bounded whatever the document is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, TypeAlias

import jsonpath_rfc9535
import jsonschema_rs
from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ValidationInfo,
    WithJsonSchema,
)

from watchbill.domain.effort import MOST_INSTRUCTIONS, pay
from watchbill.domain.results import Failure, Reason
from watchbill.domain.rules import (
    COMPARISON,
    OPERATORS,
    SHOWN_CHARACTERS,
    Declared,
    compile_bounded,
    pattern_cost,
    shorten,
)

JsonScalar: TypeAlias = str | int | float | bool | None

LONGEST_PATH = 4096
MOST_SCHEMA_PATTERN_BYTES = 8 << 20
"""Of one compiled pattern of a JSON Schema, as of any other; ``^.{1,2000}$`` takes 4 MB."""
COUNTED_CHARACTERS = 8 * 1024
"""Up to this size of a body every violation of a JSON Schema is looked for: in 1 MiB that takes seconds."""


_COUNTS = re.compile(r"\{\d+(?:,\d*)?\}")
_PATTERN_OPTIONS = jsonschema_rs.FancyRegexOptions(size_limit=MOST_SCHEMA_PATTERN_BYTES)


class _Search(FilterFunction):
    """``search()`` and ``match()`` by RE2: the library's own take exponential time on foreign text."""

    arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 - the base class has it so
    return_type = ExpressionType.LOGICAL

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole

    def __call__(self, text: object, pattern: object) -> bool:
        if not isinstance(text, str) or not isinstance(pattern, str):
            return False
        try:
            compiled = _compile_in_path(pattern)
            return bool(compiled.fullmatch(text) if self._whole else compiled.search(text))
        except ValueError:  # no pattern, or half of a surrogate pair, which JSON can spell
            return False


@lru_cache(maxsize=64)  # a document may bring patterns of its own
def _compile_in_path(pattern: str) -> Any:
    return compile_bounded(pattern, most_bytes=1 << 20)


class _Paths(jsonpath_rfc9535.JSONPathEnvironment):
    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _Search(whole=True)
        self.function_extensions["search"] = _Search(whole=False)


_paths = _Paths()


@lru_cache(maxsize=4096)
def compile_path(path: str) -> jsonpath_rfc9535.JSONPathQuery:
    if len(path) > LONGEST_PATH:
        raise ValueError(f"a JSONPath has at most {LONGEST_PATH:,} characters")
    try:
        return _paths.compile(path)
    except jsonpath_rfc9535.JSONPathError as error:
        raise ValueError(f"not a JSONPath (RFC 9535), such as $.status: {error.args[0]}") from None
    except RecursionError:
        raise ValueError("not a JSONPath that can be followed: it is nested too deeply") from None
    except OverflowError:
        raise ValueError("not a JSONPath that can be compared: a number in it is larger than 1e308") from None


def _valid_path(path: str) -> str:
    compile_path(path)
    return path


JsonPath = Annotated[str, AfterValidator(_valid_path)]


class JsonSchema(Declared):
    """A JSON Schema that a body must meet; ``document`` is its text, ``source`` where it came from."""

    source: str = ""
    document: str


def _json_schema(value: object, info: ValidationInfo) -> object:
    if isinstance(value, JsonSchema):
        return value
    if isinstance(value, dict):
        source, text = "", json.dumps(value, sort_keys=True)
    elif isinstance(value, str):
        if not info.context:
            raise ValueError("a JSON Schema file can be named only in a configuration file")
        source, text = value, info.context["read"](value)
    else:
        raise ValueError("a JSON Schema is the path of a file or a mapping")  # noqa: TRY004 - pydantic wants ValueError
    pay(info, text, _schema_cost)
    schema_validator(text)
    return JsonSchema(source=source, document=text)


def _schema_cost(document: str) -> int:
    """In the instructions of its patterns, or what its length takes as much time as."""
    try:
        patterns = _patterns_in(json.loads(document))
    except (ValueError, RecursionError):
        return len(document)
    cost = len(document) // 4
    for pattern in patterns:
        if cost > MOST_INSTRUCTIONS:
            break
        cost += 3 * pattern_cost(pattern)
    return cost


def _patterns_in(schema: object) -> Iterator[str]:
    todo = [schema]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += value.values()
            if isinstance(value.get("pattern"), str):
                yield value["pattern"]
            if isinstance(value.get("patternProperties"), dict):
                yield from value["patternProperties"]
        elif isinstance(value, list):
            todo += value


@lru_cache(maxsize=256)
def schema_validator(document: str) -> Any:
    """:raises ValueError: where the document is not a JSON Schema."""
    try:
        return _validator(json.loads(document))
    except RecursionError:
        raise ValueError("not a valid JSON Schema: it is nested too deeply") from None
    except jsonschema_rs.ValidationError as error:
        said = _too_large(error) or str(error).splitlines()[0]
        raise ValueError(f"not a valid JSON Schema: {said}") from None
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"not a valid JSON Schema: {str(error).splitlines()[0]}") from None


def _validator(schema: Any) -> Any:
    return jsonschema_rs.validator_for(schema, offline=True, pattern_options=_PATTERN_OPTIONS)


def _too_large(error: jsonschema_rs.ValidationError) -> str | None:
    """What to say of a pattern that is no mistake but for its size: once nothing is counted in it, it compiles."""
    pattern = str(error.instance)
    if getattr(error.kind, "format", None) != "regex" or not _COUNTS.search(pattern):
        return None
    try:
        _validator({"pattern": _COUNTS.sub("", pattern)})
    except jsonschema_rs.ValidationError:
        return None
    return f"{shorten(pattern)} takes more than {MOST_SCHEMA_PATTERN_BYTES >> 20} MiB to compile"


SchemaFile = Annotated[
    JsonSchema,
    BeforeValidator(_json_schema),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "object"}]}),
]


def json_failures(rules: Mapping[str, JsonScalar], document: object) -> list[Failure]:
    failures: list[Failure] = []
    for path, expected in rules.items():
        try:
            seen = (node.value for node in compile_path(path).finditer(document))  # type: ignore[arg-type]
            message = _value_problem(path, expected, seen)
        except (jsonpath_rfc9535.JSONPathError, RecursionError) as error:
            message = f"{path} could not be evaluated: {type(error).__name__}"
        if message:
            failures.append(Failure(Reason.JSON, message))
    return failures


def _value_problem(path: str, expected: JsonScalar, seen: Iterable[object]) -> str | None:
    match = COMPARISON.match(expected) if isinstance(expected, str) else None
    nothing = True
    for value in seen:
        nothing = False
        if match is not None:
            comparable = isinstance(value, int | float) and not isinstance(value, bool)
            if not comparable or not OPERATORS[match[1]](value, float(match[2])):
                return f"{path} must be {expected}, got {shorten(value)}"
        elif type(value) is bool or type(expected) is bool:
            if value is not expected:
                return f"{path} must be {_wanted(expected)}, got {shorten(value)}"
        elif value != expected:
            return f"{path} must be {_wanted(expected)}, got {shorten(value)}"
    return f"{path} must be {_wanted(expected)}, but selects nothing" if nothing else None


def _wanted(expected: JsonScalar) -> str:
    if isinstance(expected, str) and COMPARISON.match(expected):
        return expected
    return json.dumps(expected, ensure_ascii=False)


def schema_failures(
    schema: JsonSchema, document: object, *, most: int = 5, exhaustive: bool = True
) -> list[Failure]:
    """The violations, at most ``most`` and a word that there are more; without ``exhaustive`` the first one."""
    failures: list[Failure] = []
    try:
        for error in _violations(schema_validator(schema.document), document, exhaustive=exhaustive):
            if len(failures) == most:
                failures.append(Failure(Reason.SCHEMA, f"more than {most} violations of the JSON Schema"))
                break
            failures.append(_violation(error))
    except ValueError as error:  # a document nested too deeply to be copied into an error
        failures.append(Failure(Reason.SCHEMA, f"body must meet the JSON Schema, but does not ({error})"))
    return failures


def _violations(
    validator: Any, document: object, *, exhaustive: bool
) -> Iterable[jsonschema_rs.ValidationError]:
    if exhaustive:
        yield from validator.iter_errors(document)
        return
    try:
        validator.validate(document)
    except jsonschema_rs.ValidationError as error:
        yield error


def _violation(error: jsonschema_rs.ValidationError) -> Failure:
    place = "".join(f"[{part!r}]" if isinstance(part, str) else f"[{part}]" for part in error.instance_path)
    message = error.message
    if len(message) > 2 * SHOWN_CHARACTERS:
        message = message[: 2 * SHOWN_CHARACTERS] + "…"
    return Failure(Reason.SCHEMA, f"body{place} must meet the JSON Schema: {message}")
