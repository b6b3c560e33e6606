"""Whatever the bytes are, the answer is a place and a message: no crash, no hang, no traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config.conftest import Write, mistakes, read
from watchbill.config import load
from watchbill.config.watch import Watcher
from watchbill.domain.errors import MOST_PROBLEMS, ConfigError, Problem

GOOD = "version: 1\nchecks: {a: {type: icmp, host: x.example}}\n"


def said(path: Path, content: bytes) -> list[str]:
    file = path / "checks.yaml"
    file.write_bytes(content)
    return mistakes(file)


def merge_bomb(depth: int) -> bytes:
    lines = ["version: 1", "a0: &a0 {" + ", ".join(f"k{number}: 1" for number in range(10)) + "}"]
    lines += [
        f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, depth)
    ]
    return "\n".join(lines).encode()


def alias_bomb(depth: int) -> bytes:
    lines = ["version: 1", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, depth)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    "bomb", [b"[" * 50_000, b"{a: " * 50_000, b"- " * 50_000, b"checks: " + b"[" * 50_000, b"? " * 50_000]
)
def test_nesting_past_the_bound_is_one_message(bomb: bytes, tmp_path: Path) -> None:
    found = said(tmp_path, bomb)
    assert len(found) == 1
    assert found[0].endswith("nested more than 100 levels deep")


def test_an_alias_bomb_is_stopped_while_it_is_read(tmp_path: Path) -> None:
    assert said(tmp_path, alias_bomb(10))[0].endswith("aliases and merge keys add more than 500,000 values")


def test_a_merge_key_bomb_costs_nothing(tmp_path: Path) -> None:
    found = said(tmp_path, merge_bomb(8))
    assert len(merge_bomb(8)) < 700
    assert "unknown section `a0`" in found[0] or "aliases and merge keys" in found[0]


def test_many_aliases_of_a_small_thing_are_fine(write: Write) -> None:
    lines = "".join(f"  c{number}: {{<<: *a, host: h{number}.example}}\n" for number in range(2000))
    text = f"version: 1\nchecks:\n  a: &a {{type: icmp, host: x, interval: 1m, labels: {{a: b}}}}\n{lines}"
    assert len(read(write(text)).checks) == 2001


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.encode("utf-16"), "1:1: not UTF-8 but UTF-16; save the file as UTF-8"),
        (GOOD.encode() + b"# \xe4\n", "3:3: not UTF-8; save the file as UTF-8"),
        (GOOD.encode() + b"# \x00\n", "3:3: the control character U+0000 cannot stand in a file"),
        (GOOD.encode() + b"\x1b[31m", "3:1: the control character U+001B cannot stand in a file"),
        (GOOD.encode() + b'x: "\\ud800"', "3:7: not YAML: found invalid Unicode character escape code"),
        (GOOD.encode() + b"# \xed\xa0\x80\n", "3:3: not UTF-8; save the file as UTF-8"),
        (b"\x00" * 10, "1:1: the control character U+0000 cannot stand in a file"),
        (
            b"---\n...\n",
            "1:1: the file is empty; it starts with `version: 1` and has a section such as `checks:`",
        ),
        (b"", "1:1: the file is empty; it starts with `version: 1` and has a section such as `checks:`"),
        (b"%YAML 3.0\n---\n{}", "1:1: not YAML: found incompatible YAML document"),
        (b"\x89PNG\r\n\x1a\n", "1:1: not UTF-8; save the file as UTF-8"),
    ],
)
def test_bytes_that_are_no_text_are_named_with_their_place(
    content: bytes, message: str, tmp_path: Path
) -> None:
    assert said(tmp_path, content) == [f"checks.yaml:{message}"]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()])
def test_a_byte_order_mark_and_windows_line_ends_are_fine(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_bytes(content)
    assert list(read(tmp_path).checks) == ["a"]


@pytest.mark.parametrize("within_a_folder", [True, False])
def test_a_pipe_is_refused_without_waiting_for_a_writer(within_a_folder: bool, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    assert mistakes(tmp_path if within_a_folder else pipe) == ["pipe.yaml:1:1: is not a regular file"]


def test_a_device_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^/dev/zero:1:1: is not a regular file$"):
        load("/dev/zero", environ={})


def test_a_file_of_more_than_ten_megabytes_is_refused(tmp_path: Path) -> None:
    assert said(tmp_path, b"#" * (10 * 1024 * 1024 + 1)) == ["checks.yaml:1:1: is larger than 10 MB"]


def test_all_files_together_are_bounded(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.yaml").write_bytes(
            GOOD.replace("a:", f"a{number}:").encode() + b"#" * 9_000_000
        )
    assert mistakes(tmp_path) == ["5.yaml:1:1: all files together are larger than 50 MB"]


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "self.yaml").symlink_to(tmp_path / "self.yaml")
    assert [line.partition(": ")[0] for line in mistakes(tmp_path)] == ["self.yaml:1:1"]


def test_a_file_that_may_not_be_read_is_a_problem_among_others(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "b.yaml").write_text("version: 2\nchecks: {}")
    assert mistakes(tmp_path) == ["a.yaml:1:1: does not exist", "b.yaml:1:10: version must be 1"]


def test_a_message_is_one_printable_line_of_bounded_length(write: Write) -> None:
    text = f"""\
version: 1
checks:
  "a\\e[31m\\nb": {{type: icmp, host: x}}
  c: {{type: "x\\e[2J\\ny", host: x}}
  d: {{type: icmp, host: x, interval: {"9" * 5000}s}}
"""
    found = mistakes(write(text))
    assert len(found) == 3
    assert all(line.isprintable() and len(line) < 600 for line in found)


NASTY = st.sampled_from(
    [
        *"[]{}:,-?!&*|>'\"%@`#\n\t ~", "<<: *a", "&a ", "${", "${X}", "$$", "\ud7ff", "\U0001f600", "!!int ", "0x", ".inf", "1e999",
        "version: 1\n", "checks:\n", "  a:\n", "    type: http\n", "    url: https://x/\n", "defaults: ", "services: ", "moved: ", "\u2028",
    ]
)  # fmt: skip


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(NASTY, max_size=40).map(lambda parts: "".join(parts).encode()),
        st.lists(NASTY, max_size=15).map(lambda parts: GOOD.encode() + "".join(parts).encode()),
    )
)
def test_no_content_makes_anything_but_a_configuration_or_a_list_of_places(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "checks.yaml"
    file.write_bytes(content)
    problems: tuple[Problem, ...] = ()
    try:
        load(file, environ={"X": "["})
    except ConfigError as error:
        problems = error.problems
    assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in problems)
    assert not any("please report this" in problem.message for problem in problems)


BIG = f", big: [{'y' * 100_000}]"


def each(number: int, *, more: str = "") -> str:
    return f"for_each: {{x: [{', '.join(map(str, range(number)))}]{more}}}"


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            f"{{type: icmp, host: h, {each(9000, more=BIG)}}}",
            "a value of for_each becomes part of an id and has at most 200 characters",
        ),
        (
            f"{{type: icmp, host: h, {each(1000)}, description: '{'${each.x}' * 50_000}'}}",
            "references put more than 1,048,576 characters into this text",
        ),
        (
            f"{{type: icmp, host: h, {each(1000)}, description: '${{each.x}}{'y' * 1_000_000}'}}",
            "for_each, defaults and JSON Schemas add more than 750,000 values to all checks together",
        ),
        (
            f"{{type: icmp, host: h, {each(1000)}, description: '{'${each.x}' * 2000}'}}",
            "all texts with references are longer than 67,108,864 characters together",
        ),
        (
            f"{{type: http, url: 'http://h/', headers: {{{','.join(f'h{n}: x' for n in range(3000))}}}, {each(3000)}}}",
            "for_each, defaults and JSON Schemas add more than 750,000 values to all checks together",
        ),
        (
            f"{{type: icmp, host: h, for_each: {{{', '.join(f'n{n}: [1]' for n in range(21))}}}}}",
            "for_each has more than 20 names",
        ),
        (
            f"{{type: icmp, host: h, labels: {{{', '.join(f'n{n}: a' for n in range(65))}}}}}",
            "labels must have at most 64 items",
        ),
    ],
)
def test_a_small_file_that_stands_for_a_huge_one_is_refused(check: str, message: str, tmp_path: Path) -> None:
    found = said(tmp_path, f"version: 1\nchecks:\n  a: {check}\n".encode())
    assert message in found[-1] or message in found[0]
    assert len(found) <= 3


def test_checks_that_are_wrong_count_as_checks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watchbill.config.checks.MOST_CHECKS", 1_000)
    many = "".join(f"  a{number}: {{type: icmp, for_each: *each}}\n" for number in range(40))
    text = f"version: 1\nchecks:\n  a: {{type: icmp, for_each: &each {{x: {list(range(100))}}}}}\n{many}"
    found = said(tmp_path, text.encode())
    assert sum("more than 1,000 checks" in line for line in found) == 1
    assert sum("`host` is missing" in line for line in found) == 10


def test_names_that_are_nowhere_near_are_not_searched_for_forever(tmp_path: Path) -> None:
    services = ", ".join(f"svc-{'a' * 60}{number}: {{}}" for number in range(1000))
    checks = "".join(
        f"  c{number}: {{type: icmp, host: h, service: svc-{'b' * 50}{number}}}\n" for number in range(3000)
    )
    found = said(tmp_path, f"version: 1\nservices: {{{services}}}\nchecks:\n{checks}".encode())
    assert len(found) == 3000


def test_a_long_chain_of_moves_is_followed_once(write: Write) -> None:
    chain = "".join(f"  m{number}: m{number + 1}\n" for number in range(20_000))
    text = f"version: 1\nchecks: {{a: {{type: icmp, host: h}}}}\nmoved:\n{chain}  m20000: a\n"
    assert len(read(write(text)).moved) == 20_001


def test_a_reference_in_a_reference_is_named(write: Write) -> None:
    path = write('version: 1\nchecks: {a: {type: icmp, host: "${A:-${B}}"}}\n')
    assert mistakes(path) == [
        "checks.yaml:2:32: a ${ holds another brace; a reference cannot stand in a reference"
    ]


def test_a_path_with_a_nul_character_is_no_path() -> None:
    with pytest.raises(ConfigError, match="holds a NUL character"):
        load("a\0b", environ={})


def test_of_very_many_mistakes_the_first_are_told(tmp_path: Path) -> None:
    checks = "".join(f"  c{number}: {{type: icmp, hos: h}}\n" for number in range(6000))
    found = said(tmp_path, f"version: 1\nchecks:\n{checks}".encode())
    assert len(found) in (MOST_PROBLEMS, MOST_PROBLEMS + 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            f"type: icmp, host: h, {','.join(f'k{n}: ' for n in range(1000))}",
            "a check has at most 200 keys, not 1,002",
        ),
        (
            f"type: icmp, host: h, interval: {'1s' * 11}",
            "interval: a duration is a number with a unit, such as 500ms, 30s, 5m, 1h or 7d, got",
        ),
        (
            f"type: http, url: 'http://h/', expect: {{json: {{'$[?{'!' * 990}@.a]': 1}}}}",
            "not a JSONPath that can be followed: it is nested too deeply",
        ),
        (
            "type: http, url: 'http://h/', expect: {json: {'$[?length(@)<1e400]': 1}}",
            "not a JSONPath that can be compared: a number in it is larger than 1e308",
        ),
        (
            f"type: http, url: 'http://h/', expect: {{json: {{? '${'.a' * 2500}' : 1}}}}",
            "a JSONPath has at most 4,096 characters",
        ),
        (
            "type: http, url: 'http://h/', expect: {body: {matches: ["
            + ", ".join(f"'{chr(92)}pL{{40}}{n}'" for n in range(50))
            + "]}}",
            "matches: all patterns and JSON Schemas together take too much to compile; use fewer or simpler ones",
        ),
        (
            "type: http, url: 'http://h/', expect: {json_schema: {allOf: ["
            + ", ".join(f'{{pattern: "(a{{1,{n}}}){{1,90}}$"}}' for n in range(1, 200))
            + "]}}",
            "json_schema: all patterns and JSON Schemas together take too much to compile",
        ),
        (
            "type: heartbeat, every: 1d, token: '${file:" + "a" * 5000 + "}'",
            "cannot be read: File name too long",
        ),
    ],
)
def test_what_would_take_seconds_or_fail_otherwise_is_refused(
    fields: str, message: str, tmp_path: Path
) -> None:
    assert message in said(tmp_path, f"version: 1\nchecks:\n  a: {{{fields}}}\n".encode())[-1]


def test_defaults_are_bounded_by_what_they_add_and_no_check_is_left_out_in_silence(tmp_path: Path) -> None:
    labels = ",".join(f"l{number}: x" for number in range(64))
    checks = "".join(f"  c{number}: {{type: icmp, host: h}}\n" for number in range(6000))
    text = f"version: 1\ndefaults: {{labels: {{{labels}}}}}\nchecks:\n{checks}"
    assert "add more than 750,000 values" in said(tmp_path, text.encode())[-1]


def test_a_long_text_counts_for_more_where_it_is_repeated(tmp_path: Path) -> None:
    text = f"version: 1\nchecks:\n  a: {{type: icmp, host: h, description: &d {'x' * 500_000}}}\n"
    text += "".join(f"  c{number}: {{type: icmp, host: h, description: *d}}\n" for number in range(100))
    assert "aliases and merge keys add more than 500,000 values" in said(tmp_path, text.encode())[-1]


def test_a_schema_file_is_read_once_and_counts_for_each_check_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_text('{"enum": [' + ",".join(map(str, range(15_000))) + "]}")
    schema = "expect: {json_schema: large.json}"
    checks = "".join(f"  c{n}: {{type: http, url: 'http://h/', {schema}}}\n" for n in range(1000))
    assert "JSON Schemas add more than" in said(tmp_path, f"version: 1\nchecks:\n{checks}".encode())[-1]


def test_a_schema_that_is_nested_too_deeply_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text('{"not": ' * 100_000 + "{}" + "}" * 100_000)
    check = "a: {type: http, url: 'http://h/', expect: {json_schema: deep.json}}"
    assert said(tmp_path, f"version: 1\nchecks: {{{check}}}\n".encode()) == [
        "checks.yaml:2:66: json_schema: not a valid JSON Schema: it is nested too deeply"
    ]


@pytest.mark.parametrize(
    ("content", "place"), [("version: 1\nchecks: {", "2:10"), ("version: 1\rchecks: {", "2:10")]
)
def test_a_mistake_at_the_end_stands_where_the_text_ends(content: str, place: str, tmp_path: Path) -> None:
    assert said(tmp_path, content.encode())[-1].startswith(f"checks.yaml:{place}: not YAML")


def test_what_was_found_before_the_yaml_breaks_is_told_too(tmp_path: Path) -> None:
    found = said(tmp_path, b"version: 1\nversion: 1\nchecks: {\n")
    assert [line.partition(": ")[0] for line in found] == ["checks.yaml:2:1", "checks.yaml:4:1"]


def test_links_in_a_circle_are_no_crash_to_whoever_looks_for_changes(tmp_path: Path) -> None:
    file = tmp_path / "checks.yaml"
    file.write_text(GOOD)
    watcher = Watcher(str(file))
    file.unlink()
    file.symlink_to(file)
    assert watcher.changed() is False
    assert watcher.changed() is True
