"""``generate rules`` and ``generate rule-tests``: what is asked for, where it goes, what is said beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.cli.support import Run

CONFIG = """\
version: 1
services: {shop: {owner: team-shop}}
checks:
  home: {type: http, service: shop, url: "https://${HOST_TOKEN}.example/"}
  seldom: {type: icmp, host: gateway.example, interval: 6h}
"""
SECRET = {"HOST_TOKEN": "shop"}


@pytest.fixture(autouse=True)
def config(run: Run) -> None:
    Path("checks.yaml").write_text(CONFIG, encoding="utf-8")


def test_rules_go_to_stdout_and_begin_with_how_to_make_them_again(run: Run) -> None:
    options = (
        "--only",
        "check,self",
        "--selector",
        "service=shop",
        "--job",
        "wb.*",
        "--scrape-interval",
        "30s",
    )
    answer = run("generate", "rules", "checks.yaml", "--no-secrets", *options)
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout.splitlines()[0] == (
        "# Generated; do not edit. watchbill generate rules CONFIG --only check,self --selector service=shop "
        "--scrape-interval 30s --job 'wb.*'"
    )
    assert [group["name"] for group in yaml.safe_load(answer.stdout)["groups"]] == [
        "watchbill-checks",
        "watchbill-exporter",
    ]


@pytest.mark.parametrize(("form", "kind"), [("prometheus", None), ("prometheusrule", "PrometheusRule")])
def test_rules_have_two_forms(run: Run, form: str, kind: str | None) -> None:
    answer = run("generate", "rules", "checks.yaml", "--no-secrets", "--format", form)
    assert yaml.safe_load(answer.stdout).get("kind") == kind


def test_a_file_is_written_and_stdout_is_silent(run: Run) -> None:
    answer = run("generate", "rules", "checks.yaml", "--no-secrets", "-o", "watchbill.rules.yml")
    assert (answer.exit_code, answer.output) == (0, "")
    assert "WatchbillCheckDown" in Path("watchbill.rules.yml").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_is_one_line(run: Run) -> None:
    answer = run("generate", "rules", "checks.yaml", "--no-secrets", "-o", "nowhere/rules.yml")
    assert (answer.exit_code, answer.stderr) == (
        1,
        "watchbill: nowhere/rules.yml: No such file or directory\n",
    )


def test_tests_name_the_rules_and_say_what_they_leave_to_the_slow_ones(run: Run) -> None:
    answer = run("generate", "rule-tests", "checks.yaml", "--no-secrets", "--rules", "../alerts/wb.yml")
    assert (
        answer.stderr == "watchbill: warning: 1 alert waits too long for these tests: --slow writes its own\n"
    )
    read = yaml.safe_load(answer.stdout)
    assert read["rule_files"] == ["../alerts/wb.yml"]
    assert read["evaluation_interval"] == "15s"
    slow = run("generate", "rule-tests", "checks.yaml", "--no-secrets", "--slow")
    assert (slow.exit_code, slow.stderr) == (0, "")
    assert "seldom" in slow.stdout
    assert "home" not in slow.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--selector", "service=shopp"), "no enabled check has service=shopp"),
        (("--selector", "service"), "is written as in service=shop or env=prod,test"),
        (("--only", "checks"), "takes slo, check, self, separated by commas"),
        (("--job", "("), "no regular expression that RE2 accepts"),
        (("--scrape-interval", "15"), "a duration is a number with a unit"),
        (("--scrape-interval", "5m"), "at most 2m"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_a_usage_error(run: Run, options: tuple[str, ...], said: str) -> None:
    answer = run("generate", "rules", "checks.yaml", "--no-secrets", *options)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert said in answer.stderr


def test_a_configuration_that_is_not_valid_gives_its_mistakes_and_no_rules(run: Run) -> None:
    Path("checks.yaml").write_text("version: 1\nchecks: {a: {type: icmp}}\n", encoding="utf-8")
    answer = run("generate", "rules", "checks.yaml")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr.startswith("checks.yaml:2:")


def test_no_alert_on_certificates_is_said_where_nothing_shows_them(run: Run) -> None:
    with Path("checks.yaml").open("a", encoding="utf-8") as file:
        file.write("metrics: {probe: false}\n")
    answer = run("generate", "rules", "checks.yaml", environ=SECRET)
    assert "probe_ssl_earliest_cert_expiry" in answer.stderr
    assert "probe_ssl_earliest_cert_expiry" not in answer.stdout


def test_a_configuration_known_only_in_part_is_not_compared_with_what_runs(run: Run) -> None:
    Path("checks.yaml").write_text(CONFIG.replace("HOST_TOKEN", "HOST"), encoding="utf-8")
    without = run("generate", "rules", "checks.yaml", "--no-secrets")
    assert "WatchbillConfigMismatch" not in without.stdout
    assert "WatchbillConfigMismatch" in without.stderr
    assert (
        "WatchbillConfigMismatch" in run("generate", "rules", "checks.yaml", environ={"HOST": "shop"}).stdout
    )


DISCOVER = """\
version: 1
defaults: {interval: 1m}
services: {shop: {owner: team-shop}}
discover:
  shop-pods:
    file_sd: {files: [targets/*.json]}
    relabel: [{source_labels: [env], regex: prod, action: keep}]
    check: {type: http, service: shop, url: "https://${each.__address__}/", labels: {zone: "${each.zone}", tier: gold}}
  db:
    file_sd: {files: [targets/*.json]}
    id: "Data.base-${each.host}-x"
    check: {type: tcp, host: "${each.host}", port: "${each.port}", interval: 10s, labels: {owner: "${each.team}"}}
"""


def test_checks_that_are_discovered_are_known_by_how_their_ids_are_made(run: Run) -> None:
    Path("checks.yaml").write_text(DISCOVER, encoding="utf-8")
    answer = run("generate", "rules", "checks.yaml", "--only", "check")
    assert answer.stderr == ""
    rules = yaml.safe_load(answer.stdout)["groups"][0]["rules"]
    downs = [rule for rule in rules if rule["alert"] == "WatchbillCheckDown"]
    assert [(re.findall(r"check=~\S+\"", rule["expr"])[0], rule["labels"]) for rule in downs] == [
        ('check=~"data\\\\.base-.+-x"', {"severity": "critical", "after": "45s"}),
        (
            'check=~"shop-pods-.+"',
            {"service": "shop", "owner": "team-shop", "severity": "critical", "after": "2m"},
        ),
    ]


def test_tests_of_discovered_checks_are_of_one_that_is_like_them(run: Run) -> None:
    Path("checks.yaml").write_text(DISCOVER, encoding="utf-8")
    tests = run("generate", "rule-tests", "checks.yaml", "--only", "check").stdout
    assert 'check="shop-pods-sample.example-443"' in tests
    assert 'check="data.base-sample-x"' in tests
    assert 'check="data.base-another-10-x"' in tests
    assert 'tier="gold"' in tests
    assert "zone" not in tests


UNTOLD = "begin its `id` with a fixed text"


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ('id: "${each.host}", check: {type: icmp, host: x}', UNTOLD),
        ('id: "${each.ns}-${each.host}", check: {type: icmp, host: x}', UNTOLD),
        ('check: {type: dns, name: x, record: "${each.no}${each.where}"}', "discover.pods: no rules for the checks that it makes: "),
    ],
)  # fmt: skip
def test_a_block_whose_checks_cannot_be_known_is_told_of(run: Run, block: str, said: str) -> None:
    Path("checks.yaml").write_text(_block(block), encoding="utf-8")
    answer = run("generate", "rules", "checks.yaml")
    assert answer.exit_code == 0
    assert answer.stderr.startswith(
        "watchbill: warning: discover.pods: no rules for the checks that it makes: "
    )
    assert said in answer.stderr
    assert "pods-" not in answer.stdout


@pytest.mark.parametrize(
    ("check", "said", "labels"),
    [
        ('interval: "${each.every}"', "alerts wait as for 5m and 5s, so that", {"service": "", "after": "6m"}),
        ('timeout: "${each.longest}"', "alerts wait as for 30s and ", {"service": ""}),
        ('service: "${each.team}"', "alerts have neither owner nor runbook of it", {"service": ""}),
        ('service: shop, labels: {owner: "${each.team}"}', "", {"service": "shop", "owner": ""}),
        ('service: shop, labels: {severity: "${each.how}"}', "their alerts are critical", {"owner": "team-shop", "severity": "critical"}),
        ("service: shop, labels: {severity: warning}", "", {"owner": "team-shop", "severity": "warning"}),
    ],
)  # fmt: skip
def test_what_hangs_on_the_target_is_guessed_and_told_of(
    run: Run, check: str, said: str, labels: dict[str, str]
) -> None:
    block = f'check: {{type: http, url: "${{each.__param_target}}", {check}}}'
    Path("checks.yaml").write_text(_block(block), encoding="utf-8")
    answer = run("generate", "rules", "checks.yaml", "--only", "check")
    assert answer.exit_code == 0
    assert answer.stderr.count("\n") == bool(said)
    assert said in answer.stderr
    [down] = [
        rule
        for rule in yaml.safe_load(answer.stdout)["groups"][0]["rules"]
        if rule["alert"] == "WatchbillCheckDown"
    ]
    assert {name: down["labels"].get(name, "") for name in labels} == labels


def test_blocks_whose_ids_look_alike_have_the_rules_of_the_slower(run: Run) -> None:
    blocks = "".join(
        f'  {name}: {{file_sd: {{files: [t/*.json]}}, id: "pod-${{each.host}}", check: {{type: icmp, host: x, interval: {interval}}}}}\n'
        for name, interval in (("one", "1m"), ("two", "5m"))
    )
    Path("checks.yaml").write_text(f"version: 1\ndiscover:\n{blocks}", encoding="utf-8")
    answer = run("generate", "rules", "checks.yaml", "--only", "check")
    assert answer.stderr.startswith("watchbill: warning: discover.two: its ids look like those of one")
    downs = [
        rule["labels"]["after"]
        for rule in yaml.safe_load(answer.stdout)["groups"][0]["rules"]
        if rule["alert"] == "WatchbillCheckDown"
    ]
    assert downs == ["6m"]


def test_a_selector_finds_what_is_constant_of_a_block(run: Run) -> None:
    Path("checks.yaml").write_text(DISCOVER, encoding="utf-8")
    answer = run("generate", "rules", "checks.yaml", "--only", "check", "--selector", "tier=gold")
    assert 'check=~"shop-pods-.+"' in answer.stdout
    assert "data" not in answer.stdout


def _block(block: str) -> str:
    services = "{shop: {owner: team-shop}}"
    return (
        f"version: 1\nservices: {services}\ndiscover:\n  pods: {{{block}, file_sd: {{files: [t/*.json]}}}}\n"
    )
