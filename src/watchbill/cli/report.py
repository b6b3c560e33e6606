"""``watchbill report``: uptime, coverage and latency over a period, from the running exporter's history."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from watchbill.cli.exporter import access_option, open_client
from watchbill.cli.options import server_option
from watchbill.cli.outside import Outside
from watchbill.cli.terminal import count, paint, plain, say, seconds, table
from watchbill.domain.history import Coverage
from watchbill.domain.units import isoformat, parse_duration, to_instant, to_micros

OUTCOMES = ("success", "failure", "error", "skipped", "excused", "missed")
QUANTILES = ("p50", "p95", "p99")


@dataclass(frozen=True, slots=True)
class Line:
    """One check, or one service with its checks' slots added up.

    ``latency`` is of successes, in seconds; of a service it is its slowest check's, since quantiles do not
    add up.
    """

    name: str
    service: str
    location: str
    checks: int
    slots: dict[str, int]
    expected: int
    unaccounted: int
    latency: dict[str, float | None]

    @property
    def judged(self) -> int:
        return self.slots["success"] + self.slots["failure"]

    @property
    def uptime(self) -> float | None:
        return self.slots["success"] / self.judged if self.judged else None

    @property
    def coverage(self) -> float | None:
        return self.judged / self.expected if self.expected else None


@click.command()
@server_option("The running exporter, whose history is asked.")
@access_option()
@click.option(
    "--since",
    default="24h",
    show_default=True,
    metavar="TIME",
    help="A length of time before now (24h, 7d), a date, or a time with its zone (2026-11-01T06:00Z).",
)
@click.option("--until", default="now", show_default=True, metavar="TIME", help="The same; or now.")
@click.option("--by", type=click.Choice(["check", "service"]), default="check", show_default=True)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
)
@click.pass_context
def report(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context, server: str, http_config: str, since: str, until: str, by: str, form: str
) -> None:
    """Print uptime, coverage, every slot by how it ended, and latency.

    Uptime is success / (success + failure); coverage is (success + failure) / expected, so that what was not
    looked at never counts as good. By service, slots add up and latency is the slowest check's.

    Exit code: 0 printed, 1 no answer.
    """
    now = (ctx.find_object(Outside) or Outside()).now()
    start, end = _instant(since, now, "--since"), _instant(until, now, "--until")
    if start >= end:
        raise click.UsageError("--since must be before --until")
    with open_client(server, http_config) as client:
        rows = client.report(since=start, until=end)
    found = [_of_check(row) for row in rows] if by == "check" else _of_services(rows)
    click.echo(_FORMS[form](found, (isoformat(start), isoformat(end)), by), nl=form != "csv")
    _warn(found)


def _instant(text: str, now: int, option: str) -> int:
    if text == "now":
        return now
    try:
        return now - to_micros(parse_duration(text))
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"{option} takes a length of time (24h), a date (2026-11-01) or a time (2026-11-01T06:00Z), got {text!r}"
        ) from None
    return to_instant(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _of_check(row: Coverage) -> Line:
    return Line(
        name=row.check_id,
        service=row.service,
        location=row.location,
        checks=1,
        slots={outcome: getattr(row, outcome) for outcome in OUTCOMES},
        expected=row.expected,
        unaccounted=row.unaccounted,
        latency={quantile: getattr(row, f"latency_{quantile}") for quantile in QUANTILES},
    )


def _of_services(rows: Iterable[Coverage]) -> list[Line]:
    members: dict[tuple[str, str], list[Line]] = {}
    for row in rows:
        members.setdefault((row.service, row.location), []).append(_of_check(row))
    return [_added_up(*key, lines) for key, lines in sorted(members.items())]


def _added_up(service: str, location: str, lines: Sequence[Line]) -> Line:
    return Line(
        name=service,
        service=service,
        location=location,
        checks=len(lines),
        slots={outcome: sum(line.slots[outcome] for line in lines) for outcome in OUTCOMES},
        expected=sum(line.expected for line in lines),
        unaccounted=sum(line.unaccounted for line in lines),
        latency={quantile: _slowest(line.latency[quantile] for line in lines) for quantile in QUANTILES},
    )


def _slowest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _warn(found: Sequence[Line]) -> None:
    lost = sum(line.unaccounted for line in found)
    if lost:
        say(f"warning: {count(lost, 'slot')} unaccounted: history is damaged, see the exporter's log")


# --- forms --------------------------------------------------------------------------------------------


def _text(found: Sequence[Line], period: tuple[str, str], by: str) -> str:
    head = f"{period[0]} to {period[1]}"
    if not found:
        return f"{head}\n\nno slots"
    # A column of zeros says nothing; success and failure always stand, since uptime is made of them.
    outcomes = [each for each in OUTCOMES if each in OUTCOMES[:2] or any(line.slots[each] for line in found)]
    names = [by.upper(), *(["LOCATION"] if any(line.location for line in found) else [])]
    header = [*names, "UPTIME", "COVERAGE", "EXPECTED", *map(str.upper, outcomes), *QUANTILES]
    rows = [_cells(line, outcomes, located=len(names) > 1) for line in found]
    right = [False] * len(names) + [True] * (len(header) - len(names))
    return "\n".join([head, "", *table(header, rows, right=right), "", _accounts(found)])


def _accounts(found: Sequence[Line]) -> str:
    expected = sum(line.expected for line in found)
    lost = sum(line.unaccounted for line in found)
    return f"{count(expected, 'slot')} expected, {lost:,} unaccounted"


def _cells(line: Line, outcomes: Sequence[str], *, located: bool) -> list[str]:
    counts = [line.expected, *(line.slots[outcome] for outcome in outcomes)]
    latency = ["-" if value is None else seconds(value) for value in line.latency.values()]
    names = [plain(line.name) or "(none)", *([plain(line.location)] if located else [])]
    coverage = percent(line.judged, line.expected)
    return [*names, _judged(line), coverage, *(f"{number:,}" for number in counts), *latency]


def _judged(line: Line) -> str:
    shown = percent(line.slots["success"], line.judged)
    if not line.judged:
        return shown
    return paint(shown, "green" if line.slots["failure"] == 0 else "red")


def percent(part: int, whole: int) -> str:
    """Cut, not rounded: 100% means every one of them. In whole numbers, since 0.29 * 100 is less than 29."""
    return f"{part * 100_000 // whole / 1000:.3f}%" if whole else "-"


def _json(found: Sequence[Line], period: tuple[str, str], by: str) -> str:
    rows = [_flat(line, by) for line in found]
    return json.dumps({"since": period[0], "until": period[1], "by": by, "rows": rows}, indent=2)


def _csv(found: Sequence[Line], _: tuple[str, str], by: str) -> str:
    text = io.StringIO()
    header = ["id", "service", "location"] if by == "check" else ["service", "location", "checks"]
    header += ["uptime", "coverage", "expected", *OUTCOMES, "unaccounted"]
    header += [f"latency_{quantile}_seconds" for quantile in QUANTILES]
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_flat(line, by) for line in found)
    return text.getvalue()


def _flat(line: Line, by: str) -> dict[str, Any]:
    own = {"id": line.name, "service": line.service, "location": line.location}
    of_service = {"service": line.service, "location": line.location, "checks": line.checks}
    return {
        **(own if by == "check" else of_service),
        "uptime": line.uptime,
        "coverage": line.coverage,
        "expected": line.expected,
        **line.slots,
        "unaccounted": line.unaccounted,
        **{
            f"latency_{quantile}_seconds": None if value is None else round(value, 6)
            for quantile, value in line.latency.items()
        },
    }


_FORMS: dict[str, Callable[[Sequence[Line], tuple[str, str], str], str]] = {
    "text": _text,
    "json": _json,
    "csv": _csv,
}
