"""What is installed with Watchbill: pinned, declared, used, and free to be passed on."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    distributions,
    packages_distributions,
)
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tests.policy.calls import sources
from tests.proof import Claim

ROOT = Path(__file__).parents[2]
PERMISSIVE = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CNRI-Python", "ISC", "MIT", "MIT-0", "PSF-2.0", "Unlicense",
     "ZPL-2.1"}
)  # fmt: skip
"""By their SPDX names: nothing that asks more of whoever passes it on than to keep the notice."""
CLASSIFIED: Mapping[str, str] = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
}
LICENSED: Mapping[str, str] = {"brotli": "MIT", "protobuf": "BSD-3-Clause"}
"""Those that say it in free text alone, as read in what they ship."""
INSTALLERS = frozenset({"pip", "setuptools", "wheel"})
"""Of the environment, not of ours."""
FOR_USE: Mapping[str, str] = {
    "pytz": "duckdb imports it to hand out times",
    "uvloop": "anyio imports it where serve.py asks for it",
}
"""Declared and imported by nobody here -> why."""
BY_NAME = re.compile(r"[-_.]+")


@dataclass(slots=True)
class Findings:
    """``looked_at`` distributions or modules; ``problems`` must stay empty."""

    looked_at: int = 0
    problems: list[str] = field(default_factory=list)


def prove(folder: Path, *, full: bool) -> list[Claim]:
    found = {
        "Everything installed to run and to test is pinned, and as pinned": pins(_pins(), _installed()),
        "Every library that ships with it may be passed on": licences(shipped()),
        "Everything imported is declared, everything declared is used": imports(),
    }
    return [
        Claim(
            what,
            f"{each.looked_at} {'modules' if 'imported' in what else 'distributions'}",
            "\n".join([f"{len(each.problems)} problems", *each.problems]),
            "0 problems",
            holds=each.looked_at > 20 and not each.problems,
        )
        for what, each in found.items()
    ]


def canonical(name: str) -> str:
    return BY_NAME.sub("-", name).lower()


# --- pins ---------------------------------------------------------------------------------------------


def _pins() -> list[str]:
    return (ROOT / "constraints.txt").read_text().splitlines()


def _installed() -> dict[str, str]:
    """Name -> version of all that this environment has."""
    found = {canonical(each.metadata["Name"]): each.version for each in distributions()}
    return {name: version for name, version in found.items() if name not in {*INSTALLERS, "watchbill"}}


def pins(lines: Iterable[str], installed: Mapping[str, str]) -> Findings:
    found = Findings(len(installed))
    pinned: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;*@/]+)", line)
        if match is None:
            found.problems.append(f"constraints.txt: {line} is not name==version")
            continue
        pinned[canonical(match[1])] = match[2]
    found.problems += [
        f"{name} {installed[name]} is installed and not pinned" for name in installed.keys() - pinned.keys()
    ]
    found.problems += [
        f"{name} is pinned to {pinned[name]}, and {version} is installed"
        for name, version in installed.items()
        if name in pinned and Version(version) != Version(pinned[name])
    ]
    for requirement in [*declared(), *declared("test")]:
        pin = pinned.get(canonical(requirement.name))
        if pin is None:
            found.problems.append(f"{requirement.name} is declared and not pinned")
        elif not requirement.specifier.contains(pin, prereleases=True):
            found.problems.append(
                f"{requirement.name} is pinned to {pin}, which is not {requirement.specifier}"
            )
    return found


def declared(extra: str = "") -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [each for each in map(Requirement, listed) if each.marker is None or each.marker.evaluate()]


# --- licences -----------------------------------------------------------------------------------------


def shipped() -> dict[str, Distribution]:
    """What is installed with Watchbill, and with that, and so on."""
    found: dict[str, Distribution] = {}
    waiting = declared()
    while waiting:
        requirement = waiting.pop()
        name = canonical(requirement.name)
        if name in found or (requirement.marker and not _asked_for(requirement)):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # the pins say so
        waiting += map(Requirement, found[name].requires or ())
    return found


def _asked_for(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def licences(found: Mapping[str, Distribution]) -> Findings:
    problems = [
        f"{name} {each.version}: {licence or 'says no licence'}"
        for name, each in sorted(found.items())
        if not permissive(licence := licence_of(each))
    ]
    return Findings(len(found), problems)


def licence_of(found: Distribution) -> str:
    """As an SPDX expression, as far as the metadata say it."""
    metadata = found.metadata
    for expression in metadata.get_all("License-Expression") or ():
        return str(expression)
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in metadata.get_all("Classifier") or ()
        if each.startswith("License")
    ]
    if classifiers:
        return " OR ".join(CLASSIFIED.get(each, each) for each in classifiers)
    return LICENSED.get(canonical(metadata["Name"]), "")


def permissive(expression: str) -> bool:
    """Whether all that must be agreed to is (SPDX; of alternatives one will do)."""
    if not expression:
        return False
    return all(
        any(one.strip("() ") in PERMISSIVE for one in every.split(" OR "))
        for every in expression.split(" AND ")
    )


# --- imports ------------------------------------------------------------------------------------------


def imports() -> Findings:
    """``src`` alone: tests may use what their extra brings."""
    modules = imported()
    homes = packages_distributions()
    known = {canonical(each.name) for each in declared()}
    needed: set[str] = set()
    found = Findings(len(modules))
    for module in sorted(modules):
        owners = {canonical(name) for name in homes.get(module, ())}
        needed |= owners
        if not owners & known:
            found.problems.append(
                f"{module} is imported, and {', '.join(owners) or 'what brings it'} is not declared"
            )
    found.problems += [
        f"{name} is declared, and nobody imports it" for name in sorted(known - needed - FOR_USE.keys())
    ]
    found.problems += [f"{name} need not be excused" for name in FOR_USE.keys() & needed]
    return found


def imported() -> set[str]:
    names: set[str] = set()
    for tree in sources().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    roots = {name.partition(".")[0] for name in names}
    return roots - set(sys.stdlib_module_names) - {"watchbill", "compression"}
