"""``watchbill plan``: what a configuration would change, before it does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click
from pydantic import SecretStr

from watchbill.cli.alike import with_known_files, with_unresolved, without_root
from watchbill.cli.difference import Difference, as_json, as_markdown, as_text
from watchbill.cli.exporter import access_option, open_client
from watchbill.cli.outside import Outside
from watchbill.client import DEFAULT_SERVER, Client
from watchbill.domain.config import LoadedConfig
from watchbill.domain.plan import FieldChange, diff, effective_moves, field_changes
from watchbill.domain.series import SERIES
from watchbill.domain.specs import MASK, Spec, spec_from_masked, spec_of

CHANGES = 2


@click.command()
@click.argument("config")
@click.option(
    "--against",
    default=DEFAULT_SERVER,
    show_default=True,
    metavar="URL|CONFIG",
    envvar="WATCHBILL_SERVER",
    show_envvar=True,
    help="The running exporter, or another configuration (in a CI: the target branch's).",
)
@access_option()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 2 where there are changes.")
@click.option(
    "--no-secrets",
    is_flag=True,
    help="Accept missing variables and secret files, and compare nothing with them.",
)
@click.pass_context
def plan(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    config: str,
    against: str,
    http_config: str,
    form: str,
    detailed_exitcode: bool,
    no_secrets: bool,
) -> None:
    """Show what CONFIG would change: checks with their differing fields, load, rows and series.

    Exit code: 0, or with --detailed-exitcode 2 where there are changes; 1 for every error.
    """
    outside = ctx.find_object(Outside) or Outside()
    difference = _difference(outside, config, against, http_config, secrets=not no_secrets)
    match form:
        case "text":
            click.echo(as_text(difference))
        case "json":
            click.echo(json.dumps(as_json(difference), indent=2, default=str))
        case _:
            click.echo(as_markdown(difference, title=f"Plan for {config}"))
    if detailed_exitcode and not difference.empty:
        ctx.exit(CHANGES)


def _difference(
    outside: Outside, config: str, against: str, http_config: str, *, secrets: bool
) -> Difference:
    loaded = outside.load(config, resolve_secrets=secrets)
    desired = _specs(loaded, config, secrets=secrets)
    if "://" in against:
        with open_client(against, http_config) as client:
            return _against_exporter(outside, loaded, desired, client, secrets=secrets)
    other = outside.load(against, resolve_secrets=secrets)
    actual = _specs(other, against, secrets=secrets)
    return _compared(loaded, desired, actual, _settings(other), secrets=secrets)


def _against_exporter(
    outside: Outside, loaded: LoadedConfig, desired: Mapping[str, Spec], client: Client, *, secrets: bool
) -> Difference:
    running = client.config()
    here = _by_running_id(desired, running.specs, loaded.config.moved)
    actual: Mapping[str, Spec] = with_known_files(running.specs, here)
    if not secrets:
        actual = with_unresolved(actual, here)
        here = {check_id: _literal_only(spec) for check_id, spec in here.items()}
    actual = _with_secrets(outside, client, here, actual)
    return _compared(loaded, desired, actual, running.settings, secrets=secrets)


def _compared(
    loaded: LoadedConfig,
    desired: Mapping[str, Spec],
    actual: Mapping[str, Spec],
    settings: Mapping[str, Any],
    *,
    secrets: bool,
) -> Difference:
    changes = diff(desired, actual, loaded.config.moved)
    return Difference(
        plan=changes,
        desired=desired,
        actual=actual,
        settings=_setting_changes(settings, _settings(loaded)),
        series=SERIES,
        refused=changes.deletes_most_of(len(actual)) and loaded.config.limits.mass_delete == "refuse",
        secrets_compared=secrets,
    )


def _specs(loaded: LoadedConfig, path: str, *, secrets: bool) -> dict[str, Spec]:
    """``secrets=False``: a secret that is its own reference has no value here, and is not to be compared."""
    specs = {check_id: spec_of(check) for check_id, check in loaded.config.checks.items()}
    if not secrets:
        specs = {check_id: _resolved_only(spec) for check_id, spec in specs.items()}
    return without_root(specs, path)


def _resolved_only(spec: Spec) -> Spec:
    known = {
        path: None if secret is None or _is_reference(secret, spec.fields[path]) else secret
        for path, secret in spec.secrets.items()
    }
    return replace(spec, secrets=known)


def _is_reference(secret: SecretStr, field: Any) -> bool:
    value = secret.get_secret_value()
    return value == field if isinstance(field, str) else "${" in value


def _literal_only(spec: Spec) -> Spec:
    """The secrets that are written in the file, whose values need no environment to be compared elsewhere."""
    known = {
        path: secret
        for path, secret in spec.secrets.items()
        if spec.fields[path] == MASK and secret is not None and "${" not in secret.get_secret_value()
    }
    return replace(spec, secrets=known)


def _by_running_id(
    desired: Mapping[str, Spec], actual: Mapping[str, Spec], moved: Mapping[str, str]
) -> dict[str, Spec]:
    """What is declared, by the id under which it runs: that of before where a check is renamed."""
    renamed = effective_moves(moved, desired, actual)
    return {
        check_id: desired[renamed.get(check_id, check_id)]
        for check_id in sorted(actual)
        if renamed.get(check_id, check_id) in desired
    }


def _with_secrets(
    outside: Outside, client: Client, here: Mapping[str, Spec], actual: Mapping[str, Spec]
) -> dict[str, Spec]:
    """What runs, with its secrets known as far as they matter: equal to those declared here, or not."""
    ours = {check_id: _shared_secrets(actual[check_id], spec) for check_id, spec in here.items()}
    asked = {check_id: paths for check_id, paths in ours.items() if paths}
    differ = client.compare(asked, nonce=outside.nonce(), wait=outside.wait) if asked else {}
    known = dict(actual)
    for check_id, paths in asked.items():
        other = differ.get(check_id, frozenset())
        # The other value stays unknown: any text that is not ours says that it is another one.
        told = {
            path: SecretStr(secret.get_secret_value() + "\0") if path in other else secret
            for path, secret in paths.items()
        }
        known[check_id] = replace(actual[check_id], secrets=told)
    return known


def _shared_secrets(actual: Spec, desired: Spec) -> dict[str, Any]:
    """The secrets whose shown text is the same on both sides, so that only their values can differ."""
    return {
        path: secret
        for path, secret in desired.secrets.items()
        if secret is not None and actual.fields.get(path) == desired.fields[path]
    }


def _settings(loaded: LoadedConfig) -> dict[str, Any]:
    return loaded.config.model_dump(mode="json", by_alias=True, exclude={"version", "checks", "moved"})


def _setting_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    """Differences in the sections that both sides tell of."""
    shared = sorted(before.keys() & after.keys())
    sides = [
        spec_from_masked({"type": "settings", **{key: side[key] for key in shared}}, interval=1)
        for side in (before, after)
    ]
    changes = field_changes(sides[0], sides[1])
    # An empty value and none are the same here: a service that says nothing more is no change of its own.
    return tuple(each for each in changes if each.before or each.after)
