"""Files, defaults, for_each and moves become one configuration."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.config.conftest import Write, mistakes, read
from watchbill.config import load
from watchbill.domain.errors import ConfigError

PING = "type: icmp, host: x.example"


def test_a_folder_is_read_whole_and_recursively(write: Write) -> None:
    folder = write(
        a=f"version: 1\nchecks: {{a: {{{PING}}}}}",
        teams__b=f"version: 1\nchecks: {{b: {{{PING}, service: shop}}}}",
        teams__deep__services="version: 1\nservices: {shop: {owner: us}}",
    )
    (folder / "c.yml").write_text(f"version: 1\nchecks: {{c: {{{PING}}}}}")
    (folder / "notes.txt").write_text("not: [yaml")
    loaded = load(folder, environ={})
    assert list(loaded.config.checks) == ["a", "c", "b"]
    assert loaded.config.services["shop"].owner == "us"
    assert loaded.files == tuple(
        str(folder / name) for name in ("a.yaml", "c.yml", "teams/b.yaml", "teams/deep/services.yaml")
    )


def test_hidden_files_and_folders_are_passed_over(write: Write) -> None:
    folder = write(a=f"version: 1\nchecks: {{a: {{{PING}}}}}", **{".git__x": "[", ".hidden": "["})
    assert list(read(folder).checks) == ["a"]


def test_an_id_declared_in_two_files_is_an_error_that_names_both_places(write: Write) -> None:
    text = f"version: 1\nchecks:\n  shop: {{{PING}}}"
    folder = write(a=text, b="version: 1\nservices: {}\n\nchecks:\n  shop: {type: icmp, host: y}")
    assert mistakes(folder) == [
        f"a.yaml:3:3: check `shop` is declared twice, also at {folder}/b.yaml:5:3".replace(f"{folder}/", ""),
        f"b.yaml:5:3: check `shop` is declared twice, also at {folder}/a.yaml:3:3".replace(f"{folder}/", ""),
    ]


def test_a_section_key_in_two_files_is_an_error_and_different_keys_merge(write: Write) -> None:
    folder = write(
        a="version: 1\nlimits: {min_interval: 2s}\nstorage: {keep: 1d}",
        b="version: 1\nlimits: {concurrent_probes: 5}\nstorage: {keep: 2d}",
    )
    assert [line.partition(", also")[0] for line in mistakes(folder)] == [
        "a.yaml:3:11: storage `keep` is declared twice",
        "b.yaml:3:11: storage `keep` is declared twice",
    ]
    (folder / "b.yaml").write_text("version: 1\nlimits: {concurrent_probes: 5}")
    limits = read(folder).limits
    assert (limits.min_interval, limits.concurrent_probes) == (timedelta(seconds=2), 5)


def test_the_nearest_default_wins_check_service_file_folder(write: Write) -> None:
    own = "interval: 11s, timeout: 1s, description: own"
    folder = write(
        watchbill="version: 1\ndefaults: {interval: 44s, timeout: 4s, description: folder, enabled: false}",
        a=f"""\
version: 1
defaults: {{interval: 33s, timeout: 3s, description: file}}
services: {{shop: {{defaults: {{interval: 22s, timeout: 2s}}}}}}
checks:
  check: {{{PING}, service: shop, {own}}}
  service: {{{PING}, service: shop}}
  file: {{{PING}}}
""",
        b=f"version: 1\nchecks: {{folder: {{{PING}}}}}",
    )
    found = {
        name: (check.interval.seconds, check.timeout.seconds, check.description, check.enabled)
        for name, check in read(folder).checks.items()
    }
    assert found == {
        "check": (11, 1, "own", False),
        "service": (22, 2, "file", False),
        "file": (33, 3, "file", False),
        "folder": (44, 4, "folder", False),
    }


def test_labels_merge_key_by_key(write: Write) -> None:
    folder = write(
        watchbill="version: 1\ndefaults: {labels: {a: folder, b: folder, c: folder, d: folder, e: folder}}",
        a=f"""\
version: 1
defaults: {{labels: {{a: file, b: file, c: file, d: file}}}}
services: {{shop: {{labels: {{a: service, b: service, c: service}}, defaults: {{labels: {{a: default, b: default}}}}}}}}
checks: {{x: {{{PING}, service: shop, labels: {{a: check}}}}}}
""",
    )
    assert read(folder).checks["x"].labels == {
        "a": "check",
        "b": "default",
        "c": "service",
        "d": "file",
        "e": "folder",
    }


def test_a_folder_below_may_have_defaults_of_its_own(write: Write) -> None:
    folder = write(
        watchbill="version: 1\ndefaults: {interval: 40s, description: top}",
        team__watchbill="version: 1\ndefaults: {interval: 20s}",
        team__a=f"version: 1\nchecks: {{a: {{{PING}}}}}",
        b=f"version: 1\nchecks: {{b: {{{PING}}}}}",
    )
    checks = read(folder).checks
    assert [(checks[name].interval.seconds, checks[name].description) for name in "ab"] == [
        (20, "top"),
        (40, "top"),
    ]


def test_a_default_may_name_the_service_and_a_check_may_leave_it(write: Write) -> None:
    checks = read(
        write(
            f"version: 1\nservices: {{shop: {{defaults: {{timeout: 1s}}}}}}\ndefaults: {{service: shop}}\n"
            f"checks: {{a: {{{PING}}}, b: {{{PING}, service: null}}}}"
        )
    ).checks
    assert [(check.service, check.timeout.seconds) for check in checks.values()] == [("shop", 1), (None, 5)]


def test_a_wrong_default_is_reported_once_where_it_stands(write: Write) -> None:
    checks = ", ".join(f"c{number}: {{{PING}}}" for number in range(5))
    path = write(f"version: 1\ndefaults: {{interval: soon, labels: {{job: x}}}}\nchecks: {{{checks}}}")
    assert [line.split(" ")[0] for line in mistakes(path)] == ["checks.yaml:2:22:", "checks.yaml:2:37:"]


def test_without_a_timeout_a_short_interval_bounds_it(write: Write) -> None:
    check = read(write(f"version: 1\nchecks: {{a: {{{PING}, interval: 2s}}}}")).checks["a"]
    assert check.timeout == timedelta(seconds=2)


def test_for_each_stands_for_every_combination(write: Write) -> None:
    checks = read(
        write(
            """\
version: 1
services: {eu: {}, us: {}}
checks:
  edge:
    type: tcp
    for_each: {region: [eu, us], port: [80, 443]}
    service: ${each.region}
    host: ${each.region}.edge.example
    port: ${each.port}
    labels: {region: "${each.region}"}
"""
        )
    ).checks
    assert [
        (name, check.service, check.host, check.port, check.labels)  # type: ignore[union-attr]
        for name, check in checks.items()
    ] == [
        (f"edge-{region}-{port}", region, f"{region}.edge.example", port, {"region": region})
        for region in ("eu", "us")
        for port in (80, 443)
    ]


def test_defaults_may_use_the_values_of_for_each(write: Write) -> None:
    text = "version: 1\ndefaults: {labels: {r: '${each.r}'}}\nchecks: {a: {type: icmp, host: x, for_each: {r: [eu]}}}"
    assert read(write(text)).checks["a-eu"].labels == {"r": "eu"}


def test_too_many_combinations_are_refused_before_they_are_made(write: Write) -> None:
    lists = ", ".join(f"l{number}: [{', '.join(map(str, range(100)))}]" for number in range(5))
    assert mistakes(write(f"version: 1\nchecks: {{a: {{{PING}, for_each: {{{lists}}}}}}}")) == [
        "checks.yaml:2:43: for_each stands for 10,000,000,000 checks; at most 10,000 are allowed"
    ]


def test_moves_may_run_on_over_several_names(write: Write) -> None:
    moved = read(write(f"version: 1\nchecks: {{c: {{{PING}}}}}\nmoved: {{a: b, b: c}}")).moved
    assert moved == {"a": "b", "b": "c"}


def test_words_are_what_yaml_1_2_says_they_are(write: Write) -> None:
    text = """\
version: 1
checks:
  on: {type: icmp, host: no, labels: {a: yes, b: NO, c: 12:30:45, d: 2026-13-45, e: 1_000}}
"""
    check = read(write(text)).checks["on"]
    assert (check.type, check.labels) == (
        "icmp",
        {"a": "yes", "b": "NO", "c": "12:30:45", "d": "2026-13-45", "e": "1_000"},
    )


def test_anchors_and_merge_keys_work(write: Write) -> None:
    text = """\
version: 1
checks:
  a: &a {type: icmp, host: a.example, labels: &l {x: y}}
  b: {<<: *a, host: b.example}
  c: {<<: [{count: 3}, *a], labels: *l}
"""
    checks = read(write(text)).checks
    assert [(check.host, check.labels) for check in checks.values()] == [  # type: ignore[union-attr]
        ("a.example", {"x": "y"}),
        ("b.example", {"x": "y"}),
        ("a.example", {"x": "y"}),
    ]


def test_named_files_are_relative_to_the_file_that_names_them(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = write(
        team__a="version: 1\nchecks: {a: {type: http, url: 'https://x/', tls: {ca_file: tls/ca.pem}, expect: {json_schema: s.json}}}"
    )
    (folder / "team/tls").mkdir()
    (folder / "team/tls/ca.pem").write_bytes(b"\xff")
    (folder / "team/s.json").write_text('{"type": "object"}')
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    check = read(folder).checks["a"]
    assert check.type == "http"
    assert check.tls.ca_file == str(folder / "team/tls/ca.pem")
    assert check.expect.json_schema is not None
    assert check.expect.json_schema.document == '{"type": "object"}'


def test_paths_in_messages_are_as_the_user_gave_them(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(conf__a="version: 2\nchecks: {}")
    monkeypatch.chdir(folder)
    for given, shown in (("conf", "conf/a.yaml"), ("./conf/a.yaml", "./conf/a.yaml")):
        with pytest.raises(ConfigError) as caught:
            load(given, environ={})
        assert str(caught.value) == f"{shown}:1:10: version must be 1"


def test_equal_files_have_equal_digests_and_others_do_not(write: Write) -> None:
    text = f"version: 1\nchecks: {{a: {{{PING}}}}}"
    first = load(write(text), environ={}).digest
    assert load(write(f"{text} # a comment"), environ={}).digest == first
    assert load(write(text.replace("x.example", "y.example")), environ={}).digest != first


def test_a_thousand_checks_with_mistakes_are_all_named(write: Write) -> None:
    lines = "\n".join(f"  c{number}: {{{PING}, intervall: 5s}}" for number in range(1000))
    assert len(mistakes(write(f"version: 1\nchecks:\n{lines}"))) == 1000


def test_a_missing_path_is_one_problem_with_the_path(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "nope.yaml") == ["nope.yaml:1:1: does not exist"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"empty:1:1: the folder holds no \*\.yaml file"):
        load(empty, environ={})
