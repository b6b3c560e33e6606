"""``watchbill reload``: have the running exporter read its configuration again."""

from __future__ import annotations

import click

from watchbill.cli.difference import Difference, coloured_lines
from watchbill.cli.terminal import paint, plain, say
from watchbill.client import DEFAULT_SERVER, Client, Reload, ReloadRejectedError, RunningConfig
from watchbill.domain.plan import diff


@click.command()
@click.option(
    "--server",
    default=DEFAULT_SERVER,
    show_default=True,
    metavar="URL",
    envvar="WATCHBILL_SERVER",
    show_envvar=True,
    help="The running exporter.",
)
@click.option("--allow-mass-delete", is_flag=True, help="Even if it deletes more than half of the checks.")
@click.pass_context
def reload(ctx: click.Context, server: str, allow_mass_delete: bool) -> None:
    """Ask the running exporter to read its configuration again, and print what changed.

    It must run with --web.enable-lifecycle. A configuration that is not valid changes nothing.

    Exit code: 0 reloaded, 1 not.
    """
    with Client(server) as client:
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
    plan = diff(after.specs, before.specs, after.moved)
    found = Difference(plan, after.specs, before.specs, settings=(), series={})
    hidden = done.counts["changed"] - len(plan.changed)
    said = coloured_lines(found)
    if hidden > 0:  # what runs shows no secret, so that a rotated one is counted only
        said.append(paint(f"~ {hidden} more with a secret changed", "yellow"))
    counts = ", ".join(f"{number} {kind}" for kind, number in done.counts.items())
    revision = f" at {plain(after.revision[:12])}" if after.revision else ""
    return [*said, f"reloaded{revision}: {counts}"]
