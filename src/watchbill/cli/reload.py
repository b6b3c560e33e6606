"""``watchbill reload``: have the running exporter read its configuration again."""

from __future__ import annotations

from dataclasses import replace

import click

from watchbill.cli.difference import Difference, coloured_lines
from watchbill.cli.exporter import access_option, open_client
from watchbill.cli.options import server_option
from watchbill.cli.terminal import plain, say
from watchbill.client import Reload, ReloadRejectedError, RunningConfig
from watchbill.domain.plan import Change, FieldChange, Plan, diff


@click.command()
@server_option("The running exporter.")
@access_option()
@click.option("--allow-mass-delete", is_flag=True, help="Even if it deletes more than half of the checks.")
@click.pass_context
def reload(ctx: click.Context, server: str, http_config: str, allow_mass_delete: bool) -> None:
    """Ask the running exporter to read its configuration again, and print what changed.

    It must run with --web.enable-lifecycle. A configuration that is not valid changes nothing.

    Exit code: 0 reloaded, 1 not.
    """
    with open_client(server, http_config) as client:
        before = client.config()
        try:
            done = client.reload(allow_mass_delete=allow_mass_delete)
        except ReloadRejectedError as error:
            _say_rejected(error.problems)
            ctx.exit(1)
        after = client.config()
    click.echo("\n".join(_changes(before, done, after)))


def _say_rejected(problems: tuple[str, ...]) -> None:
    for problem in problems:
        say(plain(problem))
    say("not reloaded: the configuration that ran goes on running")


def _changes(before: RunningConfig, done: Reload, after: RunningConfig) -> list[str]:
    plan = _with_rotations(diff(after.specs, before.specs, after.moved), done, before, after)
    found = Difference(plan, after.specs, before.specs, settings=(), series={})
    counts = ", ".join(f"{number} {kind}" for kind, number in done.counts.items())
    revision = f" at {plain(done.revision[:12])}" if done.revision else ""
    return [*coloured_lines(found), f"reloaded{revision}: {counts}"]


def _with_rotations(plan: Plan, done: Reload, before: RunningConfig, after: RunningConfig) -> Plan:
    """What runs shows no secret: a field that is said to have changed and looks the same is one that was rotated."""
    listed = {change.check_id: change for change in plan.changed}
    for check_id in done.fields.keys() & before.specs.keys() & after.specs.keys():
        listed.setdefault(check_id, Change(check_id, ()))

    def completed(change: Change) -> Change:
        shown = {each.path for each in change.fields}
        fields = after.specs[change.check_id].fields
        rotated = tuple(
            FieldChange(path, fields[path], fields[path], secret=True)
            for path in done.fields.get(change.check_id, ())
            if path not in shown and path in fields
        )
        return replace(change, fields=tuple(sorted(change.fields + rotated, key=lambda each: each.path)))

    changed = tuple(completed(listed[check_id]) for check_id in sorted(listed))
    return replace(plan, changed=changed, moved=tuple(map(completed, plan.moved)))
