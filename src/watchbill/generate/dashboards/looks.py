"""Colours, thresholds, mappings and overrides: what a value looks like, the same on every dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]
Thresholds: TypeAlias = Sequence[tuple[float | None, str]]
"""From which value on a colour holds, upwards; the first holds from the lowest value."""

DAY = 86_400

GREEN, YELLOW, ORANGE, RED, GREY, BLUE = "green", "#EAB839", "orange", "red", "#8e8e8e", "blue"
OUTCOME_COLOURS: Final = {
    "success": GREEN,
    "failure": RED,
    "error": "purple",
    "skipped": YELLOW,
    "excused": BLUE,
    "missed": GREY,
}

PLAIN: Final[Thresholds] = ((None, GREEN),)
NEUTRAL: Final[Thresholds] = ((None, BLUE),)
RATIO: Final[Thresholds] = ((None, RED), (0.95, YELLOW), (0.999, GREEN))
CERTIFICATE: Final[Thresholds] = ((None, RED), (7 * DAY, YELLOW), (21 * DAY, GREEN))
BUDGET: Final[Thresholds] = ((None, RED), (0.0001, ORANGE), (0.25, YELLOW), (0.5, GREEN))
BURN: Final[Thresholds] = ((None, GREEN), (1, YELLOW), (3, ORANGE), (6, RED))
"""The factors of the alerts over 30 days: a ticket from 1 and 3, a page from 6."""
LASTS: Final[Thresholds] = ((None, RED), (DAY, YELLOW), (7 * DAY, GREEN))
LINE_AT_NOTHING: Final[Thresholds] = ((None, GREEN), (0, RED))
ANY_IS_BAD: Final[Thresholds] = ((None, GREEN), (1, RED))
MORE_THAN_NOTHING_IS_BAD: Final[Thresholds] = ((None, GREEN), (1e-9, RED))
LESS_THAN_ALL_IS_BAD: Final[Thresholds] = ((None, RED), (1, GREEN))
OVER_50_MS: Final[Thresholds] = ((None, GREEN), (0.05, RED))


def texts(**shown: tuple[str, str]) -> list[Json]:
    """What stands for which number: ``texts(_1=("up", GREEN))``. Nothing at all is unknown."""
    options = {
        number.removeprefix("_").replace("_", "."): {"text": text, "color": colour, "index": index}
        for index, (number, (text, colour)) in enumerate(shown.items())
    }
    unknown = {"match": "null+nan", "result": {"text": "unknown", "color": GREY, "index": len(options)}}
    return [{"type": "value", "options": options}, {"type": "special", "options": unknown}]


STATUS_TEXTS = texts(_1=("up", GREEN), _0_5=("degraded", YELLOW), _0=("down", RED))
SUCCESS_TEXTS = texts(_1=("yes", GREEN), _0=("no", RED))
CONFIG_TEXTS = texts(_1=("current", GREEN), _0=("refused", RED))
BACKGROUND: Final[Json] = {"type": "color-background"}
TEXT: Final[Json] = {"type": "color-text"}


def steps(thresholds: Thresholds) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in thresholds]}


def fixed(colour: str) -> Json:
    return {"mode": "fixed", "fixedColor": colour}


def override(name: str, **properties: Any) -> Json:
    """Looks of one field. ``__`` in a property's name stands for a dot."""
    listed = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


def coloured(name: str, thresholds: Thresholds, *, unit: str, cells: Mapping[str, Any] = TEXT) -> Json:
    """A column whose values have the colours of their thresholds."""
    return override(name, unit=unit, thresholds=steps(thresholds), custom__cellOptions=dict(cells))


OUTCOMES = [override(name, color=fixed(colour)) for name, colour in OUTCOME_COLOURS.items()]
STATUS_COLUMN = override("status", mappings=STATUS_TEXTS, custom__cellOptions=BACKGROUND, unit="short")
