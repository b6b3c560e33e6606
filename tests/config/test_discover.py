"""A block of ``discover``: what is kept of it, and what becomes of a target by it."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.config.test_schema import plain
from watchbill.config import load
from watchbill.config.samples import MOST_TRIES_IN_ALL, samples
from watchbill.config.schema import json_schema
from watchbill.config.templates import Kept, Made, make_checks
from watchbill.domain.checks import Http, Tcp
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import ConfigError
from watchbill.domain.specs import masked_spec

SECRET = "s3cr3t-t0k3n"
PODS = """
version: 1
defaults: {interval: 45s, labels: {env: prod, zone: default}}
services:
  shop: {description: The shop, labels: {team: shop, zone: of-the-service}}
discover:
  pods:
    file_sd: {files: [targets/*.json]}
    check:
      type: http
      service: shop
      url: "https://${each.__address__}/${each.path:-healthz}"
      headers: {Authorization: "Bearer ${TOKEN}"}
      labels: {pinned: "yes, here"}
"""


def loaded(folder: Path, text: str = PODS, environ: Mapping[str, str] | None = None) -> LoadedConfig:
    file = folder / "checks.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, environ={"TOKEN": SECRET} if environ is None else environ)


def made(config: LoadedConfig, *targets: dict[str, str], block: str = "pods") -> list[Any]:
    """What becomes of the targets, as another process would be asked."""
    template = pickle.loads(pickle.dumps(config.templates[block]))
    return make_checks(b"", template.kept, targets)


def test_a_target_becomes_the_check_that_stands_there(tmp_path: Path) -> None:
    [check] = made(loaded(tmp_path), {"__address__": "10.0.0.1:8443", "path": "live"})
    assert isinstance(check, Http)
    assert (check.id, check.url, check.service) == (
        "pods-10.0.0.1-8443",
        "https://10.0.0.1:8443/live",
        "shop",
    )
    assert check.interval.total_seconds() == 45
    assert check.headers["Authorization"].get_secret_value() == f"Bearer {SECRET}"


def test_labels_of_the_check_win_over_its_target_s_and_those_over_all_defaults(tmp_path: Path) -> None:
    target = {"__address__": "a:1", "pinned": "by the target", "zone": "eu", "job": "x", "__meta_y": "z"}
    [check] = made(loaded(tmp_path), target)
    assert check.labels == {"pinned": "yes, here", "zone": "eu", "env": "prod", "team": "shop"}


def test_what_a_label_holds_is_text(tmp_path: Path) -> None:
    [check] = made(
        loaded(tmp_path),
        {"__address__": "a:1", "path": "${TOKEN}/$$/${each.__address__}", "note": "${TOKEN}"},
    )
    assert check.url == "https://a:1/${TOKEN}/$$/${each.__address__}"
    assert check.labels["note"] == "${TOKEN}"


def test_a_secret_is_shown_by_its_reference(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    [check] = made(config, {"__address__": "a:1"})
    shown = json.dumps(masked_spec(check), default=str)
    assert SECRET not in shown
    assert "Bearer ${TOKEN}" in shown
    everything = (
        repr(config),
        repr(config.templates),
        repr(config.templates["pods"].kept),
        config.config.model_dump_json(),
    )
    assert not any(SECRET in text for text in everything)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ({"path": "x"}, "the target has no label `__address__`, which its id is made of"),
        ({"__address__": "a b"}, "a url has no spaces or control characters; write %20 for a space"),
        ({"__address__": "-"}, "a host is a name or an IP address"),
        ({"__address__": "a:1", "bad.name": "x"}, "`bad.name` cannot be a label: a label is letters, digits and underscores, and starts with no digit"),
        ({"__address__": "a:1", "path": "\0"}, "the label `path` is not text"),
        ({"__address__": "a:1", "note": "\ud800"}, "the label `note` is not text"),
        ({"__address__": "a:1", "note": "\0"}, "the label `note` is not text"),
        ({"__address__": "a:1", "note": "x" * 1001}, "the label `note` has more than 1000 characters"),
        ({"__address__": "169.254.169.254"}, ""),
    ],
)  # fmt: skip
def test_a_target_that_makes_no_check_says_why(tmp_path: Path, target: dict[str, str], why: str) -> None:
    config = loaded(tmp_path)
    found = made(config, target, {"__address__": "b:1"})
    assert isinstance(found[0], str)
    assert why in found[0]
    assert SECRET not in found[0]
    assert isinstance(found[1], Http)


def test_a_label_that_is_needed_and_absent_is_named(tmp_path: Path) -> None:
    text = PODS.replace("${each.path:-healthz}", "${each.path}")
    assert made(loaded(tmp_path, text), {"__address__": "a:1"}) == ["the target has no label `path`"]


def test_rules_come_first_and_a_target_that_they_leave_out_is_none(tmp_path: Path) -> None:
    rules = """
    relabel:
      - {source_labels: [__meta_env], regex: prod, action: keep}
      - {source_labels: [__address__], regex: "(.+):.*", target_label: path, replacement: "${1}"}"""
    config = loaded(tmp_path, PODS.replace("    check:", f"{rules.lstrip(chr(10))}\n    check:"))
    kept, dropped = made(config, {"__address__": "a:1", "__meta_env": "prod"}, {"__address__": "b:1"})
    assert kept.url == "https://a:1/a"
    assert dropped is None


def test_an_id_of_one_s_own_is_brought_into_form(tmp_path: Path) -> None:
    text = PODS.replace("    check:", '    id: "${STAGE:-x}-${each.name}-${each.instance}"\n    check:')
    [check] = made(loaded(tmp_path, text), {"__address__": "A:1", "name": "Shop Web"})
    assert check.id == "x-shop-web-a-1"


def test_credentials_in_an_address_are_no_part_of_an_id(tmp_path: Path) -> None:
    text = PODS.replace('"https://${each.__address__}/${each.path:-healthz}"', '"${each.__address__}"')
    [check] = made(loaded(tmp_path, text), {"__address__": "https://me:hunter2@shop.example/a"})
    assert (check.id, check.url) == ("pods-https---shop.example-a", "https://shop.example/a")
    assert "hunter2" not in json.dumps(masked_spec(check), default=str)


def test_numbers_and_durations_come_from_labels(tmp_path: Path) -> None:
    text = """
version: 1
discover:
  pods:
    http_sd: {url: "https://inventory.example/targets"}
    id: "${each.host}"
    check: {type: tcp, host: "${each.host}", port: "${each.port}", interval: "${each.interval:-1m}"}
"""
    good, bad = made(loaded(tmp_path, text), {"host": "h", "port": "99"}, {"host": "h", "port": "x"})
    assert isinstance(good, Tcp)
    assert (good.port, good.interval.total_seconds()) == (99, 60)
    assert bad == "port must be a whole number, got text"


def test_a_target_may_name_its_service(tmp_path: Path) -> None:
    text = PODS.replace("service: shop", 'service: "${each.service}"')
    good, bad = made(
        loaded(tmp_path, text),
        {"__address__": "a", "service": "shop"},
        {"__address__": "b", "service": "shp"},
    )
    assert (good.service, good.labels["team"]) == ("shop", "shop")
    assert bad == "service `shp` is not declared under services; did you mean `shop`?"


def test_min_interval_holds_for_targets(tmp_path: Path) -> None:
    text = (
        PODS.replace("type: http", 'type: http\n      interval: "${each.interval}"')
        + "limits: {min_interval: 20s}\n"
    )
    [found] = made(loaded(tmp_path, text), {"__address__": "a", "interval": "10s"})
    assert found == "interval must be at least 20s (limits.min_interval), got 10s"


def test_files_are_read_with_the_configuration_and_not_for_a_target(tmp_path: Path) -> None:
    (tmp_path / "health.json").write_text('{"type": "object"}')
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / "ca.pem").write_text("-----BEGIN")
    text = (
        PODS.replace("${TOKEN}", "${file:token}")
        + "      expect: {json_schema: health.json}\n      tls: {ca_file: ca.pem}\n"
    )
    config = loaded(tmp_path, text, {})
    assert {Path(file).name for file in config.files} == {"checks.yaml", "health.json", "token", "ca.pem"}
    for name in ("health.json", "token", "ca.pem"):
        (tmp_path / name).unlink()
    [check] = made(config, {"__address__": "a"})
    assert check.headers["Authorization"].get_secret_value() == f"Bearer {SECRET}"
    assert "object" in str(check.expect.json_schema)
    assert check.tls.ca_file == str(tmp_path / "ca.pem")


def test_a_template_is_another_where_anything_is_that_its_checks_hang_on(tmp_path: Path) -> None:
    first = loaded(tmp_path)
    digests = {first.templates["pods"].digest}
    for text, environ in (
        (PODS, {"TOKEN": "another"}),
        (PODS.replace("45s", "50s"), None),
        (PODS.replace("team: shop", "team: other"), None),
        (PODS.replace("healthz", "ready"), None),
        (PODS + "    relabel: [{target_label: a, replacement: b}]\n", None),
    ):
        digests.add(loaded(tmp_path, text, environ).templates["pods"].digest)
    assert len(digests) == 6
    assert loaded(tmp_path, PODS + "checks: {a: {type: icmp, host: h}}\n").templates["pods"].digest in digests


def test_the_digest_of_a_configuration_covers_the_block(tmp_path: Path) -> None:
    digests = [loaded(tmp_path, text).digest for text in (PODS, PODS.replace("healthz", "ready"), PODS)]
    assert digests[0] == digests[2] != digests[1]


def test_without_blocks_the_digest_is_what_it_was_before_there_were_any(tmp_path: Path) -> None:
    text = "version: 1\nchecks:\n  a: {type: icmp, host: a.example}\n"
    config = loaded(tmp_path, text)
    assert "discover" not in json.dumps(sorted(config.config.model_dump(exclude_defaults=True)))
    assert config.digest == loaded(tmp_path, text + "discover: {}\n").digest


def test_a_missing_variable_is_a_mistake_unless_secrets_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="TOKEN is not set"):
        loaded(tmp_path, PODS, {})
    assert set(load(tmp_path / "checks.yaml", environ={}, resolve_secrets=False).templates) == {"pods"}


def test_a_block_declared_in_two_files_is_a_mistake(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(
            PODS.replace(
                "services:\n  shop: {description: The shop, labels: {team: shop, zone: of-the-service}}\n",
                "" if name == "b.yaml" else "services: {shop: {}}\n",
            )
        )
    with pytest.raises(ConfigError, match="block `pods` is declared twice"):
        load(tmp_path, environ={"TOKEN": SECRET})


def test_the_schema_takes_what_the_loader_takes() -> None:
    assert list(Draft7Validator(json_schema()).iter_errors(plain(PODS))) == []


@pytest.mark.parametrize(
    "slo",
    [
        "{service: shop, availability: 99%}",
        "{match: {pinned: 'yes, here'}, availability: 99%}",
        "{match: {type: http, env: prod}, latency: {objective: 99%, within: 500ms}}",
    ],
)
def test_an_objective_may_be_about_what_only_a_block_will_make(tmp_path: Path, slo: str) -> None:
    assert loaded(tmp_path, f"{PODS}slos:\n  shop: {slo}\n").config.slos.keys() == {"shop"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{PODS}slos: {{a: {{match: {{type: tcp}}, availability: 99%}}}}\n", "match must find a check"),
        (
            PODS.replace("45s", "1h") + "slos: {a: {service: shop, availability: 99.9%}}\n",
            "allows 0.72 failures of each check of discover.pods, which is probed every 1h",
        ),
        (
            PODS.replace("service: shop", 'service: "${each.team}"')
            + "slos: {a: {service: shop, availability: 99%}}\n",
            "no check belongs to service `shop`",
        ),
    ],
)
def test_an_objective_that_a_block_cannot_meet_is_a_mistake(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        loaded(tmp_path, text)


def test_an_interval_that_hangs_on_the_target_refuses_no_objective(tmp_path: Path) -> None:
    text = PODS.replace("type: http", 'type: http\n      interval: "${each.__scrape_interval__}"')
    assert loaded(tmp_path, text + "slos: {a: {service: shop, availability: 99.99%}}\n").config.slos


def test_a_mistake_in_a_block_is_told_once_and_not_again_by_objectives(tmp_path: Path) -> None:
    text = PODS.replace("url:", "ulr:") + "slos: {a: {service: shop, availability: 99%}}\n"
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, text)
    assert not [problem for problem in raised.value.problems if problem.key.startswith("slos")]


def test_samples_of_many_blocks_are_not_sought_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = Kept.make

    def counted(kept: Kept, target: Mapping[str, str]) -> Made:
        made.append(kept.block)
        return make(kept, target)

    fields = ", ".join(f'{name}: "${{each.{name}}}"' for name in ("name", "record", "server", "transport"))
    blocks = "".join(
        f"  b{number}: {{file_sd: {{files: [t.json]}}, check: {{type: dns, {fields}}}}}\n"
        for number in range(50)
    )
    templates = loaded(tmp_path, f"version: 1\ndiscover:\n{blocks}").templates
    monkeypatch.setattr(Kept, "make", counted)
    assert len(samples(templates)) == 50
    assert len(made) <= MOST_TRIES_IN_ALL + len(templates)
