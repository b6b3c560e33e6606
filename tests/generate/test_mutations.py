"""Rules that are spoilt fail the tests that were generated beside them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.generate import promtool
from tests.generate.mutations import OF_CHECKS, OF_ITSELF, Mutation, spoilt
from tests.generate.promtool import Generated, about, asked, generated, loaded, needs_promtool

CONFIG = """\
version: 1
services:
  shop: {owner: team-shop, runbook: "https://runbooks.example/shop"}
checks:
  shop.home: {type: http, service: shop, url: "https://shop.example/", expect: {certificate_valid_for: 30d}}
  shop.mail: {type: tls, service: shop, host: mail.example, expect: {certificate_valid_for: 30d}}
  shop-db: {type: tcp, service: shop, host: db.example, port: 5432, interval: 1m, labels: {severity: warning}}
discover:
  pods: {file_sd: {files: [targets/*.json]}, check: {type: icmp, host: "${each.host}"}}
"""

pytestmark = [needs_promtool, pytest.mark.e2e]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    found = loaded(CONFIG, tmp_path_factory.mktemp("mutations"))
    return generated(found, asked(timedelta(minutes=1)))


@pytest.mark.parametrize("alert", sorted({mutation.alert for mutation in (*OF_CHECKS, *OF_ITSELF)}))
def test_the_rules_pass_as_they_are(whole: Generated, alert: str, tmp_path: Path) -> None:
    assert "SUCCESS" in promtool.test(about(whole, alert), tmp_path)


@pytest.mark.parametrize("mutation", [*OF_CHECKS, *OF_ITSELF], ids=str)
def test_a_rule_that_is_spoilt_is_noticed(whole: Generated, mutation: Mutation, tmp_path: Path) -> None:
    texts = about(whole, mutation.alert)
    said = promtool.test(Generated(spoilt(texts.rules, mutation), texts.tests), tmp_path)
    assert "FAILED" in said


def test_there_is_a_mutation_of_every_alert(whole: Generated) -> None:
    assert {alert["alert"] for alert in promtool.alerts(whole)} == {
        mutation.alert for mutation in (*OF_CHECKS, *OF_ITSELF)
    }
