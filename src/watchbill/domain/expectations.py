"""What a response must meet, as it is declared, and the judgement of what was seen against it.

Judging is pure: every function returns the list of all failures, each saying what was expected and what
was seen. Regular expressions are RE2's (linear time), JSONPath is RFC 9535's.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias

import jsonpath_rfc9535
import jsonschema_rs
import re2
from jsonpath_rfc9535.function_extensions import ExpressionType, FilterFunction
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from watchbill.domain.results import Failure, Reason
from watchbill.domain.units import Duration, format_duration

SHOWN_CHARACTERS = 120
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
COMPARISON_PATTERN = r"^\s*(<=|>=|==|!=|<|>)\s*(-?[0-9]+(\.[0-9]+)?)\s*%?\s*$"
_COMPARISON = re.compile(COMPARISON_PATTERN)


class Declared(BaseModel):
    """What a person wrote: frozen, and an unknown key is an error whose text never shows the value."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, str_strip_whitespace=False
    )


def declared_problem(key: str, message: str) -> PydanticCustomError:
    """A mistake that belongs to one key of the mapping being validated."""
    return PydanticCustomError("declared", "{text}", {"text": message, "key": key})


def shorten(seen: object) -> str:
    """What was seen, as a JSON string cut to one readable line."""
    text = seen if isinstance(seen, str) else json.dumps(seen, ensure_ascii=False, default=str)
    text = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return json.dumps(text, ensure_ascii=False) if isinstance(seen, str) else text


# --- text ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> Any:
    """The compiled RE2 pattern.

    :raises ValueError: where the pattern is no RE2 (look-around and back-references are not).
    """
    return _compile(pattern, most_bytes=8 << 20)


def _compile(pattern: str, *, most_bytes: int) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = most_bytes
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "invalid"
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise ValueError(
            f"not a regular expression that RE2 accepts ({reason}); look-around and back-references do not exist there"
        ) from None


def _valid_pattern(pattern: str) -> str:
    compile_pattern(pattern)
    return pattern


Pattern = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_valid_pattern)]
Text = Annotated[str, Field(min_length=1)]


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Texts = Annotated[tuple[Text, ...], BeforeValidator(_listed), Field(min_length=1)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_listed), Field(min_length=1)]


class TextMatch(Declared):
    """Rules for one text; all that are declared must hold."""

    equals: str | None = None
    """The whole text."""
    contains: Texts = ()
    """Text that must be in it; all of a list."""
    matches: Patterns = ()
    """A regular expression (RE2) that must be found in it; all of a list."""
    not_contains: Texts = ()
    """Text that must not be in it; none of a list."""

    def failures(self, text: str, *, of: str, reason: Reason) -> list[Failure]:
        found = []
        if self.equals is not None and text != self.equals:
            found.append(f"{of} must equal {shorten(self.equals)}, got {shorten(text)}")
        found += [
            f"{of} must contain {shorten(part)}, got {shorten(text)}"
            for part in self.contains
            if part not in text
        ]
        found += [
            f"{of} must match {shorten(pattern)}, got {shorten(text)}"
            for pattern in self.matches
            if not compile_pattern(pattern).search(text)
        ]
        found += [
            f"{of} must not contain {shorten(part)}, but does" for part in self.not_contains if part in text
        ]
        return [Failure(reason, message) for message in found]


def _text_match(value: object) -> object:
    return {"equals": value} if isinstance(value, str) else value


def _header_name(name: str) -> str:
    if not name or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name) or not name.isascii():
        raise ValueError("a header name is letters, digits and dashes (RFC 9110)")
    return name


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderMatch = Annotated[TextMatch, BeforeValidator(_text_match)]


# --- numbers ------------------------------------------------------------------------------------------


class Comparison(Declared):
    """``< 100``, ``>= 1.5``, ``!= 0``, or with a percent sign where a share is compared."""

    operator: Literal["<=", ">=", "==", "!=", "<", ">"]
    number: float

    def holds(self, seen: float) -> bool:
        return _OPERATORS[self.operator](seen, self.number)

    def __str__(self) -> str:
        return f"{self.operator} {self.number:g}"


def parse_comparison(text: object) -> object:
    if isinstance(text, Comparison):
        return text
    if not isinstance(text, str):
        raise ValueError('a comparison is text, such as "< 100"')  # noqa: TRY004 - pydantic wants ValueError
    match = _COMPARISON.match(text)
    if match is None:
        raise ValueError(f'a comparison is an operator and a number, such as "< 100", got {shorten(text)}')
    return Comparison(operator=match[1], number=float(match[2]))


Share = Annotated[
    Comparison,
    BeforeValidator(parse_comparison),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": COMPARISON_PATTERN, "examples": ["< 34%", "== 0%"]}),
]


# --- HTTP status --------------------------------------------------------------------------------------

STATUS_PATTERN = r"^([1-5]xx|[1-5][0-9]{2}|[1-5][0-9]{2}-[1-5][0-9]{2})$"


def _status_rule(value: object) -> str:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.match(STATUS_PATTERN, text):
        raise ValueError('a status is a number (200), a class (2xx) or a range ("200-204") from 100 to 599')
    low, _, high = text.partition("-")
    if high and int(low) > int(high):
        raise ValueError(f'a status range runs upwards, such as "200-204", got "{text}"')
    return text


StatusRule = Annotated[
    str,
    BeforeValidator(_status_rule),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "pattern": STATUS_PATTERN},
            ]
        }
    ),
]
StatusRules = Annotated[tuple[StatusRule, ...], BeforeValidator(_listed), Field(min_length=1)]


def status_meets(rules: Iterable[str], status: int) -> bool:
    text = str(status)
    for rule in rules:
        low, _, high = rule.partition("-")
        if rule == text or (rule.endswith("xx") and rule[0] == text[0] and len(text) == 3):
            return True
        if high and int(low) <= status <= int(high):
            return True
    return False


# --- JSON ---------------------------------------------------------------------------------------------

JsonScalar: TypeAlias = str | int | float | bool | None

COUNTED_CHARACTERS = 8 * 1024
"""Up to this size of a body every violation of a JSON Schema is looked for: in 1 MiB that takes seconds."""


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
    return _compile(pattern, most_bytes=1 << 20)


class _Paths(jsonpath_rfc9535.JSONPathEnvironment):
    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _Search(whole=True)
        self.function_extensions["search"] = _Search(whole=False)


_paths = _Paths()


@lru_cache(maxsize=4096)
def compile_path(path: str) -> jsonpath_rfc9535.JSONPathQuery:
    try:
        return _paths.compile(path)
    except jsonpath_rfc9535.JSONPathError as error:
        raise ValueError(f"not a JSONPath (RFC 9535), such as $.status: {error.args[0]}") from None


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
    schema_validator(text)
    return JsonSchema(source=source, document=text)


@lru_cache(maxsize=256)
def schema_validator(document: str) -> Any:
    """:raises ValueError: where the document is not a JSON Schema."""
    try:
        return jsonschema_rs.validator_for(json.loads(document), offline=True)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"not a valid JSON Schema: {str(error).splitlines()[0]}") from None


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
    match = _COMPARISON.match(expected) if isinstance(expected, str) else None
    nothing = True
    for value in seen:
        nothing = False
        if match is not None:
            comparable = isinstance(value, int | float) and not isinstance(value, bool)
            if not comparable or not _OPERATORS[match[1]](value, float(match[2])):
                return f"{path} must be {expected}, got {shorten(value)}"
        elif type(value) is bool or type(expected) is bool:
            if value is not expected:
                return f"{path} must be {_wanted(expected)}, got {shorten(value)}"
        elif value != expected:
            return f"{path} must be {_wanted(expected)}, got {shorten(value)}"
    return f"{path} must be {_wanted(expected)}, but selects nothing" if nothing else None


def _wanted(expected: JsonScalar) -> str:
    if isinstance(expected, str) and _COMPARISON.match(expected):
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


# --- what each type may expect ------------------------------------------------------------------------


class HttpExpect(Declared):
    """What an HTTP response must meet."""

    status: StatusRules = ("2xx",)
    """A number (200), a class (2xx), a range ("200-204"), or a list of them."""
    body: TextMatch | None = None
    """Rules for the body's text."""
    json_: Annotated[dict[JsonPath, JsonScalar], Field(min_length=1)] | None = Field(
        default=None, alias="json"
    )
    """JSONPath (RFC 9535) -> the value it must select, or a comparison such as `"< 100"`."""
    json_schema: SchemaFile | None = None
    """A JSON Schema that the body must meet: the path of a file, or the schema itself."""
    headers: dict[HeaderName, HeaderMatch] = Field(default_factory=dict)
    """Header name -> its value, or rules for it."""
    latency: Duration | None = None
    """How long the request may take in all."""
    certificate_valid_for: Duration | None = None
    """How long every certificate that is shown must stay valid."""

    @property
    def needs_body(self) -> bool:
        return self.body is not None or self.json_ is not None or self.json_schema is not None


class ResponseMatch(TextMatch):
    """Rules for what a TCP service answers."""


class TcpExpect(Declared):
    """What a TCP service must meet."""

    response: ResponseMatch | None = None
    """Rules for what the service sends."""
    latency: Duration | None = None
    """How long the probe may take in all."""


class TlsExpect(Declared):
    """What a certificate and its handshake must meet. Without ``verified: false`` the chain must verify."""

    certificate_valid_for: Duration | None = None
    """How long every certificate that is shown must stay valid."""
    names: Texts = ()
    """A name that the certificate must be for; all of a list."""
    verified: StrictBool = True
    """Whether the chain, the name and the dates must verify."""
    latency: Duration | None = None
    """How long the probe may take in all."""


class AnswerMatch(TextMatch):
    """Rules for one DNS answer, in its presentation form (``10 mail.shop.example.``)."""


AnswerRule = Annotated[AnswerMatch, BeforeValidator(_text_match)]


RCODES = (
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class DnsAnswers(Declared):
    """``any`` answer must match, ``all`` must, ``none`` may."""

    any: AnswerRule | None = None
    """At least one answer must meet this text or these rules."""
    all: AnswerRule | None = None
    """Every answer must, and there must be one."""
    none: AnswerRule | None = None
    """No answer may."""


class DnsExpect(Declared):
    """What a DNS answer must meet."""

    rcode: Annotated[Literal[RCODES], BeforeValidator(_upper)] = "NOERROR"  # type: ignore[valid-type]
    """The response code."""
    answers: DnsAnswers | None = None
    """Rules for the records in the answer."""
    latency: Duration | None = None
    """How long the probe may take in all."""


class IcmpExpect(Declared):
    """``loss`` is the share of packets lost; ``latency`` bounds the average round-trip time."""

    loss: Share = Comparison(operator="<", number=100)
    """The share of requests without a reply, such as `"< 34%"`."""
    latency: Duration | None = None
    """How long the average round trip may take."""


# --- judging ------------------------------------------------------------------------------------------


def header_failures(rules: Mapping[str, TextMatch], headers: Mapping[str, Sequence[str]]) -> list[Failure]:
    """``headers`` maps lower-case names to all their values; any one value that meets the rule will do."""
    failures: list[Failure] = []
    for name, rule in rules.items():
        values = headers.get(name.lower(), ())
        if not values:
            failures.append(Failure(Reason.HEADER, f"header {name} must be sent, but is missing"))
            continue
        judged = [rule.failures(value, of=f"header {name}", reason=Reason.HEADER) for value in values]
        if all(judged):
            failures += judged[0]
    return failures


def latency_failures(limit: timedelta | None, seconds: float, *, of: str = "latency") -> list[Failure]:
    if limit is None or seconds <= limit.total_seconds():
        return []
    return [
        Failure(Reason.LATENCY, f"{of} must be at most {format_duration(limit)}, took {seconds * 1000:.1f}ms")
    ]


def validity_failures(needed: timedelta | None, expires_in_seconds: float | None) -> list[Failure]:
    """Whether the certificate stays valid long enough; ``None`` seconds means there was no certificate."""
    if needed is None:
        return []
    if expires_in_seconds is None:
        return [Failure(Reason.CERTIFICATE, "certificate must be valid, but the connection is not TLS")]
    if expires_in_seconds >= needed.total_seconds():
        return []
    seen = f"expires in {expires_in_seconds / 86_400:.1f}d"
    if expires_in_seconds < 0:
        seen = f"expired {-expires_in_seconds / 86_400:.1f}d ago"
    return [Failure(Reason.CERTIFICATE, f"certificate must be valid for {format_duration(needed)}, {seen}")]


def body_failures(expect: HttpExpect, text: str, *, truncated: bool, limit: int) -> list[Failure]:
    """Everything declared of the body. A body cut at ``limit`` bytes cannot be judged and says so."""
    if not expect.needs_body:
        return []
    if truncated:
        return [Failure(Reason.TOO_LARGE, f"body must be at most {limit} bytes to be judged, is larger")]
    failures = expect.body.failures(text, of="body", reason=Reason.BODY) if expect.body else []
    if expect.json_ is None and expect.json_schema is None:
        return failures
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        return [*failures, Failure(Reason.JSON, f"body must be JSON, got {shorten(text)} ({said})")]
    if expect.json_:
        failures += json_failures(expect.json_, document)
    if expect.json_schema:
        failures += schema_failures(expect.json_schema, document, exhaustive=len(text) <= COUNTED_CHARACTERS)
    return failures


def answer_failures(rules: DnsAnswers | None, answers: Sequence[str]) -> list[Failure]:
    if rules is None:
        return []
    shown = shorten(list(answers))
    failures = []

    def unmet(rule: TextMatch) -> list[bool]:
        return [bool(rule.failures(answer, of="answer", reason=Reason.ANSWER)) for answer in answers]

    if rules.any is not None and all(unmet(rules.any)):
        failures.append(f"any answer must {_rule_text(rules.any)}, got {shown}")
    if rules.all is not None and (not answers or any(unmet(rules.all))):
        failures.append(f"all answers must {_rule_text(rules.all)}, got {shown}")
    if rules.none is not None and not all(unmet(rules.none)):
        failures.append(f"no answer may {_rule_text(rules.none)}, got {shown}")
    return [Failure(Reason.ANSWER, message) for message in failures]


def _rule_text(rule: TextMatch) -> str:
    parts = [f"equal {shorten(rule.equals)}"] if rule.equals is not None else []
    parts += [f"contain {shorten(part)}" for part in rule.contains]
    parts += [f"match {shorten(pattern)}" for pattern in rule.matches]
    parts += [f"not contain {shorten(part)}" for part in rule.not_contains]
    return " and ".join(parts) or "exist"
