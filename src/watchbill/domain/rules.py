"""The rules that expectations are made of: for a text, a number, a status. Regular expressions are RE2's (linear time)."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import re2
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from watchbill.domain.effort import pay
from watchbill.domain.results import Failure, Reason

SHOWN_CHARACTERS = 120
MOST_PATTERN_BYTES = 8 << 20
"""Of one compiled pattern."""
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
COMPARISON_PATTERN = r"^\s*(<=|>=|==|!=|<|>)\s*(-?[0-9]+(\.[0-9]+)?)\s*%?\s*$"
COMPARISON = re.compile(COMPARISON_PATTERN)


class Declared(BaseModel):
    """What a person wrote: frozen, and an unknown key is an error whose text never shows the value."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, str_strip_whitespace=False
    )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # What never changes need not be copied: pydantic would copy a default for each check, an eighth of loading.
        return self


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
    return compile_bounded(pattern, most_bytes=MOST_PATTERN_BYTES)


def compile_bounded(pattern: str, *, most_bytes: int) -> Any:
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


def pattern_cost(pattern: str, *, most_bytes: int = MOST_PATTERN_BYTES) -> int:
    """In instructions of the compiled pattern.

    What RE2 refuses for its size has cost as much as the largest; of what it has no words for another engine may make
    something.
    """
    return _weighed(pattern, most_bytes)[0]


@lru_cache(maxsize=4096)
def _weighed(pattern: str, most_bytes: int) -> tuple[int, str]:
    """Its cost, and why it is none. Compiled it may hold megabytes, and who only loads it never uses it: that is not kept."""
    try:
        return 20 + int(compile_bounded(pattern, most_bytes=most_bytes).programsize), ""
    except ValueError as error:
        if "too large" in str(error):
            return most_bytes // 40, str(error)
        # The other engine repeats more than a thousand times.
        return (60_000 if "repetition" in str(error) else 10_000), str(error)


def _valid_pattern(pattern: str, info: ValidationInfo) -> str:
    pay(info, pattern, pattern_cost)
    if problem := _weighed(pattern, MOST_PATTERN_BYTES)[1]:
        raise ValueError(problem)
    return pattern


Pattern = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_valid_pattern)]
Text = Annotated[str, Field(min_length=1)]


def listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Texts = Annotated[tuple[Text, ...], BeforeValidator(listed), Field(min_length=1)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(listed), Field(min_length=1)]


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


def text_match(value: object) -> object:
    return {"equals": value} if isinstance(value, str) else value


def _header_name(name: str) -> str:
    if not name or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name) or not name.isascii():
        raise ValueError(
            "a header name must consist of letters, digits, dashes and !#$%&'*+.^_`|~ (RFC 9110)"
        )
    return name


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderMatch = Annotated[TextMatch, BeforeValidator(text_match)]


# --- numbers ------------------------------------------------------------------------------------------


class Comparison(Declared):
    """``< 100``, ``>= 1.5``, ``!= 0``, or with a percent sign where a share is compared."""

    operator: Literal["<=", ">=", "==", "!=", "<", ">"]
    number: float

    def holds(self, seen: float) -> bool:
        return OPERATORS[self.operator](seen, self.number)

    def __str__(self) -> str:
        return f"{self.operator} {self.number:g}"


def parse_comparison(text: object) -> object:
    if isinstance(text, Comparison):
        return text
    if not isinstance(text, str):
        raise ValueError('a comparison is text, such as "< 100"')  # noqa: TRY004 - pydantic wants ValueError
    match = COMPARISON.match(text)
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
StatusRules = Annotated[tuple[StatusRule, ...], BeforeValidator(listed), Field(min_length=1)]


def status_meets(rules: Iterable[str], status: int) -> bool:
    text = str(status)
    for rule in rules:
        low, _, high = rule.partition("-")
        if rule == text or (rule.endswith("xx") and rule[0] == text[0] and len(text) == 3):
            return True
        if high and int(low) <= status <= int(high):
            return True
    return False
