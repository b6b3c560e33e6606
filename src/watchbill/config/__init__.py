"""The configuration as it stands in files: read, merged, resolved and validated, or every mistake at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from watchbill.config.assembly import assemble
from watchbill.config.documents import gather
from watchbill.config.files import Reading
from watchbill.config.interpolation import Values
from watchbill.config.revision import revision_of
from watchbill.domain.config import LoadedConfig, config_digest
from watchbill.domain.errors import MOST_PROBLEMS, ConfigError, Problem

MOST_ATTEMPTS = 5
REVISION_VARIABLE = "WATCHBILL_REVISION"


def load(
    path: str | Path, *, environ: Mapping[str, str], resolve_secrets: bool = True, patient: bool = False
) -> LoadedConfig:
    """Read a file, or every ``*.yaml`` below a folder, into one valid configuration.

    With ``resolve_secrets`` off, variables and files that are missing stand as their own references. ``patient``:
    a file that was written to just now is waited for, lest a part of it is taken for the whole.

    :raises ConfigError: with every mistake that was found.
    """
    shown = str(path)
    if "\0" in shown:
        raise ConfigError((Problem(shown, 1, 1, "not a path: it holds a NUL character"),))
    for _ in range(MOST_ATTEMPTS):
        reading = Reading(shown, patient=patient)
        try:
            loaded = _load(reading, environ, resolve_secrets)
        except ConfigError:
            if not reading.torn():
                raise
        except Exception as error:  # whatever the bytes are, the answer is a place and not a traceback
            message = f"cannot be read ({type(error).__name__}); please report this with the file"
            raise ConfigError((Problem(shown, 1, 1, message),)) from error
        else:
            if not reading.torn():
                return loaded
    message = f"changed {MOST_ATTEMPTS} times while it was read; try again"
    raise ConfigError((Problem(shown, 1, 1, message),))


def _load(reading: Reading, environ: Mapping[str, str], resolve_secrets: bool) -> LoadedConfig:
    values = Values(environ, resolve_secrets=resolve_secrets, real=reading.real)
    sections = gather(reading.sources())
    assembled = assemble(sections, values)
    config = assembled.config
    # What stands at a place that could not be read as YAML is no second mistake.
    unread = {(problem.path, problem.line, problem.column) for problem in sections.problems}
    problems = [
        problem
        for problem in assembled.problems
        if (problem.path, problem.line, problem.column) not in unread
    ]
    problems = [*reading.problems, *sections.problems, *problems]
    if len(problems) > MOST_PROBLEMS:
        more = Problem(reading.root, 1, 1, f"more than {MOST_PROBLEMS:,} mistakes; mend these first")
        problems = [more, *sorted(problems)[:MOST_PROBLEMS]]
    if problems or config is None:
        raise ConfigError(tuple(problems))
    return LoadedConfig(
        config=config,
        digest=config_digest(config, folder=_folder(reading.root)),
        revision=revision_of(Path(reading.root)) or environ.get(REVISION_VARIABLE, "").strip(),
        files=(*(source.shown for source in sections.sources), *sorted(values.read.keys() | values.named)),
        templates=assembled.templates,
    )


def _folder(root: str) -> str:
    """Where the configuration lies, as the files that it names are named."""
    whole = os.path.abspath(root)  # noqa: PTH100 - a Path would follow links
    return whole if os.path.isdir(whole) else os.path.dirname(whole)  # noqa: PTH112, PTH120 - beside it
