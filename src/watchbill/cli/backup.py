"""``watchbill backup``: the history of a running exporter as a file, checked before it counts."""

from __future__ import annotations

import os
from pathlib import Path

import click

from watchbill.cli.exporter import access_option, open_client
from watchbill.cli.options import server_option
from watchbill.cli.terminal import count, plain, say
from watchbill.domain.errors import StorageError, StorageLockedError
from watchbill.storage.duckdb_disk import sync
from watchbill.storage.duckdb_examination import Examination, examine
from watchbill.storage.duckdb_file import DuckDbFile

UNREADABLE = frozenset({"damaged", "unusable", "empty"})


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@server_option("The running exporter, whose history is copied.")
@access_option()
@click.option("--force", is_flag=True, help="Replace TARGET where it exists.")
@click.pass_context
def backup(ctx: click.Context, target: Path, server: str, http_config: str, *, force: bool) -> None:
    """Copy the running exporter's history into the file TARGET, while it goes on, and check the copy.

    It must run with --web.enable-lifecycle. To restore, start an exporter with --storage TARGET (or a copy of it).

    Exit code: 0 written and whole, 1 not.
    """
    file = DuckDbFile(str(target))
    if file.path.is_dir() or (file.path.exists() and not force):
        say(f"watchbill: {plain(target)}: exists; name another file, or add --force to replace a file")
        ctx.exit(1)
    try:
        with file.replaced():
            rows, found = _received(server, http_config, file.path)
    except StorageLockedError as error:
        say(
            f"watchbill: {plain(target)}: in use by process {error.pid}, whose history it is; name another file"
        )
        ctx.exit(1)
    except OSError as error:
        say(f"watchbill: {plain(target)}: {error.strerror}; make room, or name another file")
        ctx.exit(1)
    for finding in (*found.findings, *found.unexamined):
        say(f"watchbill: warning: {finding.kind}: {plain(finding.message)}")
    click.echo(
        f"{plain(target)}: {count(rows, 'row')} of {count(found.checks, 'check')}, {found.size_bytes / 1e6:.1f} MB"
    )


def _received(server: str, http_config: str, target: Path) -> tuple[int, Examination]:
    """How many rows were sent, and the copy, looked at before it takes its name."""
    part = target.with_name(target.name + ".part")
    try:
        rows = _sent(server, http_config, part)
        found = examine(str(part))
        if problem := _problem(found, rows):
            raise StorageError(f"{target}: {problem}; not kept")
        part.replace(target)
        sync(target.parent)
    finally:
        for leftover in (part, part.with_name(part.name + ".lock")):
            leftover.unlink(missing_ok=True)
    return rows, found


def _sent(server: str, http_config: str, part: Path) -> int:
    """Write what the exporter sends; how many rows it says that is. Only its owner may read it."""
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with open_client(server, http_config) as client:
            rows = client.backup(file.write)
        file.flush()
        os.fsync(file.fileno())
    return rows


def _problem(found: Examination, rows: int) -> str | None:
    """Why the copy is none; that there was no memory to look at all of it is no reason to throw it away."""
    for finding in found.findings:
        if finding.kind in UNREADABLE:
            return f"the copy is damaged: {finding.message}"
    if found.rows != rows and not found.unexamined:
        return f"the copy holds {found.rows:,} rows where the exporter sent {rows:,}"
    return None
