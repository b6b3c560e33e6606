"""What a CI and pre-commit are told to run exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from watchbill.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
SNIPPET = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def parsed(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def shell_lines() -> list[str]:
    jobs = parsed(".github/workflows/ci.yml")["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def test_the_workflow_runs_what_is_in_the_tree() -> None:
    lines = shell_lines()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert ".ci/run" in lines
    assert [
        target for target in re.findall(r"make (\w+)", "\n".join(lines)) if f"\n{target}:" not in makefile
    ] == []
    scripts = [word for line in lines for word in line.split() if word.startswith(("scripts/", ".ci/"))]
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def entries() -> list[str]:
    local = parsed(".pre-commit-config.yaml")["repos"][0]["hooks"]
    return [hook["entry"] for hook in [*local, *parsed(".pre-commit-hooks.yaml")]]


def commands() -> list[str]:
    """Every line of the CI files that calls the program."""
    return [line for line in [*shell_lines(), *entries()] if "watchbill " in line and "http" not in line]


@pytest.mark.parametrize("line", commands())
def test_watchbill_is_called_as_it_can_be(line: str) -> None:
    words = shlex.split(line[line.index("watchbill ") :])[1:]
    if words == ["--version"]:
        return
    command = cli.get_command(click.Context(cli), words[0])
    assert words[0] in COMMANDS
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    assert [word for word in words[1:] if word.startswith("-") and word not in known] == []


def test_the_hook_for_others_is_complete() -> None:
    (hook,) = parsed(".pre-commit-hooks.yaml")
    assert hook["id"] == "watchbill-validate"
    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    assert hook["id"] in (ROOT / "docs/ci.md").read_text(encoding="utf-8")


def test_every_snippet_of_the_ci_page_is_yaml() -> None:
    snippets = SNIPPET.findall((ROOT / "docs/ci.md").read_text(encoding="utf-8"))
    assert len(snippets) == 3
    assert all(isinstance(yaml.safe_load(snippet), dict) for snippet in snippets)
