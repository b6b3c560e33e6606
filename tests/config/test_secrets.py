"""References get their values, and secrets stay out of everything that is shown."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from tests.config.conftest import Write, mistakes, read
from watchbill.config import load
from watchbill.domain.checks import Check, Http, Tcp, target_of
from watchbill.domain.config import config_digest
from watchbill.domain.specs import masked_spec, redactions, sealed_spec, spec_of

CANARY = "canary-b3a1"


def one(text: str, write: Write, **environ: str) -> Check:
    return read(write(f"version: 1\nchecks:\n  a: {text}\n"), environ).checks["a"]


def http(write: Write, rest: str, **environ: str) -> Http:
    check = one(f"{{type: http, {rest}}}", write, **environ)
    assert isinstance(check, Http)
    return check


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${NAME}", "value"),
        ("a${NAME}b${NAME}c", "avaluebvaluec"),
        ("${NAME:-x}", "value"),
        ("${NONE:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$value"),
        ("a$", "a$"),
        ("$NAME", "$NAME"),
        ("${NESTED}", "${NAME}"),
        ("${YAML}", "a: [b"),
    ],
)
def test_references_are_resolved_once_after_parsing(written: str, meant: str, write: Write) -> None:
    environ = {"NAME": "value", "EMPTY": "", "NESTED": "${NAME}", "YAML": "a: [b"}
    assert one(f'{{type: icmp, host: x, description: "{written}"}}', write, **environ).description == meant


def test_a_file_is_read_without_its_last_line_break(write: Write, tmp_path: Path) -> None:
    for name, content in (("a", "s3cret\n"), ("b", "s3cret\r\n"), ("c", "s3cret\n\n"), ("d", "s3cret")):
        (tmp_path / name).write_text(content, newline="")
    body = "-".join(f"${{file:{tmp_path}/{name}}}" for name in "ab") + "${file:c}${file:d}"
    check = http(write, f"url: 'https://x/', body: '{body}'")
    assert check.body is not None
    assert check.body.get_secret_value() == "s3cret-s3crets3cret\ns3cret"


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "large", "not text"])
def test_a_file_that_is_no_secret_is_a_problem_and_never_waited_for(
    kind: str, write: Write, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "large":
        path.write_bytes(b"x" * (64 * 1024 + 1))
    elif kind == "not text":
        path.write_bytes(b"\xff\xfe")
    said = {
        "missing": "does not exist",
        "folder": "is not a regular file",
        "fifo": "is not a regular file",
        "large": "is larger than 64 KiB",
        "not text": "is not UTF-8 text",
    }[kind]
    text = 'version: 1\nchecks:\n  a: {type: tcp, host: x, port: 1, send: "${file:secret}"}\n'
    assert mistakes(write(text))[0].endswith(f"the file of ${{file:secret}} {said}")


def test_a_missing_reference_causes_no_second_message(write: Write) -> None:
    text = 'version: 1\nchecks:\n  a: {type: tcp, host: "${HOST}", port: "${PORT}", interval: "${EVERY}", expect: {latency: "${MOST}"}}\n'
    assert [line.split("variable ")[1].split(" ")[0] for line in mistakes(write(text))] == [
        "HOST",
        "PORT",
        "EVERY",
        "MOST",
    ]


def test_secret_by_name_by_file_and_by_field(write: Write, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("from-a-file")
    check = http(
        write,
        "url: 'https://x/${PLACE}?k=${API_KEY}', headers: {X-A: '${PLAIN}', X-B: 'Bearer ${PLAIN}', X-C: 'pre-${PLAIN}'}, "
        "expect: {body: {contains: ['${file:f}', '${PLACE}']}}",
        PLACE="here-it-is",
        API_KEY="key-value",
        PLAIN="plain-value",
    )
    assert check.references == {
        "url": "https://x/here-it-is?k=${API_KEY}",
        "headers.X-A": "${PLAIN}",
        "headers.X-B": "Bearer ${PLAIN}",
        "headers.X-C": "(secret)${PLAIN}",
        "expect.body.contains.0": "${file:f}",
    }
    assert [secret.get_secret_value() for secret in check.interpolated] == [
        "from-a-file",
        "key-value",
        "plain-value",
    ]


@pytest.mark.parametrize(
    ("url", "environ", "user", "password", "shown"),
    [
        ("https://u:${PW}@x/p", {"PW": "a/b@c:d?e#f%20"}, "u", "a/b@c:d?e#f%20", ("(secret)", "${PW}")),
        ("https://${WHO}:${PW}@x/p", {"PW": "p", "WHO": "w"}, "w", "p", ("${WHO}", "${PW}")),
        ("https://${PAIR}@x/p", {"PAIR": "u:p"}, "u", "p", ("${PAIR}", "(secret)")),
        ("https://u:lit%40eral@x/p", {}, "u", "lit@eral", ("(secret)", None)),
        ("${WHOLE}", {"WHOLE": "https://u:p@x/p"}, "u", "p", ("${WHOLE}", "${WHOLE}")),
    ],
)
def test_userinfo_of_a_url_is_a_secret_and_cannot_end_early(
    url: str, environ: dict[str, str], user: str, password: str, shown: tuple[str, str | None], write: Write
) -> None:
    check = http(write, f"url: '{url}'", **environ)
    assert check.auth is not None
    assert check.auth.basic is not None
    assert (check.url, check.auth.basic.username, check.auth.basic.password.get_secret_value()) == (
        "https://x/p",
        user,
        password,
    )
    told = (check.references["auth.basic.username"], check.references.get("auth.basic.password"))
    assert told[0] == shown[0]
    assert told[1] in (shown[1], "")


@pytest.mark.parametrize(
    ("proxy", "environ", "password", "shown"),
    [
        (
            "'http://u:${PW}@proxy.test:3128'",
            {"PW": "a/b@c:d"},
            "a/b@c:d",
            {"url": "http://proxy.test:3128", "username": "(secret)", "password": "${PW}"},
        ),
        (
            "'socks5://u:literal@proxy.test:1'",
            {},
            "literal",
            {"url": "socks5://proxy.test:1", "username": "(secret)", "password": "(secret)"},
        ),
        (
            "{url: 'http://u:${PW}@proxy.test:3128'}",
            {"PW": "p/w"},
            "p/w",
            {"url": "http://proxy.test:3128", "username": "(secret)", "password": "${PW}"},
        ),
        (
            "{url: 'http://proxy.test:3128', username: u, password: '${PW}'}",
            {"PW": "p/w"},
            "p/w",
            {"url": "http://proxy.test:3128", "username": "u", "password": "${PW}"},
        ),
        (
            "'${WHOLE}'",
            {"WHOLE": "http://u:p@proxy.test:3128"},
            "p",
            {"url": "http://proxy.test:3128", "username": "${WHOLE}", "password": "${WHOLE}"},
        ),
        (
            "'http://${PROXY_TOKEN}.test:3128'",
            {"PROXY_TOKEN": "hidden-host"},
            "",
            {"url": "http://${PROXY_TOKEN}.test:3128"},
        ),
    ],
)
def test_the_credentials_of_a_proxy_are_secret_and_its_place_is_shown(
    proxy: str, environ: dict[str, str], password: str, shown: dict[str, str], write: Write
) -> None:
    check = http(write, f"url: 'https://x/', proxy: {proxy}", **environ)
    assert check.proxy is not None
    assert (check.proxy.credentials or ("", ""))[1] == password
    assert masked_spec(check)["proxy"] == shown
    assert "proxy" not in target_of(check)


EVERYWHERE = """\
  a:
    type: http
    url: "https://user:${%(n)s}@x.example/${%(n)s}?q=${%(n)s}"
    method: POST
    headers: {X-A: "${%(n)s}", Authorization: "Bearer ${%(n)s}"}
    proxy: {url: "http://${%(n)s}.example:3128", username: "${%(n)s}", password: "${%(n)s}"}
    body: '{"password": "${%(n)s}"}'
    expect:
      body: {contains: "${%(n)s}", equals: "${%(n)s}", not_contains: ["x${%(n)s}"], matches: "${%(n)s}"}
      headers: {a: "${%(n)s}", b: {matches: "x${%(n)s}"}}
      json: {$.a: "${%(n)s}"}
      json_schema: {const: "${%(n)s}"}
  b: {type: http, url: "https://x.example/", auth: {bearer: "${%(n)s}"}}
  c: {type: tcp, host: "${%(n)s}.example", port: 1, send: "${%(n)s}", expect: {response: {equals: "${%(n)s}"}}}
  d: {type: dns, name: "${%(n)s}.example", server: "${%(n)s}.example", expect: {answers: {any: "${%(n)s}"}}}
  e: {type: heartbeat, every: 1h, token: "${%(n)s}"}
  f: {type: tls, host: "${%(n)s}.example", tls: {server_name: "${%(n)s}.example"}, expect: {names: "${%(n)s}.example"}}
  g: {type: icmp, host: "${%(n)s}.example"}
  h: {type: http, url: "https://x.example/", proxy: "socks5h://u:${%(n)s}@proxy.example:1080"}
"""


@pytest.mark.parametrize("name", ["API_TOKEN", "file:secret"])
def test_no_secret_in_anything_that_is_made_of_a_check(name: str, write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CANARY)
    config = read(write("version: 1\nchecks:\n" + EVERYWHERE % {"n": name}), {"API_TOKEN": CANARY})
    assert len(config.checks) == 8
    for check in config.checks.values():
        told = [masked_spec(check), sealed_spec(check, lambda _: "sealed"), spec_of(check), target_of(check)]
        assert CANARY not in repr(told), check.id
        assert CANARY in redactions(check), check.id
    assert CANARY in pickle.loads(pickle.dumps(config)).checks["a"].body.get_secret_value()


@pytest.mark.parametrize(
    "rest",
    [
        "type: icmp, host: '${TOKEN}/x'",
        "type: icmp, host: x, interval: '${TOKEN}'",
        "type: icmp, host: x, count: '${TOKEN}'",
        "type: icmp, host: x, enabled: '${TOKEN}'",
        "type: icmp, host: x, ip_family: '${TOKEN}'",
        "type: icmp, host: x, expect: {loss: '${TOKEN}'}",
        "type: http, url: '${TOKEN}'",
        "type: http, url: 'https://x/', proxy: '${TOKEN}'",
        "type: http, url: 'https://x/', proxy: 'http://u:${TOKEN}@x:port'",
        "type: http, url: 'https://x/', proxy: 'http://u:canary-b3a1@x'",
        "type: http, url: 'https://x/', proxy: 'ftp://u:canary-b3a1@x:21'",
        "type: http, url: 'https://x/', proxy: {url: 'http://x:1', password: canary-b3a1}",
        "type: http, url: 'https://x/', unix_socket: '${TOKEN}'",
        "type: http, url: 'https://x/', source_address: '${TOKEN}'",
        "type: http, url: 'https://x/', resolver: '${TOKEN}'",
        "type: http, url: 'https://u:${TOKEN}@'",
        "type: http, url: 'https://u@x:${TOKEN}/'",
        "type: http, url: 'https://x/', expect: {body: {matches: '(${TOKEN}'}}",
        "type: http, url: 'https://x/', expect: {status: '${TOKEN}'}",
        "type: http, url: 'https://x/', expect: {json_schema: '${TOKEN}'}",
        "type: http, url: 'https://x/', tls: {ca_file: '${TOKEN}'}",
        "type: http, url: 'https://x/', headers: {a: \"${TOKEN}\\n\"}",
        "type: http, url: 'https://x/', method: '${TOKEN}'",
        "type: dns, name: x, record: '${TOKEN}'",
        "type: dns, name: x, server: '${TOKEN}/'",
        "type: icmp, host: x, service: '${TOKEN}'",
        "type: icmp, host: x, for_each: {a: ['${TOKEN}']}",
        "type: http, url: 'https://u:canary-b3a1@x:port/'",
        "type: http, url: 'ftp://u:canary-b3a1@x/'",
        "type: http, url: 'https://u:canary-b3a1/x@y/'",
        "type: http, url: 'https://x/', auth: {basic: {username: u, pasword: canary-b3a1}}",
        "type: http, url: 'https://x/', headers: {a: [canary-b3a1]}",
        "type: http, url: 'https://x/', headers: {a: \"canary-b3a1\\n\"}",
        "type: heartbeat, every: 1h, token: {canary: canary-b3a1}",
    ],
)
def test_no_secret_in_an_error(rest: str, write: Write) -> None:
    found = mistakes(write(f"version: 1\nservices: {{}}\nchecks:\n  a: {{{rest}}}\n"), {"TOKEN": CANARY})
    assert found
    assert CANARY not in "\n".join(found)


def test_a_secret_in_a_default_or_an_option_is_refused_without_its_value(write: Write) -> None:
    found = mistakes(
        write("version: 1\nstorage: {keep: '${TOKEN}'}\ndefaults: {description: '${TOKEN}'}\nchecks: {}"),
        {"TOKEN": CANARY},
    )
    assert len(found) >= 2
    assert CANARY not in "\n".join(found)


def test_without_secrets_everything_validates_and_shows_its_references(write: Write) -> None:
    config = read(write("version: 1\nchecks:\n" + EVERYWHERE % {"n": "API_TOKEN"}), resolve_secrets=False)
    resolved = read(write("version: 1\nchecks:\n" + EVERYWHERE % {"n": "API_TOKEN"}), {"API_TOKEN": CANARY})
    assert config.checks.keys() == resolved.checks.keys()
    different = [
        name
        for name, check in config.checks.items()
        if masked_spec(check) != masked_spec(resolved.checks[name])
    ]
    assert different == []
    assert config_digest(config) == config_digest(resolved)


def test_without_secrets_numbers_flags_and_durations_validate_too(write: Write) -> None:
    text = """\
version: 1
defaults: {interval: "${EVERY}", enabled: "${ON}"}
limits: {concurrent_probes: "${MOST}", min_interval: "${LEAST}"}
checks:
  a: {type: tcp, host: "${HOST}", port: "${PORT}", ip_family: "${FAMILY}", timeout: "${TIMEOUT}"}
  b: {type: http, url: "${URL}", max_body_bytes: "${BYTES}", tls: {ca_file: "${CA}"}, expect: {status: "${STATUS}", json_schema: "${SCHEMA}"}}
  c: {type: dns, name: "${NAME}", record: "${RECORD}", transport: "${TRANSPORT}", expect: {rcode: "${RCODE}"}}
  d: {type: icmp, host: "${HOST}", count: "${COUNT}", expect: {loss: "${LOSS}"}}
"""
    config = read(write(text), resolve_secrets=False)
    tcp = config.checks["a"]
    assert isinstance(tcp, Tcp)
    shown = masked_spec(tcp)
    assert {key: shown[key] for key in ("host", "port", "timeout")} == {
        "host": "${HOST}",
        "port": "${PORT}",
        "timeout": "${TIMEOUT}",
    }
    assert len(config.checks) == 4


def test_a_number_that_came_from_a_secret_is_not_shown(write: Write) -> None:
    check = one('{type: tcp, host: x, port: "${SECRET_PORT}"}', write, SECRET_PORT="54321")
    assert isinstance(check, Tcp)
    assert check.port == 54321
    assert (masked_spec(check)["port"], target_of(check)) == ("${SECRET_PORT}", "x:${SECRET_PORT}")


def test_the_digest_of_two_checkouts_of_one_repository_is_the_same(tmp_path: Path) -> None:
    digests = set()
    for place in ("one", "another/deeper"):
        (tmp_path / place / "tls").mkdir(parents=True)
        (tmp_path / place / "tls/ca.pem").touch()
        text = "version: 1\nchecks: {a: {type: tls, host: x, tls: {ca_file: ca.pem}}}\n"
        (tmp_path / place / "tls/checks.yaml").write_text(text, encoding="utf-8")
        digests.add(load(tmp_path / place, environ={}).digest)
    assert len(digests) == 1
