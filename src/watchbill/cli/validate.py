"""``watchbill validate``: every mistake at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import click

from watchbill.cli.outside import Outside
from watchbill.cli.problems import as_json, github_line, summary, text_lines
from watchbill.cli.terminal import count, paint, plain
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import ConfigError, Problem

INVALID = 2


@click.command()
@click.argument("config")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="github marks the lines in a pull request.",
)
@click.option(
    "--no-secrets", is_flag=True, help="Accept variables and secret files that are missing, as in a CI."
)
@click.option(
    "--web.config.file",
    "web_config",
    default="",
    metavar="FILE",
    help="Check this web configuration too, with the certificates that it names.",
)
@click.pass_context
def validate(ctx: click.Context, config: str, form: str, no_secrets: bool, web_config: str) -> None:
    """Check CONFIG, a file or a folder, and report every mistake at once.

    Exit code: 0 valid, 2 not valid.
    """
    outside = ctx.find_object(Outside) or Outside()
    problems: list[Problem] = []
    loaded = None
    try:
        loaded = outside.load(config, resolve_secrets=not no_secrets)
    except ConfigError as error:
        problems += error.problems
    try:
        if web_config:
            outside.load_web(web_config)
    except ConfigError as error:
        problems += error.problems
    if loaded is None or problems:
        click.echo(_INVALID_FORMS[form](tuple(sorted(problems))))
        ctx.exit(INVALID)
    click.echo(_valid_json(loaded) if form == "json" else _valid_text(config, loaded))


def _invalid_text(problems: tuple[Problem, ...]) -> str:
    return "\n".join([*text_lines(problems), paint(summary(problems), "red", bold=True)])


def _invalid_github(problems: tuple[Problem, ...]) -> str:
    return "\n".join([*map(github_line, problems), summary(problems)])


def _invalid_json(problems: tuple[Problem, ...]) -> str:
    return json.dumps({"valid": False, "problems": [as_json(each) for each in problems]}, indent=2)


_INVALID_FORMS: dict[str, Callable[[tuple[Problem, ...]], str]] = {
    "text": _invalid_text,
    "github": _invalid_github,
    "json": _invalid_json,
}


def _types(loaded: LoadedConfig) -> dict[str, int]:
    return dict(sorted(Counter(check.type for check in loaded.config.checks.values()).items()))


def _valid_text(path: str, loaded: LoadedConfig) -> str:
    types = ", ".join(f"{number:,} {kind}" for kind, number in _types(loaded).items())
    checks = count(len(loaded.config.checks), "check") + (f" ({types})" if types else "")
    services = count(len(loaded.config.services), "service")
    files = count(len(loaded.files), "file")
    blocks = count(len(loaded.config.discover), "block") + " of discover, " if loaded.config.discover else ""
    return f"{plain(path)}: {paint('valid', 'green', bold=True)}: {checks}, {blocks}{services}, {files}"


def _valid_json(loaded: LoadedConfig) -> str:
    answer: dict[str, Any] = {
        "valid": True,
        "problems": [],
        "digest": loaded.digest,
        "revision": loaded.revision,
        "files": list(loaded.files),
        "services": len(loaded.config.services),
        "checks": _types(loaded),
        "discover": list(loaded.config.discover),
    }
    return json.dumps(answer, indent=2)
