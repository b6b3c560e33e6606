"""``watchbill probe``: run checks now and say what they found."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import click

from watchbill.cli.junit import render
from watchbill.cli.outside import Outside
from watchbill.cli.targets import check_of, guess, is_target
from watchbill.cli.terminal import count, paint, say
from watchbill.cli.waterfall import lines, redacted, shown_target
from watchbill.domain.checks import Check
from watchbill.domain.config import Config, LoadedConfig, config_digest
from watchbill.domain.results import Outcome, Result, by_precedence
from watchbill.domain.specs import redactions
from watchbill.domain.units import isoformat

DETAILED_AT_MOST = 5

Checks: TypeAlias = Mapping[str, Check]


@click.command()
@click.argument("config", metavar="CONFIG|URL")
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    show_default=True,
)
@click.pass_context
def probe(ctx: click.Context, config: str, ids: tuple[str, ...], form: str) -> None:
    """Run checks now: those of CONFIG (all that are enabled, or only ID...), or one made from a URL.

    A URL is https://..., tcp://HOST:PORT, tls://HOST[:PORT], icmp://HOST or dns://[SERVER/]NAME. Up to five
    results are shown with their phases. Nothing is stored.

    Exit code: 0 all good, 1 some failed, 2 CONFIG not valid.
    """
    outside = ctx.find_object(Outside) or Outside()
    loaded, chosen = _chosen(outside, config, ids)
    if sys.stderr.isatty() and len(chosen) > DETAILED_AT_MOST:
        say(f"probing {count(len(chosen), 'check')} ...")
    results = list(outside.execute(loaded, chosen))
    click.echo(_FORMS[form](results, loaded.config.checks, config))
    ctx.exit(int(any(result.outcome is not Outcome.SUCCESS for result in results)))


def _chosen(outside: Outside, config: str, ids: Sequence[str]) -> tuple[LoadedConfig, tuple[str, ...]]:
    if "://" in config or (is_target(config) and not Path(config).exists()):
        if ids:
            raise click.UsageError("a URL is one check; ids belong to a configuration")
        loaded = _single(config)
        return loaded, tuple(loaded.config.checks)
    if not (Path(config).exists() or "/" in config or config.endswith((".yaml", ".yml"))):
        raise click.UsageError(
            f"there is no file {config}; a target says how to probe it: https://{config}/, icmp://{config}, {config}:443"
        )
    loaded = outside.load(config)
    return loaded, _named(loaded.config.checks, ids) if ids else _enabled(loaded.config.checks)


def _single(target: str) -> LoadedConfig:
    check = check_of(guess(target))
    config = Config(checks={check.id: check})
    return LoadedConfig(config, digest=config_digest(config))


def _named(checks: Checks, ids: Sequence[str]) -> tuple[str, ...]:
    for check_id in ids:
        if check_id not in checks:
            near = get_close_matches(check_id, checks, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"no check is called {check_id}{hint}")
        if checks[check_id].type == "heartbeat":
            raise click.UsageError(f"{check_id} is a heartbeat: it waits to be called and cannot be probed")
    return tuple(dict.fromkeys(ids))


def _enabled(checks: Checks) -> tuple[str, ...]:
    chosen = tuple(each.id for each in checks.values() if each.enabled and each.type != "heartbeat")
    parked = sum(not each.enabled for each in checks.values())
    waiting = len(checks) - len(chosen) - parked
    for number, why in ((parked, "not enabled"), (waiting, "a heartbeat, which waits to be called")):
        if number:
            say(f"left out: {count(number, 'check')} ({why})")
    return chosen


def _text(results: Sequence[Result], checks: Checks, _: str) -> str:
    names = [(len(result.check_id), len(shown_target(checks[result.check_id]))) for result in results]
    widths = max((own for own, _ in names), default=0), max((target for _, target in names), default=0)
    detailed = len(results) <= DETAILED_AT_MOST
    said = [
        line
        for result in results
        for line in lines(result, checks[result.check_id], widths=widths, detailed=detailed)
    ]
    return "\n".join([*said, _summary(results)])


def _json(results: Sequence[Result], checks: Checks, _: str) -> str:
    found = [_result(result, checks[result.check_id]) for result in results]
    return json.dumps({"summary": _counts(results), "results": found}, indent=2, default=str)


def _junit(results: Sequence[Result], checks: Checks, suite: str) -> str:
    return render(results, checks, suite=suite)


_FORMS: dict[str, Callable[[Sequence[Result], Checks, str], str]] = {
    "text": _text,
    "json": _json,
    "junit": _junit,
}


def _counts(results: Sequence[Result]) -> dict[str, int]:
    found = Counter(result.outcome.value for result in results)
    return {name: found[name] for name in ("success", "failure", "error")}


def _summary(results: Sequence[Result]) -> str:
    found = _counts(results)
    parts = [paint(f"{found['success']} ok", "green")]
    if found["failure"]:
        parts.append(paint(f"{found['failure']} failed", "red", bold=True))
    if found["error"]:
        parts.append(paint(f"{found['error']} could not be probed", "yellow", bold=True))
    return f"{count(len(results), 'check')}: {', '.join(parts)}"


def _result(result: Result, check: Check) -> dict[str, Any]:
    return {
        "id": result.check_id,
        "type": check.type,
        "service": check.service,
        "target": shown_target(check),
        "outcome": result.outcome.value,
        "reason": result.reason.value if result.reason else None,
        "started_at": isoformat(result.started_at),
        "duration_seconds": result.duration_seconds,
        "phases": dict(result.phases),
        "status_code": result.status_code,
        "failures": [
            {"reason": failure.reason.value, "message": failure.message}
            for failure in by_precedence(result.failures)
        ],
        "facts": redacted(dict(result.facts), redactions(check)),
    }
