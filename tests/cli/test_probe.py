"""`probe`: verdicts, phases and facts as people, tools and a CI read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from tests.cli.support import NOW, Run, golden
from watchbill.cli.junit import render
from watchbill.cli.waterfall import lines
from watchbill.domain.checks import Check, parse_check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.results import Failure, Outcome, Reason, Result, Trigger
from watchbill.domain.units import SECOND

DAY = 86_400
CHECKS: dict[str, Check] = {
    check.id: check
    for check in (
        parse_check({"id": "shop-home", "type": "http", "url": "https://shop.example/", "service": "shop"}),
        parse_check({"id": "shop-db", "type": "tcp", "host": "db.example", "port": 5432, "service": "shop"}),
        parse_check({"id": "gateway", "type": "icmp", "host": "192.0.2.1"}),
    )
}
PHASES = {"resolve": 0.0021, "connect": 0.0105, "tls": 0.0228, "processing": 0.0114, "transfer": 0.0004}
GOOD = Result(
    check_id="shop-home",
    location="",
    slot=NOW,
    trigger=Trigger.MANUAL,
    started_at=NOW,
    duration_seconds=0.0472,
    outcome=Outcome.SUCCESS,
    phases=PHASES,
    status_code=200,
    facts={
        "address": "192.0.2.7",
        "http_version": "1.1",
        "redirects": 1,
        "tls_version": "TLSv1.3",
        "certificate_expires_at": NOW / SECOND + 70.5 * DAY,
        "body_bytes": 12345,
    },
)
BAD = Result(
    check_id="shop-db",
    location="",
    slot=NOW,
    trigger=Trigger.MANUAL,
    started_at=NOW,
    duration_seconds=5.0,
    outcome=Outcome.FAILURE,
    failures=(
        Failure(Reason.LATENCY, "latency must be at most 1s, took 5000.0ms"),
        Failure(Reason.TIMEOUT, "timed out after 5s while \x1b[31mconnecting"),
    ),
    phases={"resolve": 0.001, "connect": 4.999},
)
OWN = Result(
    check_id="gateway",
    location="",
    slot=NOW,
    trigger=Trigger.MANUAL,
    started_at=NOW,
    duration_seconds=0.0001,
    outcome=Outcome.ERROR,
    failures=(Failure(Reason.PERMISSION, "no ICMP socket is allowed here"),),
)
RESULTS = {result.check_id: result for result in (GOOD, BAD, OWN)}


def fake_execute(loaded: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
    """The prepared results, under whatever ids were asked for."""
    assert set(ids) <= set(loaded.config.checks)
    return [RESULTS.get(check_id, GOOD) for check_id in ids]


@pytest.mark.parametrize("result", [GOOD, BAD, OWN], ids=lambda result: result.outcome.value)
def test_a_verdict_is_drawn_as_it_was_agreed(result: Result) -> None:
    drawn = lines(result, CHECKS[result.check_id], widths=(9, 20), detailed=True)
    golden(f"probe-{result.outcome.value}.txt", click.unstyle("\n".join(drawn)) + "\n")


def test_a_short_verdict_keeps_its_failures() -> None:
    drawn = [click.unstyle(line) for line in lines(BAD, CHECKS["shop-db"], widths=(9, 20), detailed=False)]
    assert [line.split(":")[0].strip() for line in drawn[1:]] == ["timeout", "latency"]


def test_bars_follow_each_other_and_fill_the_width() -> None:
    drawn = [click.unstyle(line) for line in lines(GOOD, CHECKS["shop-home"], widths=(9, 20), detailed=True)]
    bars = [line[27:] for line in drawn[1:6]]
    starts = [len(bar) - len(bar.lstrip()) for bar in bars]
    ends = [len(bar) for bar in bars]
    assert starts == sorted(starts)
    assert all(start in (end, end - 1) for start, end in zip(starts[1:], ends, strict=False))
    assert max(ends) == 40


def test_an_expired_certificate_says_since_when() -> None:
    facts = {"certificate_expires_at": NOW / SECOND - 3.5 * DAY}
    result = Result("gateway", "", NOW, Trigger.MANUAL, NOW, 0.1, Outcome.FAILURE, facts=facts)
    drawn = click.unstyle("\n".join(lines(result, CHECKS["gateway"], widths=(1, 20), detailed=True)))
    assert "certificate expired 2026-10-28 (3 days ago)" in drawn


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"loss_percent": 33.333, "rtt_avg": 0.0123}, "loss 33.3%, round trip 12.3ms"),
        ({"rcode": "NOERROR", "answers": ["a", "b", "c", "d", "e"]}, "NOERROR, a, b, c, 2 more"),
        ({"rcode": "NXDOMAIN", "answers": []}, "NXDOMAIN"),
        ({"address": "::1", "redirects": 0, "body_bytes": 0}, "::1, 0 bytes"),
    ],
)
def test_what_was_seen_stands_below_the_bars(facts: dict[str, object], shown: str) -> None:
    result = Result("gateway", "", NOW, Trigger.MANUAL, NOW, 0.1, Outcome.SUCCESS, facts=facts)
    drawn = lines(result, CHECKS["gateway"], widths=(1, 1), detailed=True)
    assert click.unstyle(drawn[-1]).strip() == shown


def test_junit_is_as_it_was_agreed_and_parses() -> None:
    text = render([GOOD, BAD, OWN], CHECKS, suite="checks.yaml")
    golden("probe.junit.xml", text + "\n")
    suite = ElementTree.fromstring(text)
    assert {key: suite.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["error"]]
    assert suite[1][0].get("type") == "timeout"


def test_junit_holds_whatever_a_target_said() -> None:
    said = "".join(map(chr, [0, 1, 8, 9, 10, 27, 0xFFFE, 0xD800, 0x1F600])) + "<&>\"'"
    result = Result(
        "gateway", "", NOW, Trigger.MANUAL, NOW, 0.1, Outcome.FAILURE, failures=(Failure(Reason.BODY, said),)
    )
    message = ElementTree.fromstring(render([result], CHECKS, suite=said))[0][0].get("message")
    assert message is not None
    assert message.endswith("😀<&>\"'")


def test_a_url_is_probed_without_any_file(run: Run) -> None:
    asked: list[Check] = []

    def execute(loaded: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
        asked.extend(loaded.config.checks[check_id] for check_id in ids)
        return [Result(ids[0], "", NOW, Trigger.MANUAL, NOW, 0.0472, Outcome.SUCCESS, status_code=200)]

    answer = run("probe", "https://shop.example/health?a=b", execute=execute)
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout.splitlines() == [
        "ok    shop.example-health  http       https://shop.example/health  200   47.2ms",
        "1 check: 1 ok",
    ]
    assert asked[0].model_dump(include={"type", "url"}) == {
        "type": "http",
        "url": "https://shop.example/health?a=b",
    }


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("tcp://db.example:5432", "tcp"),
        ("db.example:5432", "tcp"),
        ("[::1]:5432", "tcp"),
        ("tls://shop.example", "tls"),
        ("icmp://192.0.2.1", "icmp"),
        ("dns://9.9.9.9/shop.example", "dns"),
        ("http://127.0.0.1:9876/", "http"),
    ],
)
def test_every_scheme_is_a_type(run: Run, target: str, kind: str) -> None:
    kinds: list[str] = []

    def execute(loaded: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
        kinds.extend(check.type for check in loaded.config.checks.values())
        return [Result(ids[0], "", NOW, Trigger.MANUAL, NOW, 0.0, Outcome.SUCCESS)]

    assert run("probe", target, execute=execute).exit_code == 0
    assert kinds == [kind]


def test_a_password_in_a_url_is_not_printed(run: Run) -> None:
    def execute(_: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
        return [Result(ids[0], "", NOW, Trigger.MANUAL, NOW, 0.0, Outcome.SUCCESS)]

    for form in ("text", "json"):
        answer = run("probe", "https://bob:hunter2@shop.example/", "--format", form, execute=execute)
        assert answer.exit_code == 0
        assert "hunter2" not in answer.output


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("gopher://x/", "no check probes gopher://"),
        ("tcp://db.example", "a tcp target names a port, as in tcp://db.example:5432"),
        ("https://", "the url names no host"),
        ("http://[::1/", "not a url"),
        ("db.example:99999", "less than or equal to 65535"),
        ("icmp://-rf", "a host is a name or an IP address"),
    ],
)
def test_a_target_that_is_none_is_one_clear_line(run: Run, target: str, said: str) -> None:
    answer = run("probe", target, execute=fake_execute)
    assert answer.exit_code == 1
    assert said in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_json_has_phases_failures_and_facts(run: Run) -> None:
    answer = run("probe", "https://shop.example/", "--format", "json", execute=_shop_example)
    found = json.loads(answer.stdout)
    assert found["summary"] == {"success": 1, "failure": 0, "error": 0}
    assert found["results"][0]["phases"] == PHASES
    assert found["results"][0]["facts"]["address"] == "192.0.2.7"


def _shop_example(_: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
    return [
        Result(ids[0], "", NOW, Trigger.MANUAL, NOW, 0.0472, Outcome.SUCCESS, phases=PHASES, facts=GOOD.facts)
    ]


def test_a_secret_that_a_target_echoes_is_not_printed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text(
        'version: 1\nchecks: {a: {type: http, url: "https://x.example/", auth: {bearer: "${TOKEN}"}}}\n'
    )
    echoed = {"address": "canary-1234", "certificate_names": ["canary-1234", {"x": "canary-1234"}]}

    def execute(_: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
        return [Result(ids[0], "", NOW, Trigger.MANUAL, NOW, 0.0, Outcome.SUCCESS, facts=echoed)]

    for form in ("text", "json", "junit"):
        environ = {"TOKEN": "canary-1234"}
        answer = run("probe", "checks.yaml", "--format", form, execute=execute, environ=environ)
        assert answer.exit_code == 0
        assert "canary" not in answer.output


def test_a_long_url_is_no_file_name(run: Run) -> None:
    assert run("probe", "https://shop.example/?q=" + "x" * 5000, execute=_shop_example).exit_code == 0


def test_parked_checks_and_heartbeats_are_left_out_and_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text(
        "version: 1\nchecks:\n"
        "  a: {type: icmp, host: x}\n  b: {type: icmp, host: x, enabled: false}\n"
        "  c: {type: heartbeat, every: 1h}\n"
    )
    asked: list[str] = []

    def execute(_: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
        asked.extend(ids)
        return [Result(each, "", NOW, Trigger.MANUAL, NOW, 0.0, Outcome.SUCCESS) for each in ids]

    answer = run("probe", "checks.yaml", execute=execute)
    assert asked == ["a"]
    assert answer.stderr.splitlines() == [
        "left out: 1 check (not enabled)",
        "left out: 1 check (a heartbeat, which waits to be called)",
    ]
    assert run("probe", "checks.yaml", "b", "b", execute=execute).exit_code == 0
    assert asked == ["a", "b"]


@pytest.mark.parametrize(("result", "code"), [(GOOD, 0), (BAD, 1), (OWN, 1)])
def test_a_failure_and_an_error_both_end_with_one(run: Run, result: Result, code: int) -> None:
    def execute(_: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
        return [replace(result, check_id=ids[0])]

    for form in ("text", "json", "junit"):
        assert run("probe", "icmp://x", "--format", form, execute=execute).exit_code == code


def test_more_than_five_results_are_shown_in_brief(run: Run, tmp_path: Path) -> None:
    many = "".join(f"  c{number}: {{type: icmp, host: x}}\n" for number in range(6))
    (tmp_path / "checks.yaml").write_text(f"version: 1\nchecks:\n{many}")

    def execute(_: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
        return [replace(GOOD, check_id=each) for each in ids]

    assert len(run("probe", "checks.yaml", execute=execute).stdout.splitlines()) == 7
    assert len(run("probe", "checks.yaml", "c1", execute=execute).stdout.splitlines()) == 8


def test_a_bare_host_is_told_how_a_target_is_written(run: Run) -> None:
    answer = run("probe", "gateway.example")
    assert answer.exit_code == 2
    assert answer.stderr.splitlines()[-1] == (
        "Error: there is no file gateway.example; a target says how to probe it: "
        "https://gateway.example/, icmp://gateway.example, gateway.example:443"
    )
    assert "does not exist" in run("probe", "nowhere.yaml").stderr
