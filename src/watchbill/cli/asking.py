"""The options that rules and their tests share, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click
import re2

from watchbill.cli.certainty import known_wholly
from watchbill.cli.outside import Outside
from watchbill.cli.samples import families
from watchbill.cli.terminal import plain, say
from watchbill.domain.config import LoadedConfig
from watchbill.domain.units import format_duration, parse_duration
from watchbill.generate.asked import PARTS, Asked

LONGEST = timedelta(minutes=2)


class _Span(click.ParamType[timedelta]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            span = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if span > LONGEST:
            self.fail(
                f"at most {format_duration(LONGEST)}: Prometheus forgets a series after five", param, ctx
            )
        return span


class _Parts(click.ParamType[frozenset[str]]):
    name = "parts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        parts = frozenset(str(value).split(","))
        if not parts <= set(PARTS):
            self.fail(f"takes {', '.join(PARTS)}, separated by commas", param, ctx)
        return parts


class _Pattern(click.ParamType[str]):
    name = "regex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            re2.compile(str(value))
        except re2.error:
            self.fail("no regular expression that RE2 accepts", param, ctx)
        return str(value)


class _Selector(click.ParamType[tuple[str, frozenset[str]]]):
    name = "selector"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, frozenset[str]]:
        key, equals, values = str(value).partition("=")
        if not key or not equals:
            self.fail("is written as in service=shop or env=prod,test", param, ctx)
        return key, frozenset(values.split(","))


_OPTIONS = (
    click.option(
        "--only",
        type=_Parts(),
        default=",".join(PARTS),
        show_default=True,
        metavar="PARTS",
        help="Objectives, single checks, Watchbill itself.",
    ),
    click.option(
        "--selector",
        "selectors",
        type=_Selector(),
        multiple=True,
        metavar="KEY=VALUE[,VALUE]",
        help="Only checks with this label, check, service or type; repeatable, all must hold.",
    ),
    click.option(
        "--scrape-interval",
        type=_Span(),
        default="15s",
        show_default=True,
        metavar="DURATION",
        help="How often Prometheus scrapes the exporter.",
    ),
    click.option(
        "--evaluation-interval",
        type=_Span(),
        default=None,
        metavar="DURATION",
        help="How often Prometheus evaluates rules; by default as often as it scrapes.",
    ),
    click.option(
        "--job",
        type=_Pattern(),
        default=Asked().job,
        show_default=True,
        metavar="REGEX",
        help="The scrape job of the exporter.",
    ),
    click.option(
        "--no-secrets", is_flag=True, help="Accept variables and secret files that are missing, as in a CI."
    ),
    click.option("-o", "--output", metavar="FILE", help="Where to write; default stdout."),
)


@dataclass(frozen=True, slots=True)
class Question:
    """What a command line asked for, and where the answer goes."""

    loaded: LoadedConfig
    asked: Asked
    output: str | None
    warnings: Sequence[str] = ()

    def answer(self, text: str, warnings: list[str]) -> None:
        for warning in (*self.warnings, *warnings):
            say(f"watchbill: warning: {plain(warning)}")
        write(text, self.output)


def write(text: str, output: str | None) -> None:
    """To the file, or to stdout where there is none."""
    if output is None or output == "-":
        click.echo(text, nl=False)
    else:
        Path(output).write_text(text, encoding="utf-8")


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """CONFIG and the options; what they come to is passed to ``command`` as ``question``."""

    @wraps(command)
    def with_question(ctx: click.Context, config: str, **given: Any) -> None:
        kept = {name: given.pop(name) for name in tuple(given) if name not in _NAMES}
        outside = ctx.find_object(Outside) or Outside()
        loaded = outside.load(config, resolve_secrets=not given["no_secrets"])
        found, warnings = families(loaded)
        asked = replace(_asked(given), discovered=found)
        if given["no_secrets"] and not known_wholly(loaded.config):
            loaded = replace(loaded, digest="")
        if asked.selectors and not asked.checks(loaded.config):
            raise click.BadParameter(_nothing(asked), param_hint="--selector")
        warnings = warnings if asked.only & {"check", "slo"} else []
        command(question=Question(loaded, asked, given["output"], warnings), **kept)

    decorated: Callable[..., None] = click.pass_context(with_question)
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return click.argument("config")(decorated)


_NAMES = {"only", "selectors", "scrape_interval", "evaluation_interval", "job", "no_secrets", "output"}


def _asked(given: Mapping[str, Any]) -> Asked:
    selectors: dict[str, frozenset[str]] = {}
    for key, values in given["selectors"]:
        selectors[key] = selectors.get(key, values) & values
    return Asked(
        only=given["only"],
        selectors=selectors,
        scrape_interval=given["scrape_interval"],
        evaluation_interval=given["evaluation_interval"] or given["scrape_interval"],
        job=given["job"],
    )


def _nothing(asked: Asked) -> str:
    wanted = " ".join(f"{key}={','.join(sorted(values))}" for key, values in asked.selectors.items())
    return f"no enabled check has {wanted}"


def arguments(asked: Asked, *more: str) -> str:
    """The options that make the same text again, as they would be typed."""
    words = list(more)
    default = Asked()
    if asked.only != default.only:
        words.append(f"--only {','.join(part for part in PARTS if part in asked.only)}")
    words += [
        f"--selector {key}={','.join(sorted(values))}" for key, values in sorted(asked.selectors.items())
    ]
    if asked.scrape_interval != default.scrape_interval:
        words.append(f"--scrape-interval {format_duration(asked.scrape_interval)}")
    if asked.evaluation_interval != asked.scrape_interval:
        words.append(f"--evaluation-interval {format_duration(asked.evaluation_interval)}")
    if asked.job != default.job:
        words.append(f"--job '{asked.job}'")
    return " ".join(words)
