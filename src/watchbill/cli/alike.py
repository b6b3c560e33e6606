"""Makes two sides of a plan comparable: the same thing, named differently in two places, is no difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from watchbill.domain.specs import Spec

FILE_FIELDS = ("tls.ca_file", "tls.cert_file", "tls.key_file")


def without_root(specs: Mapping[str, Spec], path: str) -> dict[str, Spec]:
    """The same with files named by their path below ``path``, the configuration (or its folder) that names them.

    Two checkouts of one repository name the same file by different absolute paths.
    """
    given = Path(path).absolute()
    # A configuration reached through a link may name its files by where they really are.
    places = {place if place.is_dir() else place.parent for place in (given, given.resolve())}
    roots = tuple(f"{str(place).rstrip('/')}/" for place in places | {place.resolve() for place in places})
    return {check_id: _relative(spec, roots) for check_id, spec in specs.items()}


def _relative(spec: Spec, roots: tuple[str, ...]) -> Spec:
    named = {path: str(spec.fields[path]) for path in FILE_FIELDS if path in spec.fields}
    below = {path: min((name.removeprefix(root) for root in roots), key=len) for path, name in named.items()}
    return replace(spec, fields={**spec.fields, **below}) if named else spec


def with_known_files(actual: Mapping[str, Spec], desired: Mapping[str, Spec]) -> dict[str, Spec]:
    """What runs elsewhere, with its files named as here where the ends of their paths agree."""
    return {
        check_id: _named_alike(spec, desired[check_id]) if check_id in desired else spec
        for check_id, spec in actual.items()
    }


def _named_alike(spec: Spec, here: Spec) -> Spec:
    alike = {
        path: here.fields[path]
        for path in FILE_FIELDS
        if path in here.fields and str(spec.fields.get(path, "")).endswith(f"/{here.fields[path]}")
    }
    return replace(spec, fields={**spec.fields, **alike}) if alike else spec


def with_unresolved(actual: Mapping[str, Spec], desired: Mapping[str, Spec]) -> dict[str, Spec]:
    """What runs, with a variable's reference where it has no value here to compare the running one with."""
    return {
        check_id: _unresolved(spec, desired[check_id]) if check_id in desired else spec
        for check_id, spec in actual.items()
    }


def _unresolved(spec: Spec, here: Spec) -> Spec:
    unknown = {
        path: value
        for path, value in here.fields.items()
        if "${" in str(value) and path in spec.fields and "${" not in str(spec.fields[path])
    }
    return replace(spec, fields={**spec.fields, **unknown}) if unknown else spec
