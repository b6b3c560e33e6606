"""Makes two sides of a plan comparable: the same thing, named differently in two places, is no difference."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import re2

from watchbill.config.interpolation import is_secret_reference
from watchbill.domain.specs import MASK, Spec

FILE_FIELDS = ("tls.ca_file", "tls.cert_file", "tls.key_file")
_REFERENCE = re.compile(r"\$\{[^{}]*\}")


def without_root(specs: Mapping[str, Spec], path: str) -> dict[str, Spec]:
    """The same with files named by their path from ``path``, the configuration (or its folder) that names them.

    Two checkouts of one repository name the same file by different absolute paths. A file outside of both the folder
    and its work tree keeps its whole name.
    """
    given = Path(path).absolute()
    # A configuration reached through a link may name its files by where they really are.
    places = {place if place.is_dir() else place.parent for place in (given, given.resolve())}
    folders = {str(folder): _work_tree(folder) for place in places for folder in (place, place.resolve())}
    return {check_id: _relative(spec, folders) for check_id, spec in specs.items()}


def _work_tree(folder: Path) -> str:
    return next((str(above) for above in (folder, *folder.parents) if (above / ".git").exists()), str(folder))


def _relative(spec: Spec, folders: Mapping[str, str]) -> Spec:
    named = {path: str(spec.fields[path]) for path in FILE_FIELDS if path in spec.fields}
    near = {path: _from(name, folders) for path, name in named.items()}
    return replace(spec, fields={**spec.fields, **near}) if named else spec


def _from(name: str, folders: Mapping[str, str]) -> str:
    names = [
        os.path.relpath(name, folder)
        for folder, tree in folders.items()
        if name.startswith(f"{tree.rstrip('/')}/")
    ]
    return min([name, *names], key=len) if Path(name).is_absolute() else name


def with_known_files(actual: Mapping[str, Spec], desired: Mapping[str, Spec]) -> dict[str, Spec]:
    """What runs elsewhere, with its files named as here where the ends of their paths agree.

    ``desired``: by the id under which each runs.
    """
    return {
        check_id: _named_alike(spec, desired[check_id]) if check_id in desired else spec
        for check_id, spec in actual.items()
    }


def _named_alike(spec: Spec, here: Spec) -> Spec:
    alike = {
        path: here.fields[path]
        for path in FILE_FIELDS
        if path in here.fields and _ends_alike(str(spec.fields.get(path, "")), str(here.fields[path]))
    }
    return replace(spec, fields={**spec.fields, **alike}) if alike else spec


def _ends_alike(running: str, here: str) -> bool:
    below = here
    while below.startswith("../"):
        below = below.removeprefix("../")
    return running.endswith(f"/{below}")


def with_unresolved(actual: Mapping[str, Spec], desired: Mapping[str, Spec]) -> dict[str, Spec]:
    """What runs, as it is declared here where only variables without a value here could make a difference.

    ``desired``: by the id under which each runs.
    """
    return {
        check_id: _unresolved(spec, desired[check_id]) if check_id in desired else spec
        for check_id, spec in actual.items()
    }


def _unresolved(spec: Spec, here: Spec) -> Spec:
    unknown = {
        path: value
        for path, value in here.fields.items()
        if path in spec.fields and _may_be(str(spec.fields[path]), str(value))
    }
    return replace(spec, fields={**spec.fields, **unknown}) if unknown else spec


def _may_be(running: str, here: str) -> bool:
    """Whether ``here`` is what runs, once its variables have their values. A secret's reference stays as it is."""
    open_ones = [token for token in _REFERENCE.findall(here) if not is_secret_reference(token)]
    if not open_ones or (MASK in running and MASK not in here):
        return False
    pattern = ".*".join(map(re2.escape, _split(here, open_ones)))
    kept = here.count("${") - len(open_ones)
    return running.count("${") == kept and re2.fullmatch(f"(?s){pattern}", running) is not None


def _split(text: str, tokens: Sequence[str]) -> list[str]:
    pieces = []
    for token in tokens:
        before, _, text = text.partition(token)
        pieces.append(before)
    return [*pieces, text]
