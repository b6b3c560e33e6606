"""Alerts of a configuration: whom they name, how long they wait, and that promtool takes them and their tests."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from tests.generate import promtool
from tests.generate.many import many_checks
from tests.generate.promtool import Generated, alerts, asked, generated, loaded, needs_promtool
from watchbill import config
from watchbill.cli.samples import families
from watchbill.domain.config import LoadedConfig
from watchbill.generate.asked import Asked
from watchbill.generate.promql import literal

ROOT = Path(__file__).parents[2]
MINUTE = timedelta(minutes=1)
SMALL = """\
version: 1
services:
  shop: {owner: team-shop, runbook: "https://runbooks.example/shop"}
checks:
  shop.home: {type: http, service: shop, url: "https://shop.example/", expect: {certificate_valid_for: 30d}}
  shop-db: {type: tcp, service: shop, host: db.example, port: 5432, interval: 1m, labels: {severity: warning}}
  ping: {type: icmp, host: gateway.example, interval: 1h}
  parked: {type: icmp, host: gateway.example, enabled: false}
"""


@pytest.fixture
def small(tmp_path: Path) -> LoadedConfig:
    return loaded(SMALL, tmp_path)


def named(texts: Generated, name: str) -> list[dict[str, object]]:
    return [alert for alert in alerts(texts) if alert["alert"] == name]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> LoadedConfig:
    return loaded(yaml.safe_dump(many_checks(500)), tmp_path_factory.mktemp("many"))


def test_a_check_that_is_down_waits_for_two_slots_and_names_its_people(small: LoadedConfig) -> None:
    found = named(generated(small, Asked()), "WatchbillCheckDown")
    assert [(alert["for"], alert["labels"]) for alert in found] == [
        ("1m30s", {"service": "shop", "owner": "team-shop", "severity": "critical", "after": "1m30s"}),
        ("2m", {"service": "shop", "owner": "team-shop", "severity": "warning", "after": "2m"}),
        ("1h30m", {"severity": "critical", "after": "1h30m"}),
    ]
    assert 'check="shop.home"' in str(found[0]["expr"])
    assert found[0]["annotations"]["runbook_url"] == "https://runbooks.example/shop"  # type: ignore[index]
    assert str(found[2]["annotations"]["runbook_url"]).endswith("/docs/alerts#watchbillcheckdown")  # type: ignore[index]


def test_a_check_that_is_parked_has_no_alert(small: LoadedConfig) -> None:
    assert "parked" not in generated(small, Asked()).rules


def test_a_certificate_rings_a_week_before_its_check_fails(small: LoadedConfig) -> None:
    [alert] = named(generated(small, Asked()), "WatchbillCertificateExpiring")
    assert "< 37 * 86400 > 0" in str(alert["expr"])


@pytest.mark.parametrize(
    ("check", "shows"),
    [
        ('{type: http, url: "https://x.example/", follow_redirects: false}', True),
        ('{type: http, url: "http://x.example/", follow_redirects: false}', False),
        ('{type: http, url: "http://x.example/"}', True),
        ("{type: tls, host: x.example}", True),
        ("{type: tcp, host: x.example, port: 443}", False),
        ("{type: dns, name: x.example, server: x.example, transport: tls}", True),
        ("{type: dns, name: x.example}", False),
        ("{type: heartbeat, every: 1h}", False),
    ],
)
def test_alerts_on_certificates_are_for_what_can_show_one(check: str, shows: bool, tmp_path: Path) -> None:
    found = loaded(f"version: 1\nchecks: {{one: {check}}}\n", tmp_path)
    assert bool(named(generated(found, Asked()), "WatchbillCertificateExpired")) == shows


def test_parts_and_selectors_choose(small: LoadedConfig) -> None:
    only = generated(small, Asked(only=frozenset({"self"})))
    assert named(only, "WatchbillCheckDown") == []
    assert named(only, "WatchbillWatchdog") != []
    one = generated(
        small, Asked(selectors={"service": frozenset({"shop"}), "type": frozenset({"tcp", "dns"})})
    )
    [alert] = named(one, "WatchbillCheckDown")
    assert 'check="shop-db"' in str(alert["expr"])


def test_the_same_configuration_in_another_order_gives_the_same_rules(tmp_path: Path) -> None:
    head, checks = SMALL.split("checks:\n")
    turned = "\n".join(reversed(checks.rstrip().split("\n"))) + "\n"
    first = loaded(SMALL, tmp_path)
    second = loaded(f"{head}checks:\n{turned}", tmp_path)
    assert first.config.checks.keys() == second.config.checks.keys()
    assert list(first.config.checks) != list(second.config.checks)
    only = Asked(only=frozenset({"check"}))
    assert generated(first, only) == generated(second, only)


def test_many_checks_share_few_rules_each_named_in_one_of_a_kind(many: LoadedConfig) -> None:
    texts = generated(many, asked(MINUTE))
    enabled = [check.id for check in many.config.checks.values() if check.enabled]
    downs = named(texts, "WatchbillCheckDown")
    assert len(downs) < 20
    matched = Counter(
        check
        for alert in downs
        for check in re.findall(r'check=~"([^"]*)"', str(alert["expr"]))[0].split("|")
    )
    assert matched == Counter(literal(check).replace("\\", "\\\\") for check in enabled)


def test_no_two_rules_are_alike_in_name_and_labels(many: LoadedConfig) -> None:
    found = [(alert["alert"], *sorted(alert["labels"].items())) for alert in alerts(generated(many, Asked()))]
    assert [rule for rule, count in Counter(found).items() if count > 1] == []


@needs_promtool
@pytest.mark.e2e
def test_promtool_takes_what_the_example_comes_to_and_its_tests_pass(tmp_path: Path) -> None:
    example = config.load(str(ROOT / "checks.example.yaml"), environ={})
    texts = generated(example, asked(MINUTE))
    assert "SUCCESS" in promtool.check(texts, tmp_path)
    assert "SUCCESS" in promtool.test(texts, tmp_path)


@needs_promtool
@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("slow", [False, True])
def test_promtool_takes_what_many_checks_come_to_and_their_tests_pass(
    many: LoadedConfig, slow: bool, tmp_path: Path
) -> None:
    texts = generated(many, asked(2 * MINUTE), slow=slow)
    assert "SUCCESS" in promtool.check(texts, tmp_path)
    assert "SUCCESS" in promtool.test(texts, tmp_path)


@needs_promtool
@pytest.mark.e2e
@pytest.mark.parametrize(
    "only",
    [
        asked(MINUTE, only=frozenset({"check"})),
        Asked(only=frozenset({"self"}), job="prod-watchbill|stage-.*"),
        Asked(scrape_interval=2 * MINUTE, evaluation_interval=MINUTE, selectors={"type": frozenset({"tcp"})}),
    ],
    ids=["checks", "itself", "scraped seldom"],
)
def test_rules_and_tests_fit_whatever_is_asked(small: LoadedConfig, only: Asked, tmp_path: Path) -> None:
    assert "SUCCESS" in promtool.test(generated(small, only), tmp_path)


MEETING = """\
version: 1
services: {shop: {owner: team-shop}, eu: {}}
checks: {pods-canary: {type: icmp, host: x}}
discover:
  pods:
    file_sd: {files: [t/*.json]}
    check: {type: http, service: shop, url: "https://${each.__address__}/", interval: 1m}
  pods-eu:
    file_sd: {files: [t/*.json]}
    check: {type: tcp, service: eu, host: "${each.host}", port: "${each.port}", interval: 1m}
"""


@needs_promtool
@pytest.mark.e2e
def test_alerts_on_what_is_discovered_pass_their_tests(tmp_path: Path) -> None:
    check = '{type: http, url: "https://${each.__address__}/", labels: {zone: "${each.zone}"}, interval: 1m}'
    block = f"pods: {{file_sd: {{files: [t/*.json]}}, check: {check}}}"
    found = loaded(f"version: 1\nchecks: {{one: {{type: icmp, host: x}}}}\ndiscover: {{{block}}}\n", tmp_path)
    stand_ins, said = families(found)
    assert said == []
    texts = generated(found, asked(MINUTE, only=frozenset({"check"}), discovered=stand_ins))
    assert 'check=~"one|pods-.+"' in texts.rules
    assert "SUCCESS" in promtool.test(texts, tmp_path)


@needs_promtool
@pytest.mark.e2e
def test_what_people_declare_is_no_template(tmp_path: Path) -> None:
    text = """\
version: 1
services: {shop: {owner: "the \\"{{team}}\\"", runbook: "https://wiki.example/{{page}}?a=1"}}
checks: {one: {type: tcp, host: x.example, port: 1, service: shop, labels: {note: "{{ $labels }}"}}}
"""
    texts = generated(loaded(text, tmp_path), asked(MINUTE, only=frozenset({"check"})))
    assert "SUCCESS" in promtool.check(texts, tmp_path)
    assert "SUCCESS" in promtool.test(texts, tmp_path)
    assert 'owner: the "{{team}}"' in texts.tests


def test_what_is_discovered_rings_by_one_rule(tmp_path: Path) -> None:
    """What is declared goes before, and of two blocks the one that says more of its ids."""
    found = loaded(MEETING, tmp_path)
    stand_ins, said = families(found)
    assert said == []
    texts = generated(found, asked(MINUTE, only=frozenset({"check"}), discovered=stand_ins))
    downs = [alert["expr"] for alert in alerts(texts) if alert["alert"] == "WatchbillCheckDown"]
    matchers = [re.findall(r"status\{.*?, (check.*)\}$", expr, re.MULTILINE)[0] for expr in downs]
    assert sorted(matchers) == [
        'check="pods-canary"',
        r'check=~"pods-.+", check!~"pods-canary|pods-eu-.+"',
        'check=~"pods-eu-.+"',
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('check=~"pods-.+"', 'check="pods-sample.example-443"'),
        ('check=~"pods-.+"', 'check=~"pods-another.+"'),
        ("pods-canary|", ""),
        ("|pods-eu-.+", ""),
        ('check=~"pods-eu-.+"', 'check=~"pods-us-.+"'),
    ],
)
@needs_promtool
@pytest.mark.e2e
def test_matchers_of_what_is_discovered_are_tested(old: str, new: str, tmp_path: Path) -> None:
    found = loaded(MEETING, tmp_path)
    texts = generated(found, asked(MINUTE, only=frozenset({"check"}), discovered=families(found)[0]))
    texts = promtool.about(texts, "WatchbillCheckDown")
    assert "SUCCESS" in promtool.test(texts, tmp_path)
    rules = yaml.safe_load(texts.rules)
    for rule in rules["groups"][0]["rules"]:
        rule["expr"] = rule["expr"].replace(old, new)
    assert rules != yaml.safe_load(texts.rules)
    assert "FAILED" in promtool.test(Generated(yaml.safe_dump(rules), texts.tests), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [("", ""), ("pods-.+", "pods-x.+"), ("60 *", "6 *"), ('check=~"own|pods-.+"', 'check="own"')],
)
@needs_promtool
@pytest.mark.e2e
def test_objectives_count_what_is_discovered_by_its_interval(old: str, new: str, tmp_path: Path) -> None:
    checks = "checks: {pods-canary: {type: icmp, host: x}, own: {type: icmp, host: x, service: shop, interval: 1m}}\n"
    text = MEETING.replace("checks: {pods-canary: {type: icmp, host: x}}\n", checks)
    text = text.replace("service: eu", "service: shop").replace(
        'port}", interval: 1m', 'port}", interval: 2m'
    )
    found = loaded(text + "slos: {shop: {service: shop, availability: 99%}}\n", tmp_path)
    texts = generated(found, asked(MINUTE, only=frozenset({"slo"}), discovered=families(found)[0]))
    assert (
        r'60 * clamp_min(last_over_time(watchbill_check_slots_total{check=~"own|pods-.+", check!~"pods-canary|pods-eu-.+", outcome='
        in texts.rules
    )
    rules = yaml.safe_load(texts.rules)
    for rule in rules["groups"][0]["rules"]:
        rule["expr"] = rule["expr"].replace(old, new)
    said = promtool.test(Generated(yaml.safe_dump(rules), texts.tests), tmp_path)
    assert ("FAILED" in said) == bool(old)


def test_every_alert_is_tested_ringing_and_nothing_rings_where_all_is_well(many: LoadedConfig) -> None:
    tests = [
        yaml.safe_load(generated(many, asked(MINUTE), slow=slow).tests)["tests"] for slow in (False, True)
    ]
    ringing = {
        (look["alertname"], *sorted((name, alert["exp_labels"].get(name, "")) for name in ("service", "owner", "severity", "after")))
        for test in [*tests[0], *tests[1]]
        for look in test.get("alert_rule_test", ())
        for alert in look["exp_alerts"]
    }  # fmt: skip
    expected = {
        (alert["alert"], *sorted((name, alert["labels"].get(name, "")) for name in ("service", "owner", "severity", "after")))
        for alert in alerts(generated(many, asked(MINUTE)))
    }  # fmt: skip
    # Dropped rows are counted, since what increase() makes of them depends on how often is scraped.
    assert {rule[0] for rule in expected - ringing} == {"WatchbillHistoryDropping"}
    assert "count(count_over_time(ALERTS" in str(tests[0][0])


def test_every_alert_has_what_a_person_woken_by_it_needs(small: LoadedConfig) -> None:
    page = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")
    for alert in alerts(generated(small, Asked())):
        texts = alert["annotations"]
        assert alert["labels"]["severity"] in {"critical", "warning", "info", "none"}
        assert texts["summary"]
        assert "." in texts["description"]
        assert texts["runbook_url"].startswith("https://")
        assert f"## {alert['alert']}\n" in page
