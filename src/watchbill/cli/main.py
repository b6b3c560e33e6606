"""The command ``watchbill``: its subcommands, and the border where every error becomes one clear line.

stdout is the answer, stderr is talk. A usage error ends with 2, an invalid configuration with 2, anything else
with 1; in ``plan``, where 2 means changes, every error ends with 1.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from watchbill.cli.lazy import LazyGroup
from watchbill.cli.terminal import plain, say

INTERRUPTED = 130

# In the order of a day's work. A command is the function of that name in the module of that name, imported
# when it is called: the others cost it nothing.
COMMANDS = {
    "init": "Write a commented configuration for some targets.",
    "validate": "Check a configuration and report every mistake at once.",
    "plan": "Show what a configuration would change.",
    "probe": "Run checks now and print what they found.",
    "run": "Probe on schedule, keep history, serve metrics.",
    "reload": "Have the running exporter read its configuration again.",
    "report": "Print uptime, coverage and latency over a period.",
    "backup": "Copy the running exporter's history into a file.",
    "doctor": "Check a history file, and repair it.",
    "generate": "Write rules for Prometheus.",
    "schema": "Print the JSON Schema of the configuration.",
}


class Commands(LazyGroup):
    """A group whose commands may raise: nobody sees a traceback who did not ask for one."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.UsageError as error:
            error.show()
            ctx.exit(_code(ctx, 2))
        except KeyboardInterrupt:
            say("interrupted")
            ctx.exit(INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # click ends quietly where nobody reads on
                raise
            place = f"{error.filename}: " if error.filename is not None else ""
            _complain([f"{place}{error.strerror or error}"])
            ctx.exit(1)
        except Exception as error:  # noqa: BLE001 - the border
            ctx.exit(_code(ctx, _explain(error)))


def _code(ctx: click.Context, code: int) -> int:
    return 1 if ctx.invoked_subcommand == "plan" else code


def _complain(lines: Sequence[str]) -> None:
    for line in lines:
        say(f"watchbill: {plain(line)}")


def _explain(error: Exception) -> int:
    """Say what went wrong; the exit code."""
    from watchbill.cli.problems import summary, text_lines  # noqa: PLC0415 - only where there is an error
    from watchbill.domain.errors import ConfigError, WatchbillError  # noqa: PLC0415 - only where there is an error

    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # what a task group wraps
    if isinstance(error, ConfigError):
        say("\n".join([*text_lines(error.problems), summary(error.problems)]))
        return 2
    if isinstance(error, WatchbillError):
        _complain(str(error).splitlines() or [type(error).__name__])
        return 1
    if os.environ.get("WATCHBILL_DEBUG"):
        traceback.print_exception(error)
    # The text of a foreign error may hold anything, a secret too: its kind and place are enough for a report.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    _complain(
        [f"internal error: {type(error).__name__} at {place}; WATCHBILL_DEBUG=1 shows where it comes from"]
    )
    return 1


@click.group(
    cls=Commands,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version("watchbill"), message="watchbill %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Monitoring as code: checks in YAML, probed on an exact schedule."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a terminal that cannot show a character gets its escape, not a crash
            reconfigure(errors="backslashreplace")
    cli(prog_name="watchbill")


if __name__ == "__main__":
    main()
