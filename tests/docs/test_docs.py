"""The documentation says what the program does: commands, options, exit codes, links, the Makefile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from watchbill.cli.generate import GENERATED
from watchbill.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
CLI_PAGE = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


SUBCOMMANDS = [f"generate {name}" for name in GENERATED]
CALLABLE = [*(command for command in COMMANDS if command != "generate"), *SUBCOMMANDS]
"""What is typed after `watchbill` to have something done."""


def command_of(words: str) -> click.Command:
    found: click.Command | None = cli
    for word in words.split():
        assert isinstance(found, click.Group), words
        found = found.get_command(click.Context(found), word)
    assert found is not None, words
    return found


def section(command: str) -> str:
    """What docs/cli.md says of a command."""
    match = re.search(rf"^## {command}\n(.*?)(?=^## |\Z)", CLI_PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None, f"docs/cli.md has no section {command}"
    return match[1]


def options(command: str) -> Iterator[click.Option]:
    yield from (parameter for parameter in command_of(command).params if isinstance(parameter, click.Option))


@pytest.mark.parametrize("command", CALLABLE)
def test_every_command_has_its_section_with_an_example(command: str) -> None:
    assert f"watchbill {command}" in "".join(text for _, text in FENCE.findall(section(command)))


@pytest.mark.parametrize("command", CALLABLE)
def test_every_option_and_variable_is_documented(command: str) -> None:
    text = section(command)
    names = [name for option in options(command) for name in option.opts]
    variables = [option.envvar for option in options(command) if isinstance(option.envvar, str)]
    assert [name for name in names + variables if not re.search(rf"`{re.escape(name)}[` =]", text)] == []


@pytest.mark.parametrize("command", CALLABLE)
def test_every_choice_and_default_is_documented(command: str) -> None:
    text = section(command).replace("\\|", "|")
    missing = [
        choice
        for option in options(command)
        if isinstance(option.type, click.Choice)
        for choice in option.type.choices
        if str(choice) not in text
    ]
    missing += [
        option.default
        for option in options(command)
        if isinstance(option.default, str) and option.default and f"`{option.default}`" not in text
    ]
    assert missing == []


@pytest.mark.parametrize("command", CALLABLE)
def test_no_option_is_documented_that_does_not_exist(command: str) -> None:
    rows = [line for line in section(command).splitlines() if line.startswith("| `-")]
    documented = {name for row in rows for name in re.findall(r"`(--?[a-z][\w.-]*)", row.split(" | ")[0])}
    assert documented == {name for option in options(command) for name in option.opts}


def test_every_command_has_its_row_of_exit_codes() -> None:
    rows = re.findall(r"^\| `([a-z -]+)` \|(.*)\|(.*)\|(.*)\|$", CLI_PAGE, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(CALLABLE)
    twos = {name: two.strip() for name, _, _, two in rows}
    assert twos.pop("plan") == "changes, with `--detailed-exitcode` only"
    assert all("usage" in two for two in twos.values())


@pytest.mark.parametrize("command", CALLABLE)
def test_help_and_page_agree_on_exit_codes(command: str) -> None:
    """Where the help names codes, the page's row says something for each of them."""
    found = command_of(command)
    said = (found.help or "").rpartition("Exit code:")[2] if "Exit code:" in (found.help or "") else ""
    match = re.search(rf"^\| `{command}` \|(.*)\|$", CLI_PAGE, re.MULTILINE)
    assert match is not None
    cells = [cell.strip() for cell in match[1].split("|")]
    assert [code for code in re.findall(r"(?<![\w-])[012](?!\w)", said) if not cells[int(code)]] == []


def test_the_commands_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shell = "\n".join(text for language, text in FENCE.findall(readme) if language == "sh")
    targets = re.findall(r"^make (\w+)", shell, re.MULTILINE)
    assert {"run", "test"} <= set(targets)
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
    commands = re.findall(r"^watchbill (\w+)", shell, re.MULTILINE)
    assert set(commands) <= set(COMMANDS)
    assert commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_watchbill_command_in_a_page_is_one(page: Path) -> None:
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in {"sh", "bash", "console"}:
            continue
        for command, rest in re.findall(
            r"(?:^|[;&|] *|\$ )watchbill (\w[\w-]*)([^\n;&|]*)", text, re.MULTILINE
        ):
            assert command in COMMANDS, f"watchbill {command}"
            if command == "generate":
                command = f"generate {rest.split()[0]}"  # noqa: PLW2901 - its options are the subcommand's
            known = {name for option in options(command) for name in option.opts} | {"--help"}
            used = re.findall(r"(?<!\S)(--?[a-z][\w.-]*)", rest)
            assert set(used) <= known, f"watchbill {command}{rest}"


def anchors(page: Path) -> set[str]:
    """The places in a page that a link can name."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    lost = []
    for match in LINK.finditer(text):
        link = match[1] or match[2]
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, place = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (place and target.suffix == ".md" and place not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in ROOT.glob("docs/*.md") if f"docs/{page.name}" not in readme] == []
