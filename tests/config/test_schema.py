"""The schema accepts what the loader accepts, completes in an editor, and is the one in the repository."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tests.config.conftest import Write, read
from watchbill.config import load
from watchbill.config.fields import CHECK_MODELS
from watchbill.config.nodes import Node, NotYamlError, Source, compose
from watchbill.config.schema import json_schema, render
from watchbill.domain.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
VALIDATOR = Draft7Validator(json_schema())


def plain(text: str) -> Any:
    """The document as an editor's YAML 1.2 parser sees it."""
    try:
        root, _ = compose(text, Source("x.yaml"))
    except NotYamlError:
        return None
    return _plain(root) if root else None


def _plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {name: _plain(entry.value) for name, entry in node.value.items()}
    return [_plain(item) for item in node.value] if isinstance(node.value, list) else node.value


def complaints(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(plain(text))]


def snippets() -> Iterator[tuple[str, str]]:
    """Every whole configuration in the documentation."""
    for page in PAGES:
        for number, block in enumerate(
            re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        ):
            if re.search(r"^version:", block, re.MULTILINE):
                yield f"{page.name}-{number}", block


SNIPPETS = dict(snippets())


def test_it_is_a_draft_07_schema() -> None:
    Draft7Validator.check_schema(json_schema())
    assert json_schema()["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_the_file_in_the_repository_is_current() -> None:
    assert (ROOT / "schemas/checks.schema.json").read_text(encoding="utf-8") == render()


def test_the_example_is_accepted_and_loads() -> None:
    example = ROOT / "checks.example.yaml"
    text = example.read_text(encoding="utf-8")
    checks = read(example).checks
    assert complaints(text) == []
    assert text.startswith("# yaml-language-server: $schema=schemas/checks.schema.json\n")
    assert {check.type for check in checks.values()} == set(CHECK_MODELS)
    assert max(check.interval.total_seconds() for check in checks.values()) <= 5


@pytest.mark.parametrize("record", ["mx", "MX", "${RECORD:-a}"])
def test_a_record_may_be_written_in_small_letters(record: str, write: Write) -> None:
    text = f'version: 1\nchecks: {{a: {{type: dns, name: shop.example, record: "{record}"}}}}\n'
    assert complaints(text) == []
    read(write(text))


@pytest.mark.parametrize("name", SNIPPETS)
def test_every_configuration_in_the_documentation_loads_and_is_accepted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("checks.yaml").write_text(SNIPPETS[name], encoding="utf-8")
    Path("schemas").mkdir()
    Path("schemas/health.json").write_text("{}", encoding="utf-8")
    for file in ("ca.pem", "client.pem", "client.key"):
        Path(file).write_text("", encoding="utf-8")
    load("checks.yaml", environ={}, resolve_secrets=False)
    assert complaints(SNIPPETS[name]) == []


def test_there_are_configurations_in_the_documentation() -> None:
    assert SNIPPETS


def test_every_key_of_every_object_is_described() -> None:
    def objects(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
        if isinstance(schema, dict):
            for name, child in schema.get("properties", {}).items():
                if isinstance(child, dict):
                    yield f"{path}.{name}", child
            for name, child in schema.items():
                yield from objects(child, f"{path}.{name}")

    silent = [
        path
        for path, child in objects(json_schema())
        if "description" not in child and "$ref" not in child and ".if." not in path
    ]
    assert silent == []


REFERENCES = """\
version: 1
services: {shop: {owner: "${OWNER:-me}"}}
defaults: {interval: "${INTERVAL:-30s}", enabled: "${ON:-true}"}
checks:
  shop:
    type: http
    service: "${SERVICE:-shop}"
    url: "${URL:-https://shop.example/}"
    method: "${METHOD:-GET}"
    follow_redirects: "${FOLLOW:-false}"
    max_redirects: "${REDIRECTS:-3}"
    ip_family: "${FAMILY:-4}"
    labels: {a: "${A:-b}"}
    expect: {status: "${STATUS:-2xx}", latency: "${LATENCY:-1s}", json: {$.a: "${V:-1}"}}
  db: {type: tcp, host: "${HOST:-db.example}", port: "${PORT:-5432}"}
metrics: {probe: "${PROBE:-true}", buckets: ["${LOW:-0.1}", 1]}
limits: {concurrent_probes: "${MOST:-10}"}
"""


def test_references_stand_wherever_text_numbers_and_flags_do(write: Write) -> None:
    config = read(write(REFERENCES))
    assert complaints(REFERENCES) == []
    http, db = config.checks["shop"], config.checks["db"]
    assert http.type == "http"
    assert db.type == "tcp"
    assert (http.follow_redirects, http.max_redirects, http.ip_family, db.port) == (False, 3, 4, 5432)
    assert (config.metrics.buckets, config.limits.concurrent_probes) == ((0.1, 1), 10)


FRAGMENTS: dict[str, list[Any]] = {
    "type": ["http", "tcp", "tls", "dns", "icmp", "heartbeat", "smtp", 1],
    "url": ["https://shop.example/", "http://[::1]:80/", "ftp://x/", "", 5, None],
    "host": ["shop.example", "::1", "http://x/", "", 1, ["a"]],
    "port": [1, 65535, 0, 65536, "80", 1.5, True, None],
    "name": ["shop.example", "", 5],
    "every": ["1h", "0s", "soon", 5],
    "interval": ["1s", "1h30m", "1m", "999ms", "0.5s", "0s", 5, None, ""],
    "enabled": [True, False, "yes", 1, None],
    "labels": [{}, {"a": "b"}, {"a": 1}, {"job": "x"}, {"__a": "x"}, {"a-b": "x"}, [], None],
    "description": ["x", 5, None],
    "service": [None, 5, "Not An Id"],
    "tls": [{}, {"skip_verification": True}, {"skip_verification": "yes"}, {"cert_file": "x"}, {"nope": 1}, None],
    "auth": [{"bearer": "x"}, {}, {"basic": {"username": "u"}}, {"basic": {"username": "u", "password": "p"}}, "x"],
    "headers": [{"X-A": "b"}, {"X A": "b"}, {"X-A": 5}, []],
    "ip_family": [4, 6, 5, "4", None, "prefer-4", "prefer-6", "ip4"],
    "source_address": ["127.0.0.1", "::1", "fe80::1%eth0", "127.1", "lo", "", None, 5],
    "method": ["GET", "post", "PATCH", "delete", "G1", 5],
    "http2": [True, False, "yes"],
    "connection": ["new", "reuse", "keep", None],
    "unix_socket": ["/run/app.sock", "app.sock", "", None, 5],
    "proxy": [
        "http://proxy.test:3128", "socks5h://u:p%40w@[::1]:1080", "SOCKS5://proxy.test:1080/", "http://proxy.test", "ftp://proxy.test:21",
        "http://proxy.test:3128/path", "proxy.test:3128", "http://proxy.test:0", "", None, 5, {}, {"url": "https://proxy.test:1"},
        {"url": "http://proxy.test:1", "username": "u", "password": "p"}, {"url": "http://proxy.test:1", "password": "p"},
        {"url": "http://proxy.test:1", "user": "u"},
    ],
    "resolver": ["127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:53", "dns.test", "a/b", "", None, 5],
    "count": [1, 20, 0, 21, 1.5],
    "record": ["A", "MX", "XX", 5],
    "transport": ["udp", "tcp", "tls", "https", "quic"],
    "packet_interval": ["10ms", "0s", 5],
    "server": [
        "9.9.9.9", "dns.example:53", "a/b", 5, None, "https://dns.example", "https://[::1]:8443/a/b", "http://dns.example/",
        "https://u:p@dns.example/", "https://dns.example/?dns=x",
    ],
    "expect": [
        {}, None, [], {"latency": "1s"}, {"latency": 1}, {"status": 200}, {"status": ["2xx", "200-204"]}, {"status": 600},
        {"status": []}, {"status": "2x"}, {"body": {"contains": "x"}}, {"body": {"contains": ["x", ""]}}, {"body": "x"},
        {"json": {"$.a": 1}}, {"json": {"a": 1}}, {"json": {}}, {"json": {"$.a": [1]}}, {"headers": {"a": "b"}},
        {"headers": {"a": {"equals": "b"}}}, {"headers": {"a": 1}}, {"loss": "< 10%"}, {"loss": 10}, {"loss": "10"},
        {"verified": False}, {"verified": "no"}, {"names": "a"}, {"names": []}, {"rcode": "NXDOMAIN"}, {"rcode": "NX"},
        {"answers": {"any": "x"}}, {"answers": {"some": "x"}}, {"answers": {"all": {"matches": "x"}}}, {"response": {"equals": "x"}},
        {"json_schema": {"type": "object"}}, {"json_schema": 5}, {"certificate_valid_for": "14d"},
    ],
    "for_each": [{"a": ["x", 1, True]}, {"a": []}, {"a": "x"}, {}, [], {"a b": ["x"]}, {"a": [None]}],
    "nope": [1],
}  # fmt: skip


@st.composite
def declared_checks(draw: st.DrawFn) -> dict[str, Any]:
    """A check of some type with what it needs, and then a few keys that may be right or wrong."""
    kind = draw(st.sampled_from(sorted(CHECK_MODELS)))
    needed = {"http": ["url"], "dns": ["name"], "heartbeat": ["every"], "tcp": ["host", "port"]}.get(
        kind, ["host"]
    )
    check: dict[str, Any] = {"type": kind, **{key: FRAGMENTS[key][0] for key in needed}}
    for key in draw(st.lists(st.sampled_from(sorted(FRAGMENTS)), max_size=3, unique=True)):
        check[key] = draw(st.sampled_from(FRAGMENTS[key]))
    return check


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(check=declared_checks())
@example(check={"type": "icmp", "host": "a", "source_address": "fe80::1%eth0"})
def test_the_schema_and_the_loader_agree(check: dict[str, Any], write: Write) -> None:
    text = json.dumps({"version": 1, "checks": {"a": check}})
    try:
        read(write(text))
    except ConfigError as error:
        said = str(error)
    else:
        said = ""
    assert bool(complaints(text)) == bool(said), (said, complaints(text))
