"""The fields that every check has, and the service that it may belong to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, StrictBool, model_validator

from watchbill.domain.rules import Declared, declared_problem
from watchbill.domain.units import Duration, Micros, format_duration, parse_duration, to_micros

ID_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
LABEL_PATTERN = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
RESERVED_LABELS = frozenset(
    {
        "job", "instance", "le", "quantile", "check", "location", "service", "type",
        "target", "outcome", "reason", "phase",
    }
)  # fmt: skip
MOST_LABELS = 64
"""Of one check: each makes every series of it longer."""
LONGEST_LABEL_NAME = 200
LONGEST_LABEL = 1000
DEFAULT_TIMEOUT = timedelta(seconds=5)


def _label_name(name: str) -> str:
    if name in RESERVED_LABELS or name.startswith("__"):
        raise ValueError(f"the label {name} is reserved; choose another name")
    return name


CheckId = Annotated[str, Field(pattern=ID_PATTERN, max_length=200)]
ServiceId = Annotated[str, Field(pattern=ID_PATTERN, max_length=200)]
LabelName = Annotated[
    str, Field(pattern=LABEL_PATTERN, max_length=LONGEST_LABEL_NAME), AfterValidator(_label_name)
]
LabelValue = Annotated[str, Field(max_length=LONGEST_LABEL)]
Labels = Annotated[dict[LabelName, LabelValue], Field(max_length=MOST_LABELS)]


class Service(Declared):
    """A thing people rely on, watched by one or more checks."""

    description: str = ""
    """What the service is, in a few words."""
    owner: str = ""
    """Who looks after it: a team or a person."""
    runbook: str = ""
    """Where it says what to do when the service is down."""
    labels: Labels = Field(default_factory=dict)
    """Labels of every check of the service; the checks' own win."""


class CheckFields(Declared):
    """The fields that every check has. ``id`` is the mapping key in ``checks:``."""

    id: CheckId
    enabled: StrictBool = True
    """`false` parks the check: it keeps its history and is not probed."""
    service: ServiceId | None = None
    """The service it watches, an id under `services`."""
    description: str = ""
    """What it is for, in a few words."""
    interval: Duration = timedelta(seconds=30)
    """How often it is probed: at least 1s, and at least `limits.min_interval`."""
    timeout: Duration = DEFAULT_TIMEOUT
    """How long one probe may take in all: at most the interval. By default 5s, or the interval if that is shorter."""
    labels: Labels = Field(default_factory=dict)
    """Labels of its Prometheus series. They merge key by key with those of its service and of the defaults."""
    references: dict[str, str] = Field(default_factory=dict)
    """Dotted path of a field built from a secret -> the text to show in its place (``${TOKEN}``)."""
    interpolated: tuple[SecretStr, ...] = ()
    """The secret values that references resolved to, wherever they stand."""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Its id alone: a text field may hold what a secret reference stood for."""
        yield "id", self.id

    @model_validator(mode="before")
    @classmethod
    def _timeout_within_a_short_interval(cls, value: Any) -> Any:
        if isinstance(value, dict) and "timeout" not in value and "interval" in value:
            try:
                interval = parse_duration(value["interval"])
            except ValueError:
                return value
            if interval < DEFAULT_TIMEOUT:
                return {**value, "timeout": interval}
        return value

    @model_validator(mode="after")
    def _bounded_by_the_interval(self) -> CheckFields:
        if self.interval < timedelta(seconds=1):
            raise declared_problem(
                "interval", f"interval must be at least 1s, got {format_duration(self.interval)}"
            )
        if self.timeout > self.interval:
            raise declared_problem(
                "timeout",
                f"timeout must be at most the interval ({format_duration(self.interval)}), got {format_duration(self.timeout)}",
            )
        return self

    @property
    def interval_micros(self) -> Micros:
        return to_micros(self.interval)
