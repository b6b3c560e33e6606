"""``watchbill doctor``: whether a history file is whole, what was lost, and what can be saved."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import click

from watchbill.cli.terminal import count, paint, plain, say
from watchbill.domain.errors import StorageError, StorageLockedError
from watchbill.domain.units import isoformat
from watchbill.storage.duckdb_examination import Examination, Finding, examine
from watchbill.storage.duckdb_salvage import Salvaged

HEALTHY, PROBLEMS, NOT_EXAMINED = 0, 1, 3


@click.command()
@click.argument("file")
@click.option(
    "--repair",
    is_flag=True,
    help="Mend the log as the next start would, and save what can be read of a damaged file into FILE.salvaged.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def doctor(ctx: click.Context, file: str, *, repair: bool, form: str) -> None:
    """Check the history FILE of an exporter that is stopped: every block, the log, every row and slot.

    Without --repair nothing is changed.

    Exit code: 0 healthy, or mended and nothing lost; 1 something is wrong or lost; 3 not examined (in use, no such
    file), or not to the end (no room, no memory).
    """
    try:
        found = examine(file, repair=repair)
    except StorageLockedError as error:
        say(
            f"watchbill: {plain(file)}: in use by process {error.pid}; stop it, or look at a copy: "
            "watchbill backup COPY, then watchbill doctor COPY"
        )
        ctx.exit(NOT_EXAMINED)
    except StorageError as error:
        say(f"watchbill: {plain(error)}")
        ctx.exit(NOT_EXAMINED)
    click.echo(json.dumps(_json(found), indent=2) if form == "json" else "\n".join(_text(found)))
    ctx.exit(_exit_code(found))


def _exit_code(found: Examination) -> int:
    if not found.healthy or any(finding.lost for finding in found.mended):
        return PROBLEMS
    return NOT_EXAMINED if found.unexamined else HEALTHY


# --- forms --------------------------------------------------------------------------------------------


def _text(found: Examination) -> Iterator[str]:
    yield f"{plain(found.path)}: {_verdict(found)}"
    yield from _lines([*found.findings, *found.unexamined])
    for title, findings in (("mended:", found.mended), ("to know:", found.notes)):
        if findings:
            yield title
            yield from _lines(findings)
    if found.schema and found.rows:
        yield f"holds: {_contents(found)}"
    if found.salvaged is not None:
        yield from _saved(found.salvaged, found)
    elif found.findings:
        yield from _remedy(found)


def _verdict(found: Examination) -> str:
    if found.healthy and found.unexamined:
        return paint("not examined to the end", "yellow")
    if found.healthy:
        return paint("healthy", "green")
    lost = sum(finding.lost for finding in found.findings)
    verdict = count(len(found.findings), "problem") + (f", {lost} of them a loss" if lost else "")
    return paint(verdict, "red")


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    width = max((len(finding.kind) for finding in findings), default=0)
    for finding in findings:
        yield f"  {finding.kind:<{width}}  {plain(finding.message)}"


def _contents(found: Examination) -> str:
    period = ""
    if found.first_slot is not None and found.last_slot is not None:
        period = f" from {isoformat(found.first_slot)} to {isoformat(found.last_slot)}"
    batches = sum(found.batches.values())
    return (
        f"{count(found.rows, 'row')} of {count(found.checks, 'check')}{period}, {count(batches, 'batch', 'batches')}, "
        f"{found.size_bytes / 1e6:.1f} MB, schema {found.schema}"
    )


def _saved(saved: Salvaged, found: Examination) -> Iterator[str]:
    rows, left = saved.rows.get("result", 0), saved.left.get("result", 0)
    yield f"saved: {plain(saved.path)}: {count(rows, 'row')}, {left:,} lost"
    lost = {table: number for table, number in saved.left.items() if number and table != "result"}
    for what, number in (
        *((f"rows of {table} lost", number) for table, number in lost.items()),
        ("rows with a damaged column left empty", saved.blanked.get("result", 0)),
        ("rows that stood there twice taken out", saved.doubled),
        ("rows that no span expected, kept outside the slots", saved.off_grid),
        ("spans made anew from their rows", saved.spans),
        ("slots without a row, missed now", saved.missed),
    ):
        if number:
            yield f"  {number:,} {what}"
    path, aside, new = (
        plain(shlex.quote(str(each))) for each in (found.path, f"{found.path}.damaged", saved.path)
    )
    yield f"look at it, then: mv {path} {aside} && mv {new} {path}"


def _remedy(found: Examination) -> Iterator[str]:
    kinds = {finding.kind for finding in found.findings}
    if "unusable" in kinds:
        yield "nothing can be read of it: restore a backup, or move it away to start anew"
    elif kinds - {"lost", "batches_lost", "empty"}:
        yield "watchbill doctor --repair mends the log as the next start would, and saves the rest into a file beside"


def _json(found: Examination) -> dict[str, Any]:
    saved = found.salvaged
    return {
        "path": str(found.path),
        "healthy": found.healthy,
        "findings": [_flat(finding) for finding in found.findings],
        "mended": [_flat(finding) for finding in found.mended],
        "notes": [_flat(finding) for finding in found.notes],
        "not_examined": [_flat(finding) for finding in found.unexamined],
        "size_bytes": found.size_bytes,
        "schema": found.schema,
        "rows": found.rows,
        "checks": found.checks,
        "first_slot": None if found.first_slot is None else isoformat(found.first_slot),
        "last_slot": None if found.last_slot is None else isoformat(found.last_slot),
        "batches": found.batches,
        "salvaged": None
        if saved is None
        else {
            "path": str(saved.path),
            "rows": saved.rows,
            "lost": saved.left,
            "blanked": saved.blanked,
            "doubled": saved.doubled,
            "spans_made": saved.spans,
            "off_grid": saved.off_grid,
            "missed": saved.missed,
        },
    }


def _flat(finding: Finding) -> dict[str, Any]:
    return {"kind": finding.kind, "message": finding.message, "lost": finding.lost}
