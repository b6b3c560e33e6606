"""`plan`: against another configuration and against an exporter, secrets compared and never shown."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import Exporter, Run, golden
from watchbill.config import load
from watchbill.domain.specs import masked_spec, spec_of

BASE = """\
version: 1
services: {shop: {owner: team-shop}}
checks:
  home: {type: http, url: "https://shop.example/", headers: {X-Token: "${TOKEN}"}}
  old: {type: tcp, host: db.example, port: 5432}
  legacy: {type: icmp, host: 192.0.2.1}
  same: {type: dns, name: shop.example}
"""
HEAD = """\
version: 1
services: {shop: {owner: team-web}}
checks:
  home: {type: http, url: "https://shop.example/", headers: {X-Token: "${TOKEN}"}, interval: 10s}
  new: {type: tcp, host: db.example, port: 5432}
  backup: {type: heartbeat, every: 24h}
  same: {type: dns, name: shop.example}
moved: {old: new}
"""
TOKEN = {"TOKEN": "hunter2-canary"}
ROTATED = {"TOKEN": "hunter3-canary"}


@pytest.fixture
def files(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "head.yaml").write_text(HEAD)


pytestmark = pytest.mark.usefixtures("files")


def running(path: Path, environ: dict[str, str]) -> dict[str, Any]:
    """What an exporter of that configuration answers."""
    loaded = load(path, environ=environ)
    config = loaded.config
    return {
        "digest": loaded.digest,
        "revision": "",
        "location": "",
        "checks": {
            check.id: {"spec": masked_spec(check), "interval_us": check.interval_micros}
            for check in config.checks.values()
        },
        **config.model_dump(mode="json", include={"services", "moved", "storage", "metrics", "limits"}),
    }


def comparing(path: Path, environ: dict[str, str]) -> Any:
    """How an exporter of that configuration compares secrets."""
    checks = load(path, environ=environ).config.checks

    def answer(body: Any) -> tuple[int, Any]:
        differ = {}
        for check_id, digests in body["digests"].items():
            secrets = spec_of(checks[check_id]).secrets
            known = {key: value.get_secret_value().encode() for key, value in secrets.items() if value}
            nonce = bytes.fromhex(body["nonce"])
            differ[check_id] = [
                key
                for key, digest in digests.items()
                if hmac.new(nonce, known[key], "sha256").hexdigest() != digest
            ]
        return 200, {"differ": {check_id: paths for check_id, paths in differ.items() if paths}}

    return answer


@pytest.fixture
def base(exporter: Exporter, tmp_path: Path) -> Exporter:
    """An exporter that runs base.yaml."""
    exporter.answers["GET /api/v1/config"] = (200, running(tmp_path / "base.yaml", TOKEN))
    exporter.answers["POST /api/v1/config/compare"] = comparing(tmp_path / "base.yaml", TOKEN)
    return exporter


@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_an_exporter_and_its_configuration_give_the_same_plan(run: Run, base: Exporter, form: str) -> None:
    answers = [
        run("plan", "head.yaml", "--against", against, "--format", form, environ=TOKEN)
        for against in (base.url, "base.yaml")
    ]
    assert [(answer.exit_code, answer.stderr) for answer in answers] == [(0, ""), (0, "")]
    assert answers[0].stdout == answers[1].stdout
    assert "canary" not in answers[0].stdout


def test_a_plan_is_as_it_was_agreed(run: Run) -> None:
    lines = run("plan", "head.yaml", "--against", "base.yaml", environ=TOKEN).stdout.splitlines()
    # How many series a check has is the metrics' affair.
    golden(
        "plan-command.txt", "\n".join(line for line in lines if not line.strip().startswith("series")) + "\n"
    )


def test_the_same_configuration_is_no_change(run: Run, base: Exporter) -> None:
    for against in (base.url, "base.yaml"):
        answer = run("plan", "base.yaml", "--against", against, "--detailed-exitcode", environ=TOKEN)
        assert (answer.exit_code, answer.stdout.splitlines()[0]) == (0, "no changes")


@pytest.mark.parametrize(("flags", "code"), [([], 0), (["--detailed-exitcode"], 2)])
def test_changes_end_with_two_on_demand_only(run: Run, flags: list[str], code: int) -> None:
    assert run("plan", "head.yaml", "--against", "base.yaml", *flags, environ=TOKEN).exit_code == code


def test_a_rotated_secret_is_a_change_that_shows_neither_value(run: Run, base: Exporter) -> None:
    answer = run("plan", "base.yaml", "--against", base.url, "--detailed-exitcode", environ=ROTATED)
    assert answer.exit_code == 2
    assert answer.stdout.splitlines()[:2] == ["~ home", "    headers.X-Token  ${TOKEN}  (secret changed)"]
    assert "canary" not in answer.output
    assert not [text for text in map(str, base.asked) if "canary" in text]


def test_a_rotated_secret_of_a_renamed_check_is_seen_too(run: Run, base: Exporter, tmp_path: Path) -> None:
    renamed = BASE.replace("  home:", "  front:") + "moved: {home: front}\n"
    (tmp_path / "renamed.yaml").write_text(renamed)
    answer = run("plan", "renamed.yaml", "--against", base.url, environ=ROTATED)
    assert answer.stdout.splitlines()[:2] == [
        "moved home -> front  (history goes on, series start anew)",
        "    headers.X-Token  ${TOKEN}  (secret changed)",
    ]


def test_without_secrets_none_is_asked_for_and_none_compared(run: Run, base: Exporter) -> None:
    answer = run("plan", "base.yaml", "--against", base.url, "--no-secrets", "--detailed-exitcode")
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert "secrets and variables without a value here were not compared" in answer.stdout
    assert [path for _, path, _ in base.asked] == ["/api/v1/config"]


def test_without_secrets_a_variable_without_a_value_is_no_change(
    run: Run, exporter: Exporter, tmp_path: Path
) -> None:
    (tmp_path / "host.yaml").write_text('version: 1\nchecks: {a: {type: icmp, host: "${PLACE}"}}\n')
    exporter.answers["GET /api/v1/config"] = (200, running(tmp_path / "host.yaml", {"PLACE": "db.example"}))
    answer = run("plan", "host.yaml", "--against", exporter.url, "--no-secrets")
    assert answer.stdout.splitlines()[0] == "no changes"


LITERAL = """\
version: 1
checks:
  {id}: {{type: http, url: "https://shop.example/", body: {body}, tls: {{ca_file: ca.pem}}, headers: {{X-Token: "${{TOKEN}}"}}}}
{moved}
"""


def test_without_secrets_what_stands_in_the_file_is_compared_all_the_same(run: Run, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "one.yaml").write_text(LITERAL.format(id="a", body="one", moved=""))
    (tmp_path / "two.yaml").write_text(LITERAL.format(id="a", body="two", moved=""))
    answer = run("plan", "two.yaml", "--against", "one.yaml", "--no-secrets")
    assert answer.stdout.splitlines()[:3] == ["~ a", "    body  (secret)  (secret changed)", ""]


def test_without_secrets_an_exporter_is_asked_for_what_stands_in_the_file_only(
    run: Run, exporter: Exporter, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "one.yaml").write_text(LITERAL.format(id="a", body="one", moved=""))
    exporter.answers["GET /api/v1/config"] = (200, running(tmp_path / "one.yaml", TOKEN))
    exporter.answers["POST /api/v1/config/compare"] = (200, {"differ": {"a": ["body"]}})
    (tmp_path / "two.yaml").write_text(LITERAL.format(id="b", body="two", moved="moved: {a: b}"))
    answer = run("plan", "two.yaml", "--against", exporter.url, "--no-secrets")
    assert answer.stdout.splitlines()[:3] == [
        "moved a -> b  (history goes on, series start anew)",
        "    body  (secret)  (secret changed)",
        "",
    ]
    asked = [body for _, path, body in exporter.asked if path.endswith("compare")]
    assert [set(body["digests"]["a"]) for body in asked] == [{"body"}]


def test_a_renamed_check_keeps_its_files_and_variables(run: Run, exporter: Exporter, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "one.yaml").write_text(
        'version: 1\nchecks: {a: {type: tls, host: "${PLACE}", tls: {ca_file: ca.pem}}}\n'
    )
    answer = running(tmp_path / "one.yaml", {"PLACE": "db.example"})
    answer["checks"]["a"]["spec"]["tls"]["ca_file"] = "/etc/watchbill/ca.pem"
    exporter.answers["GET /api/v1/config"] = (200, answer)
    (tmp_path / "two.yaml").write_text(
        'version: 1\nchecks: {b: {type: tls, host: "${PLACE}", tls: {ca_file: ca.pem}}}\nmoved: {a: b}\n'
    )
    said = run("plan", "two.yaml", "--against", exporter.url, "--no-secrets").stdout.splitlines()
    assert said[:2] == ["moved a -> b  (history goes on, series start anew)", ""]


def test_a_secret_in_a_list_is_no_change_of_itself(run: Run, exporter: Exporter, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text(
        "version: 1\nchecks: {a: {type: http, url: 'http://x.example/', "
        "expect: {body: {contains: ['${TOKEN}', b]}}}}\n"
    )
    exporter.answers["GET /api/v1/config"] = (200, running(tmp_path / "list.yaml", TOKEN))
    exporter.answers["POST /api/v1/config/compare"] = (200, {"differ": {}})
    for more in ([], ["--no-secrets"]):
        answer = run("plan", "list.yaml", "--against", exporter.url, *more, environ={} if more else TOKEN)
        assert answer.stdout.splitlines()[0] == "no changes"


def test_a_variable_with_another_value_is_a_change(run: Run, exporter: Exporter, tmp_path: Path) -> None:
    (tmp_path / "host.yaml").write_text('version: 1\nchecks: {a: {type: icmp, host: "${PLACE}"}}\n')
    exporter.answers["GET /api/v1/config"] = (200, running(tmp_path / "host.yaml", {"PLACE": "db.example"}))
    answer = run("plan", "host.yaml", "--against", exporter.url, environ={"PLACE": "other.example"})
    assert "    host  db.example -> other.example" in answer.stdout.splitlines()


def test_most_checks_gone_says_that_a_reload_refuses(run: Run, tmp_path: Path) -> None:
    many = "".join(f"  c{number}: {{type: icmp, host: localhost}}\n" for number in range(30))
    (tmp_path / "many.yaml").write_text(f"version: 1\nchecks:\n{many}")
    (tmp_path / "few.yaml").write_text("version: 1\nchecks:\n  c1: {type: icmp, host: localhost}\n")
    answer = run("plan", "few.yaml", "--against", "many.yaml", "--format", "json")
    assert json.loads(answer.stdout)["refused_as_mass_delete"] is True
    (tmp_path / "few.yaml").write_text(
        "version: 1\nlimits: {mass_delete: allow}\nchecks:\n  c1: {type: icmp, host: localhost}\n"
    )
    answer = run("plan", "few.yaml", "--against", "many.yaml", "--format", "json")
    assert json.loads(answer.stdout)["refused_as_mass_delete"] is False


def test_a_certificate_file_in_two_checkouts_is_the_same(run: Run, tmp_path: Path) -> None:
    for checkout in ("base", "head"):
        (tmp_path / checkout).mkdir()
        (tmp_path / checkout / "ca.pem").write_text("")
        (tmp_path / checkout / "checks.yaml").write_text(
            "version: 1\nchecks: {a: {type: tls, host: shop.example, tls: {ca_file: ca.pem}}}\n"
        )
    for one, other in (("head", "base"), ("head/checks.yaml", "base/checks.yaml")):
        assert run("plan", one, "--against", other).stdout.splitlines()[0] == "no changes"


@pytest.mark.parametrize("against", ["nowhere.yaml", "http://", "ftp://x"])
def test_every_error_ends_with_one(run: Run, against: str) -> None:
    answer = run("plan", "head.yaml", "--against", against, "--detailed-exitcode", environ=TOKEN)
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr.strip()
