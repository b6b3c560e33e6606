"""`init` writes a file that explains itself and is valid as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.cli.support import Run, golden
from watchbill.cli.init import render
from watchbill.cli.targets import TargetError
from watchbill.config import load
from watchbill.domain.errors import ConfigError

TARGETS = (
    "https://shop.example/",
    "http://127.0.0.1:8080/health",
    "db.example:5432",
    "gateway.example",
    "tls://shop.example",
    "dns://9.9.9.9/shop.example",
)


def test_the_file_is_as_it_was_agreed(run: Run) -> None:
    answer = run("init", *TARGETS, "-o", "-")
    assert (answer.exit_code, answer.stderr) == (0, "")
    golden("init.yaml", answer.stdout)


@pytest.mark.parametrize("targets", [(), TARGETS, ("https://x.example/a", "https://x.example/a", "x", "x")])
def test_the_file_is_valid(run: Run, tmp_path: Path, targets: tuple[str, ...]) -> None:
    assert run("init", *targets).exit_code == 0
    answer = run("validate", "checks.yaml")
    assert answer.output.startswith(f"checks.yaml: valid: {len(targets) or 1} check")
    assert answer.exit_code == 0


def test_what_to_do_next_is_said_on_stderr(run: Run) -> None:
    answer = run("init", "https://shop.example/", "-o", "shop.yaml")
    assert answer.stdout == ""
    assert answer.stderr.splitlines() == [
        "wrote shop.yaml with 1 check",
        "next: watchbill validate shop.yaml; watchbill probe shop.yaml; watchbill run shop.yaml",
    ]


def test_a_file_that_exists_is_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text("mine")
    answer = run("init", "https://shop.example/")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr == "watchbill: checks.yaml exists; --force overwrites it, -o names another file\n"
    assert (tmp_path / "checks.yaml").read_text() == "mine"


def test_force_overwrites_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text("mine")
    assert run("init", "https://shop.example/", "--force").exit_code == 0
    assert "shop.example:" in (tmp_path / "checks.yaml").read_text()


def test_a_folder_that_is_missing_is_one_line(run: Run) -> None:
    answer = run("init", "-o", "nowhere/checks.yaml")
    assert answer.exit_code == 1
    assert answer.stderr == "watchbill: nowhere/checks.yaml: No such file or directory\n"


def test_a_password_never_reaches_the_file(run: Run) -> None:
    answer = run("init", "https://bob:hunter2@shop.example/a", "-o", "-")
    assert "hunter2" not in answer.output
    assert 'username: "bob", password: "${SHOP_EXAMPLE_A_PASSWORD}"' in answer.stdout


def test_a_dollar_is_no_reference(run: Run) -> None:
    assert 'url: "https://shop.example/$${x}"' in run("init", "https://shop.example/${x}", "-o", "-").stdout


def test_a_target_that_is_none_writes_nothing(run: Run, tmp_path: Path) -> None:
    answer = run("init", "shop.example/path")
    assert answer.exit_code == 1
    assert answer.stderr == "watchbill: shop.example/path: add a scheme, such as https://shop.example/path\n"
    assert list(tmp_path.iterdir()) == []


@given(
    scheme=st.sampled_from(["", "http://", "https://", "tcp://", "tls://", "icmp://", "dns://"]),
    rest=st.text(max_size=40) | st.from_regex(r"[a-z0-9.@:/$#{}\-\[\]]{1,30}", fullmatch=True),
)
@example("", "10")
@example("https://", "u:p@192.0.2.1/")
@example("", "null")
@example("", "0x1f")
@example("https://", "u:p@x/${HOME}/$$?a=\\\"'#b: c")
@example("https://", "x/\x7f\ud800")
def test_whatever_is_accepted_gives_a_valid_file(
    tmp_path_factory: pytest.TempPathFactory, scheme: str, rest: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "init-property.yaml"
    target = scheme + rest
    assume(target)
    try:
        text = render([target, target])
    except TargetError:
        return
    path.write_text(text, encoding="utf-8")
    try:
        loaded = load(path, environ={}, resolve_secrets=False)
    except ConfigError as error:
        raise AssertionError(text) from error
    assert len(loaded.config.checks) == 2


def test_every_hint_is_valid_once_it_is_uncommented(tmp_path: Path) -> None:
    text = re.sub(r"^( {4,})# ", r"\1", render(TARGETS), flags=re.MULTILINE)
    (tmp_path / "checks.yaml").write_text(text)
    assert "      latency: 800ms\n" in text
    assert len(load(tmp_path / "checks.yaml", environ={}).config.checks) == len(TARGETS)
