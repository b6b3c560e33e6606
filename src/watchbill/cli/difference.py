"""What a configuration would change, and how that reads: text, JSON, markdown.

Everything shown is masked: secrets stand as the reference they were written as, or as ``(secret)``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from watchbill.cli.terminal import Colour, paint, plain
from watchbill.domain.checks import CHECK_TYPES, TYPE_NAMES
from watchbill.domain.plan import Change, FieldChange, Load, Plan, load_of
from watchbill.domain.specs import Spec
from watchbill.domain.units import format_duration

SHOWN_CHARACTERS = 100
Kind = Literal["+", "~", "-", ">", " "]
_MODELS = dict(zip(TYPE_NAMES, CHECK_TYPES, strict=True))
_COLOURS: dict[Kind, Colour] = {"+": "green", "~": "yellow", "-": "red", ">": "cyan", " ": "grey"}


@dataclass(frozen=True, slots=True)
class Difference:
    """A plan, the specs it was made from, and what differs beside the checks.

    ``refused``: a reload would not do it, since it deletes most of what runs.
    ``secrets_compared``: whether a changed secret would have been seen.
    """

    plan: Plan
    desired: Mapping[str, Spec]
    actual: Mapping[str, Spec]
    settings: tuple[FieldChange, ...]
    series: Mapping[str, int]
    refused: bool = False
    secrets_compared: bool = True

    @property
    def empty(self) -> bool:
        return self.plan.empty and not self.settings

    def loads(self) -> tuple[Load, Load]:
        """Before and after."""
        return load_of(self.actual, self.series), load_of(self.desired, self.series)

    def series_ending(self) -> int:
        restarted = [change.moved_from or change.check_id for change in self._restarting()]
        return self._series(self.actual, [*self.plan.removed, *restarted])

    def series_beginning(self) -> int:
        restarted = [change.check_id for change in self._restarting()]
        return self._series(self.desired, [*self.plan.added, *restarted])

    def _series(self, specs: Mapping[str, Spec], ids: Sequence[str]) -> int:
        return sum(self.series[specs[each].type] for each in ids if specs[each].enabled)

    def _restarting(self) -> Iterator[Change]:
        yield from self.plan.moved
        yield from (change for change in self.plan.changed if restarts_series(change))


def restarts_series(change: Change) -> bool:
    """Whether a label of all its series changes, so that they end and others begin."""
    return any(
        each.path in {"service", "type", "enabled"} or each.path.partition(".")[0] == "labels"
        for each in change.fields
    )


# --- lines --------------------------------------------------------------------------------------------


def lines(difference: Difference) -> Iterator[tuple[Kind, str]]:
    """What changes, each line with its sign; the details of a check follow it under a blank."""
    plan, width = difference.plan, _width(difference.plan)
    for check_id in plan.added:
        yield "+", f"{check_id:{width}}  {describe(difference.desired[check_id])}"
    for change in plan.changed:
        note = "  (its series start anew)" if restarts_series(change) else ""
        yield "~", f"{change.check_id}{note}"
        yield from _fields(change.fields, *_types(difference, change))
    for check_id in plan.removed:
        yield "-", f"{check_id:{width}}  {describe(difference.actual[check_id])}"
    for change in plan.moved:
        yield ">", f"moved {change.moved_from} -> {change.check_id}  (history goes on, series start anew)"
        yield from _fields(change.fields, *_types(difference, change))
    if difference.settings:
        yield "~", "settings"
        yield from _fields(difference.settings)


def _width(plan: Plan) -> int:
    return max(map(len, plan.added + plan.removed), default=0)


def _types(difference: Difference, change: Change) -> tuple[str, str]:
    """Of the check before and after, whose fields have the defaults of its type."""
    running = difference.actual[change.moved_from or change.check_id]
    return running.type, difference.desired[change.check_id].type


def _fields(fields: Sequence[FieldChange], before: str = "", after: str = "") -> Iterator[tuple[Kind, str]]:
    width = max((len(each.path) for each in fields), default=0)
    for each in fields:
        then, now = shown(each.before, absent(before, each.path)), shown(each.after, absent(after, each.path))
        said = f"{now}  (secret changed)" if each.secret else f"{then} -> {now}"
        yield " ", f"    {plain(each.path):{width}}  {said}"


def absent(kind: str, path: str) -> str:
    """What holds in a check of this type where nothing is declared."""
    model = _MODELS.get(kind)
    field = model.model_fields.get(path) if model is not None else None
    match field.default if field is not None else None:
        case timedelta() as length if path != "timeout":  # whose default depends on the interval
            return f"({format_duration(length)}, default)"
        case bool() | int() | str() as value if value != "":
            return f"({json.dumps(value) if isinstance(value, bool) else value}, default)"
        case timedelta():
            return "(default)"
        case _:
            return "(default)" if model is not None and "." in path else "(none)"


def shown(value: Any, nothing: str = "(none)") -> str:
    if value is None:
        return nothing
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
    text = plain(text)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def describe(spec: Spec) -> str:
    """``http  https://shop.example/  every 30s``."""
    fields = spec.fields
    parked = "" if spec.enabled else ", not enabled"
    match spec.type:
        case "http":
            what = fields.get("url")
        case "tcp" | "tls":
            what = f"{fields.get('host')}:{fields.get('port', 443)}"
        case "dns":
            server = f" at {fields['server']}" if "server" in fields else ""
            what = f"{fields.get('name')} {fields.get('record', 'A')}{server}"
        case "heartbeat":
            return f"{spec.type:9}  expected every {plain(fields.get('every'))}, judged every {interval(spec)}{parked}"
        case _:
            what = fields.get("host")
    return f"{spec.type:9}  {plain(what)}  every {interval(spec)}{parked}"


def interval(spec: Spec) -> str:
    return format_duration(timedelta(microseconds=spec.interval))


def counted(plan: Plan) -> str:
    found = plan.counts()
    return (
        f"{found['added']:,} to add, {found['changed']:,} to change, "
        f"{found['removed']:,} to remove, {found['moved']:,} to move"
    )


def loads(difference: Difference) -> list[tuple[str, str, str, str]]:
    """Rows of what it costs: name, before, after, the difference."""
    before, after = difference.loads()
    change = after.minus(before)
    whole = [
        ("checks", before.checks, after.checks, change.checks),
        ("rows/day", before.rows_per_day, after.rows_per_day, change.rows_per_day),
        ("series", before.series, after.series, change.series),
    ]
    rows = [(name, f"{then:,}", f"{now:,}", f"{by:+,}" if by else "") for name, then, now, by in whole]
    by = round(change.checks_per_second, 3)
    rate = (
        f"{before.checks_per_second:,.3g}",
        f"{after.checks_per_second:,.3g}",
        f"{by:+,.3g}" if by else "",
    )
    return [rows[0], ("probes/s", *rate), *rows[1:]]


def remarks(difference: Difference) -> list[str]:
    found = []
    ending, beginning = difference.series_ending(), difference.series_beginning()
    if ending or beginning:
        found.append(f"series: {beginning:,} begin, {ending:,} end")
    if difference.plan.removed:
        found.append("removed checks leave /metrics at the next scrape; their history stays until retention")
    if difference.refused:
        found.append(
            "a reload would refuse this, since it deletes more than half of the checks: "
            "--allow-mass-delete allows it, or limits: {mass_delete: allow}"
        )
    if not difference.secrets_compared:
        found.append("secrets and variables without a value here were not compared")
    return found


# --- forms --------------------------------------------------------------------------------------------


def coloured_lines(difference: Difference) -> list[str]:
    return [_coloured(kind, text) for kind, text in lines(difference)]


def as_text(difference: Difference) -> str:
    said = coloured_lines(difference)
    if said:
        said.append("")
    said.append(_verdict(difference))
    rows = loads(difference)
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, before, after, change in rows:
        line = f"  {name:{widths[0]}}  {before:>{widths[1]}} -> {after:>{widths[2]}}  {change:>{widths[3]}}"
        said.append(line.rstrip())
    return "\n".join([*said, *(f"  {remark}" for remark in remarks(difference))])


def _verdict(difference: Difference) -> str:
    if difference.empty:
        return "no changes"
    if difference.plan.empty:
        return "no check changes; settings do"
    return counted(difference.plan)


def _coloured(kind: Kind, text: str) -> str:
    if kind == " ":
        return text
    sign = "" if kind == ">" else f"{kind} "
    return paint(f"{sign}{text}", _COLOURS[kind])


def as_markdown(difference: Difference, *, title: str) -> str:
    """A comment for a pull request; the hidden first line lets a bot find and replace it."""
    said = ["<!-- watchbill-plan -->", f"### {_inline(title)}: {_verdict(difference)}", ""]
    body = [f"{_MARKDOWN_SIGNS[kind]} {text}".rstrip() for kind, text in lines(difference)]
    if body:
        fence = "`" * max(3, 1 + max(_longest_ticks(line) for line in body))
        said += [f"{fence}diff", *body, fence, ""]
    said += ["| | before | after | change |", "|---|--:|--:|--:|"]
    said += [
        f"| {name} | {before} | {after} | {change} |" for name, before, after, change in loads(difference)
    ]
    return "\n".join([*said, "", *(f"- {remark}" for remark in remarks(difference))]).rstrip()


_MARKDOWN_SIGNS: dict[Kind, str] = {"+": "+", "~": "!", "-": "-", ">": "!", " ": " "}


def _inline(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_[]<>&|" else c for c in plain(text))


def _longest_ticks(line: str) -> int:
    return max(map(len, re.findall("`+", line)), default=0)


def as_json(difference: Difference) -> dict[str, Any]:
    before, after = difference.loads()
    plan = difference.plan
    return {
        "changes": not difference.empty,
        "added": [_brief(check_id, difference.desired) for check_id in plan.added],
        "changed": [_change(change) for change in plan.changed],
        "removed": [_brief(check_id, difference.actual) for check_id in plan.removed],
        "moved": [{**_change(change), "moved_from": change.moved_from} for change in plan.moved],
        "settings": [_field(each) for each in difference.settings],
        "load": {"before": _load(before), "after": _load(after)},
        "series": {"begin": difference.series_beginning(), "end": difference.series_ending()},
        "refused_as_mass_delete": difference.refused,
        "secrets_compared": difference.secrets_compared,
    }


def _brief(check_id: str, specs: Mapping[str, Spec]) -> dict[str, Any]:
    spec = specs[check_id]
    return {"id": check_id, "type": spec.type, "interval": interval(spec), "enabled": spec.enabled}


def _change(change: Change) -> dict[str, Any]:
    return {"id": change.check_id, "fields": [_field(each) for each in change.fields]}


def _field(each: FieldChange) -> dict[str, Any]:
    return {"path": each.path, "before": each.before, "after": each.after, "secret_changed": each.secret}


def _load(load: Load) -> dict[str, Any]:
    return {
        "checks": load.checks,
        "checks_per_second": round(load.checks_per_second, 6),
        "rows_per_day": load.rows_per_day,
        "series": load.series,
    }
