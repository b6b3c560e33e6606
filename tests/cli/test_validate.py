"""`validate`: what is said of a good configuration, and of a bad one, in each form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import Run, golden

GOOD = """\
version: 1
services:
  shop: {description: The web shop}
checks:
  home: {type: http, service: shop, url: "https://shop.example/"}
  db: {type: tcp, service: shop, host: db.example, port: 5432}
  gateway: {type: icmp, host: 192.0.2.1}
  gateway-6: {type: icmp, host: "2001:db8::1"}
"""
BAD = """\
version: 1
checks:
  home: {type: http, ulr: "https://shop.example/"}
  gateway: {type: icmp, host: 192.0.2.1, interval: 500ms}
  db: {type: tcp, host: db.example, port: 70000}
"""
SECRET = """\
version: 1
checks:
  home: {type: http, url: "https://shop.example/", auth: {bearer: "${SHOP_TOKEN}"}, intervall: 5s}
"""


@pytest.fixture
def files(tmp_path: Path) -> None:
    for name, text in (("good.yaml", GOOD), ("bad.yaml", BAD), ("secret.yaml", SECRET)):
        (tmp_path / name).write_text(text)


pytestmark = pytest.mark.usefixtures("files")


def test_a_valid_file_is_one_line(run: Run) -> None:
    answer = run("validate", "good.yaml")
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout == "good.yaml: valid: 4 checks (1 http, 2 icmp, 1 tcp), 1 service, 1 file\n"


def test_a_valid_file_as_json(run: Run) -> None:
    found = json.loads(run("validate", "good.yaml", "--format", "json").stdout)
    assert len(found.pop("digest")) == 16
    found.pop("revision")
    assert found == {
        "valid": True,
        "problems": [],
        "files": ["good.yaml"],
        "services": 1,
        "checks": {"http": 1, "icmp": 2, "tcp": 1},
        "discover": [],
    }


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_mistakes_are_the_answer_in_every_form(run: Run, form: str) -> None:
    answer = run("validate", "bad.yaml", "--format", form)
    assert (answer.exit_code, answer.stderr) == (2, "")
    golden(f"validate-{form}.txt", answer.stdout)


def test_a_workflow_command_cannot_be_broken_by_a_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a,b:c%.yaml").write_text("version: 1\nchecks: {a: {type: x}}\n")
    answer = run("validate", "a,b:c%.yaml", "--format", "github")
    assert answer.stdout.startswith("::error file=a%2Cb%3Ac%25.yaml,line=2,col=")


def test_a_file_that_does_not_exist_is_a_mistake_at_its_beginning(run: Run) -> None:
    answer = run("validate", "nowhere.yaml")
    assert answer.exit_code == 2
    assert answer.stdout.startswith("nowhere.yaml:1:1: ")


def test_a_missing_secret_is_named_and_no_secrets_lets_it_be(run: Run) -> None:
    answer = run("validate", "secret.yaml")
    assert "the environment variable SHOP_TOKEN is not set" in answer.stdout
    assert "SHOP_TOKEN" not in run("validate", "secret.yaml", "--no-secrets").stdout


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_no_form_shows_a_secret(run: Run, form: str) -> None:
    answer = run("validate", "secret.yaml", "--format", form, environ={"SHOP_TOKEN": "hunter2-canary"})
    assert answer.exit_code == 2
    assert "unknown key `intervall`; did you mean `interval`?" in answer.output
    assert "canary" not in answer.output


@pytest.mark.parametrize("command", ["plan", "probe"])
def test_other_commands_say_mistakes_on_stderr(run: Run, command: str) -> None:
    answer = run(command, "bad.yaml")
    assert (answer.exit_code, answer.stdout) == (1 if command == "plan" else 2, "")
    assert answer.stderr == run("validate", "bad.yaml").stdout


def test_a_web_configuration_is_checked_beside_the_checks(run: Run, tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("basic_auth_users: {alice: secret}\n")
    answer = run("validate", "bad.yaml", "--web.config.file", "web.yml", "--format", "json")
    assert answer.exit_code == 2
    told = [(problem["path"], problem["key"]) for problem in json.loads(answer.stdout)["problems"]]
    assert told[-1] == ("web.yml", "basic_auth_users.alice")
    assert len(told) == 5
    assert run("validate", "good.yaml", "--web.config.file", "web.yml").exit_code == 2
    (tmp_path / "web.yml").write_text("http_server_config: {http2: true}\n")
    assert run("validate", "good.yaml", "--web.config.file", "web.yml").exit_code == 0
