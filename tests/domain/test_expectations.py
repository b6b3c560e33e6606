"""Judging is pure: what was declared, what was seen, and what is said of the difference."""

import json
from datetime import timedelta

import pytest

from watchbill.domain.checks import Dns, Http, Icmp, parse_check
from watchbill.domain.expectations import (
    answer_failures,
    body_failures,
    header_failures,
    latency_failures,
    validity_failures,
)
from watchbill.domain.json_rules import compile_path, schema_validator
from watchbill.domain.rules import compile_pattern, status_meets


def http(**expect: object) -> Http:
    check = parse_check({"id": "a", "type": "http", "url": "http://a/", "expect": expect})
    assert isinstance(check, Http)
    return check


def messages(check: Http, body: str) -> list[str]:
    return [failure.message for failure in body_failures(check.expect, body, truncated=False, limit=1 << 20)]


@pytest.mark.parametrize(
    ("rules", "status", "meets"),
    [
        (200, 200, True),
        (200, 201, False),
        ("2xx", 299, True),
        ("2xx", 300, False),
        ("200-204", 204, True),
        ("200-204", 205, False),
        (["2xx", 304], 304, True),
        (["2xx", 304], 404, False),
        ("2xx", 2000, False),
        ("5xx", 599, True),
    ],
)
def test_a_status_is_a_number_a_class_or_a_range(rules: object, status: int, meets: bool) -> None:
    assert status_meets(http(status=rules).expect.status, status) is meets


DOCUMENT = {"status": "ok", "queue": {"depth": 7}, "flags": [True, False], "none": None, "n": 1.0}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"$.status": "ok"}, None),
        ({"$.status": "bad"}, '$.status must be "bad", got "ok"'),
        ({"$.queue.depth": "< 100"}, None),
        ({"$.queue.depth": "< 5"}, "$.queue.depth must be < 5, got 7"),
        ({"$.queue.depth": ">= 7"}, None),
        ({"$.queue.depth": 7}, None),
        ({"$.queue.depth": "7"}, '$.queue.depth must be "7", got 7'),
        ({"$.n": 1}, None),
        ({"$.flags[0]": True}, None),
        ({"$.flags[0]": 1}, "$.flags[0] must be 1, got true"),
        ({"$.flags[*]": True}, "$.flags[*] must be true, got false"),
        ({"$.none": None}, None),
        ({"$.absent": 1}, "$.absent must be 1, but selects nothing"),
        ({"$.status": "> 3"}, '$.status must be > 3, got "ok"'),
    ],
)
def test_json_values_and_comparisons(rule: dict[str, object], said: str | None) -> None:
    failures = body_failures(http(json=rule).expect, json.dumps(DOCUMENT), truncated=False, limit=1000)
    assert [failure.message for failure in failures] == ([said] if said else [])


def test_every_failed_rule_of_a_body_is_reported() -> None:
    expect = http(
        body={"contains": ["one", "two"], "matches": "^x", "not_contains": "ok"},
        json={"$.status": "bad"},
        json_schema={"required": ["missing"], "properties": {"status": {"type": "integer"}}},
    ).expect
    said = [
        failure.message for failure in body_failures(expect, '{"status": "ok"}', truncated=False, limit=1000)
    ]
    assert said[:4] == [
        'body must contain "one", got "{\\"status\\": \\"ok\\"}"',
        'body must contain "two", got "{\\"status\\": \\"ok\\"}"',
        'body must match "^x", got "{\\"status\\": \\"ok\\"}"',
        'body must not contain "ok", but does',
    ]
    assert said[4] == '$.status must be "bad", got "ok"'
    assert any('"missing" is a required property' in message for message in said)
    assert any("body['status'] must meet the JSON Schema" in message for message in said)


def test_a_body_that_is_no_json_says_so_once() -> None:
    [failure] = body_failures(http(json={"$.a": 1}).expect, "<html>", truncated=False, limit=9)
    assert failure.message == 'body must be JSON, got "<html>" (Expecting value)'


def test_json_nested_past_all_bounds_is_a_failure_not_a_crash() -> None:
    [failure] = body_failures(http(json={"$.a": 1}).expect, "[" * 200_000, truncated=False, limit=9)
    assert failure.message.startswith("body must be JSON")


@pytest.mark.parametrize("function", ["match", "search"])
def test_patterns_in_a_json_path_take_linear_time(function: str) -> None:
    rule = {f"$[?{function}(@, '(.|a)*[0-9]')]": "x"}
    said = messages(http(json=rule), json.dumps(["a" * 5000 + "c"]))
    assert said == [f'{next(iter(rule))} must be "x", but selects nothing']


@pytest.mark.parametrize(
    ("path", "selected"),
    [
        ("$[?match(@, 'a.')]", "ab"),
        ("$[?search(@, 'c\\\\d')]", "abc1"),
        ("$[?match(@, 'b')]", None),
        ("$[?search(@, '[')]", None),
        ("$[?search(@, @)]", "ab"),
    ],
)
def test_patterns_in_a_json_path_are_those_of_everywhere(path: str, selected: str | None) -> None:
    seen = compile_path(path).find(["ab", "abc1", 7, "\ud800"]).values()
    assert seen[:1] == ([selected] if selected else [])


def test_a_large_body_is_told_its_first_violation_of_a_schema_alone() -> None:
    check = http(json_schema={"items": {"type": "string"}})
    few, many = json.dumps([1] * 7), json.dumps([1] * 300_000)
    assert len(messages(check, few)) == 6
    assert messages(check, few)[-1] == "more than 5 violations of the JSON Schema"
    assert messages(check, many) == ['body[0] must meet the JSON Schema: 1 is not of type "string"']


@pytest.mark.parametrize("filler", ["", " " * 10_000])
def test_a_document_too_deep_to_be_quoted_is_a_violation_and_not_a_crash(filler: str) -> None:
    deep = "[" * 800 + "]" * 800 + filler
    [said] = messages(http(json_schema={"type": "object"}), deep)
    assert said.startswith("body must meet the JSON Schema, but does not")
    assert messages(http(json_schema={"type": "array"}), deep) == []


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("^.{1,2000}$", None),
        ("^.{1,20000}$", '"^.{1,20000}$" takes more than 8 MiB to compile'),
        ("((a{1,100}){1,100}){1,100}", '"((a{1,100}){1,100}){1,100}" takes more than 8 MiB to compile'),
        ("(", '"(" is not a "regex"'),
        ("(a{1,3}", '"(a{1,3}" is not a "regex"'),
    ],
)
@pytest.mark.parametrize("place", ["pattern", "patternProperties"])
def test_a_pattern_of_a_schema_is_refused_for_what_is_wrong_with_it(
    place: str, pattern: str, said: str | None
) -> None:
    schema = json.dumps(
        {"pattern": pattern} if place == "pattern" else {"patternProperties": {pattern: True}}
    )
    if said is None:
        assert schema_validator(schema).is_valid("x")
        return
    with pytest.raises(ValueError, match="not a valid JSON Schema") as caught:
        schema_validator(schema)
    assert str(caught.value) == f"not a valid JSON Schema: {said}"


def test_a_counted_text_that_is_no_pattern_is_not_taken_for_one() -> None:
    with pytest.raises(ValueError, match="is not valid under any of the schemas"):
        schema_validator('{"type": "text{1,2}"}')


def test_a_schema_is_never_fetched() -> None:
    with pytest.raises(ValueError, match="Retrieval is disabled"):
        schema_validator('{"$ref": "http://127.0.0.1:1/schema.json"}')


def test_a_truncated_body_is_not_judged() -> None:
    [failure] = body_failures(http(body={"contains": "x"}).expect, "x", truncated=True, limit=1024)
    assert failure.message == "body must be at most 1024 bytes to be judged, is larger"


def test_headers_any_value_will_do_and_a_missing_one_fails() -> None:
    rules = http(
        headers={"Content-Type": {"matches": "^text/"}, "X-A": "1", "X-B": {"contains": "b"}}
    ).expect.headers
    seen = {"content-type": ["text/html"], "x-a": ["2", "1"]}
    assert [failure.message for failure in header_failures(rules, seen)] == [
        "header X-B must be sent, but is missing"
    ]
    assert [
        failure.message for failure in header_failures(rules, {**seen, "x-a": ["2"], "x-b": ["abc"]})
    ] == ['header X-A must equal "1", got "2"']


def test_latency_and_validity_say_what_was_seen() -> None:
    assert latency_failures(timedelta(milliseconds=800), 0.8) == []
    assert (
        latency_failures(timedelta(milliseconds=800), 0.9)[0].message
        == "latency must be at most 800ms, took 900.0ms"
    )
    assert validity_failures(timedelta(days=14), 15 * 86_400) == []
    assert (
        validity_failures(timedelta(days=14), 86_400)[0].message
        == "certificate must be valid for 14d, expires in 1.0d"
    )
    assert validity_failures(timedelta(days=14), -86_400)[0].message == (
        "certificate must be valid for 14d, expired 1.0d ago"
    )
    assert "is not TLS" in validity_failures(timedelta(days=14), None)[0].message


@pytest.mark.parametrize(
    ("rules", "answers", "said"),
    [
        ({"any": "1.2.3.4"}, ["1.1.1.1", "1.2.3.4"], None),
        ({"any": "1.2.3.4"}, ["1.1.1.1"], 'any answer must equal "1.2.3.4", got ["1.1.1.1"]'),
        ({"any": {"matches": "x"}}, [], 'any answer must match "x", got []'),
        ({"all": {"contains": "1."}}, ["1.1", "1.2"], None),
        ({"all": {"contains": "1."}}, ["1.1", "2.2"], 'all answers must contain "1.", got ["1.1", "2.2"]'),
        ({"all": {"contains": "1."}}, [], 'all answers must contain "1.", got []'),
        ({"none": {"contains": "evil"}}, ["good"], None),
        (
            {"none": {"contains": "evil"}},
            ["evil.example"],
            'no answer may contain "evil", got ["evil.example"]',
        ),
    ],
)
def test_dns_answers(rules: dict[str, object], answers: list[str], said: str | None) -> None:
    check = parse_check({"id": "a", "type": "dns", "name": "a", "expect": {"answers": rules}})
    assert isinstance(check, Dns)
    failures = answer_failures(check.expect.answers, answers)
    assert [failure.message for failure in failures] == ([said] if said else [])


def test_a_share_reads_with_and_without_a_percent_sign() -> None:
    for text in ("< 34%", "<34", " < 34 %"):
        check = parse_check({"id": "a", "type": "icmp", "host": "h", "expect": {"loss": text}})
        assert isinstance(check, Icmp)
        assert check.expect.loss.holds(33.3)
        assert not check.expect.loss.holds(34)


def test_who_only_declares_patterns_keeps_none_of_them_compiled() -> None:
    compile_pattern.cache_clear()
    declared = http(body={"matches": [".{200}", ".{201}"]})
    assert compile_pattern.cache_info().currsize == 0
    assert messages(declared, "x" * 300) == []
    assert compile_pattern.cache_info().currsize == 2


def test_a_default_is_the_same_object_for_every_check() -> None:
    plain = [parse_check({"id": name, "type": "http", "url": "http://a/"}) for name in ("a", "b")]
    assert isinstance(plain[0], Http)
    assert isinstance(plain[1], Http)
    assert plain[0].expect is plain[1].expect
