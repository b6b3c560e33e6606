"""One result as a person reads it: verdict, phases as bars, what was seen, what was wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from watchbill.cli.terminal import Colour, can_show, paint, plain, seconds
from watchbill.domain.checks import Check, target_of
from watchbill.domain.redaction import redact
from watchbill.domain.results import PHASES, Outcome, Result, by_precedence
from watchbill.domain.specs import redactions
from watchbill.domain.stalls import STALLED
from watchbill.domain.units import SECOND, to_datetime

BAR_WIDTH = 40
SHOWN_ANSWERS = 3
_MARKS: dict[Outcome, tuple[str, Colour]] = {
    Outcome.SUCCESS: ("ok", "green"),
    Outcome.FAILURE: ("FAIL", "red"),
    Outcome.ERROR: ("ERROR", "yellow"),
}
_PHASE_COLOURS: dict[str, Colour] = {
    "resolve": "cyan",
    "connect": "blue",
    "tls": "yellow",
    "processing": "green",
    "transfer": "cyan",
}


def shown_target(check: Check) -> str:
    return plain(redact(target_of(check), redactions(check)))


def lines(result: Result, check: Check, *, widths: tuple[int, int], detailed: bool) -> list[str]:
    """``widths``: of the columns of ids and targets. ``detailed``: phases and facts too."""
    word, colour = _MARKS.get(result.outcome, (result.outcome.value, "grey"))
    status = "" if result.status_code is None else str(result.status_code)
    head = (
        f"{paint(f'{word:5}', colour, bold=True)} {result.check_id:{widths[0]}}  {check.type:9}  "
        f"{shown_target(check):{widths[1]}}  {status:3}  {seconds(result.duration_seconds):>7}"
    )
    body = [*_bars(result), *_seen(result, check)] if detailed else []
    return [head, *body, *_failures(result, colour)]


def _failures(result: Result, colour: Colour) -> list[str]:
    return [
        f"      {paint(failure.reason.value, colour)}: {plain(failure.message)}"
        for failure in by_precedence(result.failures)
    ]


def _bars(result: Result) -> list[str]:
    """A waterfall: each phase starts where the one before ended."""
    whole = sum(result.phases.values())
    if whole <= 0:
        return []
    block = "█" if can_show("█") else "#"
    drawn, before = [], 0.0
    for phase in sorted(result.phases, key=_order):
        took = result.phases[phase]
        start = round(before / whole * BAR_WIDTH)
        end = max(round((before + took) / whole * BAR_WIDTH), start + 1)
        start = min(start, BAR_WIDTH - 1)
        bar = " " * start + paint(
            block * min(end - start, BAR_WIDTH - start), _PHASE_COLOURS.get(phase, "grey")
        )
        drawn.append(f"      {plain(phase):10} {seconds(took):>8}  {bar}")
        before += took
    return drawn


def _order(phase: str) -> int:
    return PHASES.index(phase) if phase in PHASES else len(PHASES)


def redacted(value: Any, secrets: tuple[str, ...]) -> Any:
    """JSON values without the secrets that a target echoed."""
    match value:
        case str():
            return redact(value, secrets)
        case dict():
            return {key: redacted(item, secrets) for key, item in value.items()}
        case list() | tuple():
            return [redacted(item, secrets) for item in value]
        case _:
            return value


def _seen(result: Result, check: Check) -> list[str]:
    facts = [plain(redact(fact, redactions(check))) for fact in _facts(result)]
    return [paint("      " + ", ".join(facts), "grey")] if facts else []


def _facts(result: Result) -> list[str]:
    """What tells people most, in the order in which it was found out."""
    seen: Mapping[str, Any] = result.facts
    found = [str(seen["address"])] if seen.get("address") else []
    for fact, shown in (("http_version", "HTTP/{}"), ("redirects", "redirects {}"), ("tls_version", "{}")):
        if seen.get(fact):
            found.append(shown.format(seen[fact]))
    if isinstance(seen.get("certificate_expires_at"), int | float):
        found.append(_certificate(float(seen["certificate_expires_at"]), result))
    if isinstance(seen.get("body_bytes"), int):
        found.append(f"{seen['body_bytes']:,} bytes")
    if isinstance(seen.get(STALLED), int | float):
        found.append(f"our own event loop stood still for {seconds(seen[STALLED])}")
    return [*found, *_answers(seen), *_packets(seen)]


def _answers(seen: Mapping[str, Any]) -> list[str]:
    answers = [str(answer) for answer in seen.get("answers", ())]
    more = [f"{len(answers) - SHOWN_ANSWERS} more"] if len(answers) > SHOWN_ANSWERS else []
    return [*([str(seen["rcode"])] if seen.get("rcode") else []), *answers[:SHOWN_ANSWERS], *more]


def _packets(seen: Mapping[str, Any]) -> list[str]:
    found = []
    if isinstance(seen.get("loss_percent"), int | float):
        found.append(f"loss {seen['loss_percent']:.3g}%")
    if isinstance(seen.get("rtt_avg"), int | float):
        found.append(f"round trip {seconds(seen['rtt_avg'])}")
    return found


def _certificate(expires: float, result: Result) -> str:
    left = timedelta(seconds=expires) - timedelta(microseconds=result.started_at)
    day = to_datetime(round(expires * SECOND)).date().isoformat()
    if left < timedelta(0):
        return f"certificate expired {day} ({(-left).days} days ago)"
    return f"certificate until {day} ({left.days} days)"
