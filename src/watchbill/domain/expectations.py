"""What a response must meet, as it is declared, and the judgement of what was seen against it.

Judging is pure: every function returns the list of all failures, each saying what was expected and what
was seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
)

from watchbill.domain.json_rules import (
    COUNTED_CHARACTERS,
    JsonPath,
    JsonScalar,
    SchemaFile,
    json_failures,
    schema_failures,
)
from watchbill.domain.results import Failure, Reason
from watchbill.domain.rules import (
    Comparison,
    Declared,
    HeaderMatch,
    HeaderName,
    Share,
    StatusRules,
    TextMatch,
    Texts,
    shorten,
    text_match,
)
from watchbill.domain.units import Duration, format_duration


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


AnswerRule = Annotated[AnswerMatch, BeforeValidator(text_match)]


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
    certificate_valid_for: Duration | None = None
    """How long every certificate that is shown must stay valid (transports `tls` and `https`)."""


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
