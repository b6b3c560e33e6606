"""What ``slos:`` declares: how often which checks must succeed, and how fast, over what time."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    StrictBool,
    WithJsonSchema,
    model_validator,
)

from watchbill.domain.checks import Check
from watchbill.domain.fields import ID_PATTERN, LABEL_PATTERN, RESERVED_LABELS, ServiceId
from watchbill.domain.rules import Declared, declared_problem, listed
from watchbill.domain.units import Duration, format_duration

PERCENTAGE_PATTERN = r"^\s*[1-9][0-9]?(\.[0-9]{1,6})?\s*%?\s*$"
SHORTEST_WINDOW, LONGEST_WINDOW = timedelta(days=1), timedelta(days=366)
SloId = Annotated[str, Field(pattern=ID_PATTERN, max_length=200)]
OWN_LABELS = ("check", "service", "type")
"""What a check has beside the labels it declares."""


def parse_percentage(value: object) -> Decimal:
    """Read ``99.9%`` or ``99.9``: at least 1 and under 100, with at most six decimals.

    :raises ValueError: for anything else, 0.999 among it, which would be hardly anything.
    """
    if isinstance(value, Decimal):
        return value
    text = "" if isinstance(value, bool) or not isinstance(value, str | int | float) else str(value)
    if not re.fullmatch(PERCENTAGE_PATTERN, text):
        raise ValueError("an objective is a percentage from 1 to under 100, such as 99.9%")
    return Decimal(text.strip().rstrip("%").strip())


def format_percentage(value: Decimal) -> str:
    return f"{value.normalize():f}%"


Objective: TypeAlias = Annotated[
    Decimal,
    BeforeValidator(parse_percentage),
    PlainSerializer(format_percentage, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 1, "exclusiveMaximum": 100},
                {"type": "string", "pattern": PERCENTAGE_PATTERN},
            ]
        }
    ),
]


def _matched_label(name: str) -> str:
    if name in OWN_LABELS:
        return name
    if name in RESERVED_LABELS or name.startswith("__") or not re.fullmatch(LABEL_PATTERN, name):
        raise ValueError(f"match takes {', '.join(OWN_LABELS)} and the labels that checks declare")
    return name


MatchedLabel = Annotated[str, Field(max_length=200), AfterValidator(_matched_label)]
MatchedText = Annotated[str, Field(min_length=1, max_length=1000)]
MatchedTexts = Annotated[
    tuple[MatchedText, ...], Field(min_length=1, max_length=1000), BeforeValidator(listed)
]


class LatencyObjective(Declared):
    """How many of the probes must succeed within a time. One that fails is not within it."""

    objective: Objective
    """The share that must, a percentage such as `99%`."""
    within: Duration
    """How long a probe may take in all: one of `metrics.buckets`."""


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, dict) else value


class Slo(Declared):
    """An objective for the checks of a service, or for those that `match` selects: at least one of `availability` and `latency`."""

    description: str = ""
    """What users may rely on, in a few words."""
    service: ServiceId | None = None
    """The service whose checks count, an id under `services`."""
    match: Annotated[dict[MatchedLabel, MatchedTexts], Field(min_length=1, max_length=64)] | None = None
    """Instead of a service: `check`, `service`, `type` or a declared label -> a value, or a list of which any will do. A check must meet all of them."""
    window: Duration = timedelta(days=30)
    """The time over which it must hold, rolling: 1d to 366d."""
    availability: Objective | None = None
    """How many of the slots with a verdict must be a success, a percentage such as `99.9%`."""
    latency: Annotated[tuple[LatencyObjective, ...], Field(max_length=10), BeforeValidator(_one_or_more)] = ()
    """How many must be a success within a time; one such objective or a list."""
    alerts: StrictBool = True
    """`false`: record it, and alert nobody."""

    @model_validator(mode="after")
    def _whole(self) -> Slo:
        if (self.service is None) == (self.match is None):
            where = "service" if self.service is not None else ""
            raise declared_problem(where, "an objective takes exactly one of `service` and `match`")
        if self.availability is None and not self.latency:
            raise declared_problem("", "an objective takes `availability`, `latency` or both")
        if not SHORTEST_WINDOW <= self.window <= LONGEST_WINDOW:
            raise declared_problem(
                "window", f"window must be from 1d to 366d, got {format_duration(self.window)}"
            )
        bounds = [each.within for each in self.latency]
        if len(set(bounds)) < len(bounds):
            raise declared_problem("latency", "latency names the same `within` twice; leave one of them out")
        return self

    def selects(self, check: Check) -> bool:
        if self.match is None:
            return check.service == self.service
        return labels_meet(labels_of(check), self.match)

    def checks(self, declared: Iterable[Check]) -> list[Check]:
        """Those it is about and that are not parked, by their ids."""
        return sorted(
            (check for check in declared if check.enabled and self.selects(check)), key=lambda check: check.id
        )


def labels_of(check: Check) -> dict[str, str]:
    """What a check can be selected by."""
    return {**check.labels, "check": check.id, "service": check.service or "", "type": check.type}


def labels_meet(labels: Mapping[str, str], wanted: Mapping[str, Collection[str]]) -> bool:
    return all(labels.get(name, "") in values for name, values in wanted.items())
