"""Where metrics and spans are exported to (OpenTelemetry Protocol), as it is declared."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, ValidationInfo, model_validator

from watchbill.domain.checks import HeaderValue
from watchbill.domain.credentials import TlsOptions
from watchbill.domain.reach import check_host, split_url
from watchbill.domain.rules import Declared, HeaderName, declared_problem
from watchbill.domain.units import Duration, format_duration

SIGNAL_PATHS = {"metrics": "/v1/metrics", "traces": "/v1/traces"}
ATTRIBUTE_PATTERN = r"^[a-zA-Z_][a-zA-Z0-9_.-]*$"
PERCENTAGE_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,9})?%$"
_OURS = frozenset(
    {
        "accept-encoding", "content-type", "content-encoding", "content-length", "host", "connection",
        "transfer-encoding",
    }
)  # fmt: skip


def _endpoint(url: str) -> str:
    parts = split_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an endpoint is an http:// or https:// url, such as http://127.0.0.1:4318")
    check_host(parts.hostname)
    if "@" in parts.netloc:
        raise ValueError("an endpoint holds no credentials; declare them under headers")
    if parts.query or parts.fragment:
        raise ValueError("an endpoint has no query and no fragment")
    for path in SIGNAL_PATHS.values():
        if parts.path.rstrip("/").endswith(path):
            raise ValueError(f"an endpoint is the url that {path} is appended to; leave {path} out")
    return url


def _percentage(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(PERCENTAGE_PATTERN, value):
        return float(value.removesuffix("%"))
    if isinstance(value, str):
        raise ValueError("a share is a percentage, such as 10%")  # noqa: TRY004 - pydantic wants this one
    return value


def _a_second_or_more(value: timedelta, info: ValidationInfo) -> timedelta:
    if value < timedelta(seconds=1):
        raise ValueError(f"{info.field_name} must be at least 1s, got {format_duration(value)}")
    return value


def _minutes_at_most(value: timedelta, info: ValidationInfo) -> timedelta:
    if value > timedelta(minutes=5):
        raise ValueError(f"{info.field_name} must be at most 5m, got {format_duration(value)}")
    return value


Percentage = Annotated[float, Field(ge=0, le=100, strict=True), BeforeValidator(_percentage)]
AttributeName = Annotated[str, Field(pattern=ATTRIBUTE_PATTERN, max_length=200)]


def _allowed(headers: dict[str, Any]) -> dict[str, Any]:
    for name in headers:
        if name.lower() in _OURS:
            raise ValueError(f"the header {name} is not yours to set; leave it out")
    return headers


class OtlpTraces(Declared):
    """Which probes have a span. As a flag: all of them, or none."""

    sample: Percentage = 100.0
    """The share of probes whose span is exported, such as `10%`."""

    @model_validator(mode="before")
    @classmethod
    def _from_flag(cls, value: Any) -> Any:
        return {"sample": 100.0 if value else 0.0} if isinstance(value, bool) else value


class OtlpOptions(Declared):
    """Where metrics and spans are sent to, by OTLP over HTTP in protobuf."""

    endpoint: Annotated[str, AfterValidator(_endpoint)]
    """The receiver's base url, such as `http://127.0.0.1:4318`; `/v1/metrics` and `/v1/traces` are appended."""
    headers: Annotated[dict[HeaderName, HeaderValue], AfterValidator(_allowed)] = Field(
        default_factory=dict, max_length=50
    )
    """Headers of every request, such as `Authorization`; their values are secrets."""
    tls: TlsOptions = TlsOptions()
    """How the TLS handshake with an `https://` receiver is made."""
    interval: Annotated[Duration, AfterValidator(_a_second_or_more)] = timedelta(seconds=60)
    """How often metrics are exported, at least 1s."""
    timeout: Annotated[Duration, AfterValidator(_a_second_or_more), AfterValidator(_minutes_at_most)] = (
        timedelta(seconds=10)
    )
    """How long one request may take, at least 1s and at most 5m."""
    compression: Literal["gzip", "none"] = "gzip"
    """How requests are compressed."""
    resource: dict[AttributeName, Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=dict, max_length=64
    )
    """Attributes of the resource, beside or instead of `service.name`, `service.version` and `service.instance.id`."""
    metrics: StrictBool = True
    """Whether the metrics of checks are exported."""
    traces: OtlpTraces = OtlpTraces()
    """Whether probes have spans: a flag, or `sample`."""

    @model_validator(mode="after")
    def _exports_something(self) -> OtlpOptions:
        if not self.metrics and not self.traces.sample:
            raise declared_problem(
                "", "otlp exports neither metrics nor traces; switch one on, or leave otlp out"
            )
        return self

    def url(self, signal: str) -> str:
        return self.endpoint.rstrip("/") + SIGNAL_PATHS[signal]
