"""Valid configurations: those of the repository, and others made up by walking the JSON Schema, so that no key is left out."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from watchbill.config.constraints import REFERENCE
from watchbill.config.schema import json_schema

Tree: TypeAlias = Any
"""A document as mappings, lists and scalars."""
Documents: TypeAlias = dict[str, Tree]

ROOT = Path(__file__).parents[2]
HOSTS = (
    "127.0.0.1",
    "localhost",
    "::1",
    "127.0.0.2",
    "shop.example",
    "münchen.example",
    "xn--mnchen-3ya.example",
)
SECRETS = (
    "${TOKEN}",
    "${API_PASSWORD}",
    "${file:secret.txt}",
    "canary-literal-9d2e",
    "Bearer ${TOKEN}",
    "plain",
)
TEXTS = (
    "ok",
    "Welcome, Jürgen",
    "a\nb",
    "\u202eright to left",
    "x\u2028y",
    'quote " and \\ back',
    "🙂",
    "{{ no }}",
    "",
)
PATTERNS = ("v\\d+", "^a.*b$", "(?i)ok", "\\pL{2,5}", "[^\\x00]", "a{0,100}")
VALUES: Mapping[str, Sequence[Any]] = {
    "interval": ("5s", "30s", "1m", "1m30s", "1h", "7d", "10s"),
    "timeout": ("500ms", "1s", "2.5s", "5s"),
    "latency": ("800ms", "1s", "0.5s"),
    "certificate_valid_for": ("14d", "21d", "3650d"),
    "every": ("24h", "5m", "1d"),
    "grace": ("1h", "1m"),
    "packet_interval": ("10ms", "50ms"),
    "keep": ("30d", "1h", "3660d"),
    "min_interval": ("1s", "2s", "5s"),
    "description": TEXTS,
    "owner": TEXTS,
    "runbook": ("https://runbooks.example/shop", *TEXTS),
    "url": ("http://127.0.0.1:9/", "https://localhost/x?y=1#z", "http://[::1]:8080/", "HTTP://127.0.0.1", "https://shop.example/a%20b",
            "http://user:canary-literal-9d2e@127.0.0.1:9/", "http://${TOKEN}@localhost:9/", "https://a:${API_PASSWORD}@127.0.0.1:9/x"),
    "method": ("GET", "post", "HEAD", "PURGE", "M-SEARCH"),
    "host": HOSTS,
    "server_name": ("shop.example", "localhost"),
    "port": (1, 9, 443, 8443, 65535),
    "body": SECRETS,
    "send": SECRETS,
    "token": SECRETS,
    "bearer": SECRETS,
    "password": SECRETS,
    "username": ("probe", "${USER_NAME:-probe}", "jürgen"),
    "ca_file": ("ca.pem",),
    "cert_file": ("ca.pem",),
    "key_file": ("key.pem",),
    "unix_socket": ("/run/app.sock", "/tmp/none.sock"),
    "source_address": ("127.0.0.1", "::1"),
    "resolver": ("127.0.0.1:53", "127.0.0.1", "[::1]:5353"),
    "server": ("127.0.0.1", "127.0.0.1:5353", "localhost"),
    "name": ("shop.example", "localhost.", "127.0.0.1", "_sip._tcp.shop.example", "*.shop.example"),
    "loss": ("< 34%", "== 0", "<= 50.5 %"),
    "json_schema": ("schema.json", {"type": "object", "properties": {"a": {"$ref": "#/definitions/x"}}, "definitions": {"x": {"type": "number"}}}),
    "status": (200, "2xx", [200, "3xx", "400-404"], ["1xx"]),
    "buckets": ([0.1, 1], [0.005, 0.5, 5.0, 60], [1]),
    "matches": (*PATTERNS, [PATTERNS[0], PATTERNS[1]]),
    "contains": ("Welcome", ["a", "b"]),
    "not_contains": ("Fatal", ["x"]),
    "equals": ("220 ready", ""),
    "names": ("shop.example", ["a.example", "*.b.example"]),
    "service": ("shop", "mail"),
    "availability": ("99%", 99, "99.9%", 95.5, "50 %"),
    "objective": ("99%", 90),
    "within": ("500ms", "1s", "0.1s"),
    "window": ("30d", "7d", "90d", "28d"),
    "proxy": ("http://127.0.0.1:3128", "socks5h://user:canary-literal-9d2e@localhost:1080", {"url": "http://127.0.0.1:3128"}, {"url": "https://127.0.0.1:3129", "ca_file": "ca.pem"}),
}  # fmt: skip
KEYS: Mapping[str, Sequence[str]] = {
    "labels": ("env", "team", "Zone_2", "_x", "a" * 60),
    "headers": ("Accept", "X-Api-Key", "Authorization", "x-y_z", "Content-Type"),
    "json": ("$.status", "$.queue.depth", "$..a", "$[?@.b > 1]", "$['x y']", "$[0:5:2]", "$"),
    "for_each": ("region", "port", "_n"),
    "services": ("shop", "mail"),
    "match": ("check", "type", "env"),
}
MAPPED: Mapping[str, Sequence[Any]] = {
    "labels": ("prod", "eu-west", *TEXTS),
    "match": ("shop-home", ["http", "tcp", "tls", "dns", "icmp"], "prod"),
    "json": ("ok", "< 100", 5, 1.5, True, None, "!= 0"),
    "for_each": (["eu", "us"], [1, 2, 3], ["a"], [True], ["x-1", "y.2", "z_3"], [0.5]),
}
TYPES = ("http", "tcp", "tls", "dns", "icmp", "heartbeat")


@cache
def schema() -> Mapping[str, Any]:
    return json_schema()


def configuration(chance: Random) -> Documents:
    """A made-up configuration of one to three files, most often a valid one."""
    root: dict[str, Any] = {"version": 1}
    for section in ("defaults", "storage", "metrics", "limits"):
        if chance.random() < 0.3:
            root[section] = _value(schema()["properties"][section], section, chance)
    root["services"] = {name: _value(_definition("service"), name, chance) for name in KEYS["services"]}
    root["checks"] = {check_id: check(chance) for check_id in _ids(chance)}
    if chance.random() < 0.2:
        first = next(iter(root["checks"]))
        root["moved"] = {"gone": first, "older": "gone"} if chance.random() < 0.5 else {"gone": first}
    if chance.random() < 0.3:
        root["slos"] = {"shop": _objective(root["checks"], chance)}
    if chance.random() < 0.2:
        root["otlp"] = _export(chance)
    if chance.random() < 0.3:
        root["discover"] = {"pods": _block(chance)}
    _unclashed(root)
    return _spread(root, chance)


RULES = (
    {"source_labels": ["__meta_env"], "regex": "(prod|dev)", "action": "keep"},
    {"source_labels": ["__address__"], "regex": "(.*):.*", "target_label": "host", "replacement": "${1}"},
    {"regex": "__meta_label_(.+)", "action": "labelmap"},
    {"source_labels": "a", "separator": "/", "target_label": "shard", "modulus": 7, "action": "hashmod"},
)
SOURCES = (
    {"file_sd": {"files": ["targets/*.json", "a.yml"], "refresh": "1m"}},
    {
        "http_sd": {
            "url": "https://127.0.0.1/targets", "refresh": "10s", "timeout": "5s", "headers": {"X-A": "b"}, "auth": {"bearer": "x"},
            "tls": {"server_name": "localhost"},
        }
    },
    {"dns_sd": {"names": ["_http._tcp.localhost"], "type": "SRV", "refresh": "1m", "resolver": "127.0.0.1:53"}},
    {"dns_sd": {"names": ["localhost"], "type": "A", "port": 80}},
    {"kubernetes_sd": {"role": "ingress", "namespaces": ["shop"], "own_namespace": True, "label_selector": "a=b"}},
    {
        "kubernetes_sd": {
            "role": "probe", "field_selector": "metadata.name=a", "api_server": "https://127.0.0.1:6443", "token_file": "/run/token",
            "tls": {"skip_verification": True},
        }
    },
)  # fmt: skip


def _block(chance: Random) -> dict[str, Any]:
    template = check(chance)
    template.pop("for_each", None)
    block: dict[str, Any] = {**chance.choice(SOURCES), "check": template}
    if chance.random() < 0.5:
        block["relabel"] = chance.sample(RULES, chance.randint(1, 4))
    if chance.random() < 0.3:
        block["mass_delete"] = chance.choice(("allow", "refuse"))
    if chance.random() < 0.3:
        block["id"] = "${each.__address__}-${each.port:-80}"
    return block


def check(chance: Random) -> dict[str, Any]:
    kind = chance.choice(TYPES)
    made = {
        "type": kind,
        **_mapping(_definition(f"check_{kind}"), chance, likely=chance.choice((0.1, 0.3, 0.7))),
    }
    made["type"] = kind
    _possible(made, chance)
    if "for_each" in made and chance.random() < 0.8:
        name = next(iter(made["for_each"]))
        made["description"] = f"of ${{each.{name}}} $${{literal}}"
        made.setdefault("labels", {})["each"] = f"${{each.{name}}}"
    return made


def _export(chance: Random) -> dict[str, Any]:
    possible: dict[str, Any] = {
        "headers": {"Authorization": chance.choice(("Bearer ${TOKEN}", "literal"))},
        "tls": {"ca_file": "ca.pem"},
        "interval": chance.choice(("1s", "1m", "1h30m")),
        "timeout": chance.choice(("1s", "5m")),
        "compression": chance.choice(("gzip", "none")),
        "resource": {"deployment.environment.name": "prod", "service.name": "x"},
        "metrics": True,
        "traces": chance.choice((True, False, {"sample": "0.1%"}, {"sample": 50})),
    }
    endpoint = chance.choice(("http://127.0.0.1:4318", "https://collector.test/base/", "http://[::1]:4318"))
    return {"endpoint": endpoint, **{key: value for key, value in possible.items() if chance.random() < 0.4}}


def _objective(checks: Mapping[str, Any], chance: Random) -> dict[str, Any]:
    """Mostly of checks that are there, and mostly one that their intervals can resolve."""
    made = _mapping(_definition("slo"), chance)
    if "latency" in made:  # to a check, the same word is a duration
        one = _mapping(_definition("LatencyObjective"), chance)
        made["latency"] = one if chance.random() < 0.5 else [one]
    if chance.random() < 0.9:
        made.pop("service", None)
        made["match"] = {"type": [*TYPES]}
        made.setdefault("availability", "99%")
    elif chance.random() < 0.5:
        made.pop("match", None)
    for each in checks.values() if chance.random() < 0.9 else ():
        each["interval"] = "30s"
    return made


def corpus() -> list[Documents]:
    return _corpus()[:]


@cache
def _corpus() -> list[Documents]:
    """What is text already: the example, the documentation's, and the files of tests, wrong ones among them."""
    texts = [(ROOT / "checks.example.yaml").read_text(encoding="utf-8")]
    for page in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]:
        texts += [
            block
            for block in re.findall(
                r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
            )
            if re.search(r"^version:", block, re.MULTILINE)
        ]
    texts += [
        file.read_text(encoding="utf-8") for file in sorted((ROOT / "tests/config/invalid").glob("*.yaml"))
    ]
    return [{"checks.yaml": text} for text in texts]


def _definition(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema()["definitions"][name]
    return found


def _ids(chance: Random) -> list[str]:
    names = ["shop-home", "db", "a", "0", "x.y_z-1", "b" * 190]
    return chance.sample(names, chance.choice((1, 1, 2, 4)))


def _value(rule: Mapping[str, Any], key: str, chance: Random) -> Any:
    if key in VALUES and chance.random() < 0.98:
        return copy.deepcopy(chance.choice(VALUES[key]))
    if "$ref" in rule:
        return _value(_definition(rule["$ref"].rpartition("/")[2]), key, chance)
    if "anyOf" in rule:
        free = [branch for branch in rule["anyOf"] if branch != REFERENCE]
        return _value(chance.choice(free), key, chance) if chance.random() < 0.99 else "${UNSET:-x}"
    if "const" in rule or "enum" in rule:
        return chance.choice(rule.get("enum") or [rule["const"]])
    match rule.get("type"):
        case "object":
            return _mapping(rule, chance, key=key)
        case "array":
            return [_value(rule["items"], key, chance) for _ in range(chance.choice((1, 1, 2)))]
        case "integer" | "number":
            return chance.choice((rule.get("minimum", 1), rule.get("maximum", 9), rule.get("minimum", 1) + 1))
        case "boolean":
            return chance.random() < 0.5
        case "null":
            return None
        case _:
            return "${UNSET:-x}" if "pattern" in rule else chance.choice(TEXTS)


def _mapping(
    rule: Mapping[str, Any], chance: Random, *, key: str = "", likely: float = 0.5
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, inner in rule.get("properties", {}).items():
        if name in rule.get("required", ()) or chance.random() < likely:
            made[name] = _value(inner, name, chance)
    if not made and isinstance(rule.get("additionalProperties"), dict) and key in KEYS:
        for name in chance.sample(KEYS[key], chance.choice((1, 1, 2))):
            values = MAPPED.get(key)
            made[name] = (
                copy.deepcopy(chance.choice(values))
                if values
                else _value(rule["additionalProperties"], name, chance)
            )
    return made


def _possible(made: dict[str, Any], chance: Random) -> None:
    """Take out, mostly, what cannot stand together."""
    if chance.random() < 0.05:
        return
    if made.get("unix_socket") is not None:
        others = ("proxy", "ip_family", "source_address", "resolver")
        for name in (*others, *(("host", "port") if made["type"] == "tcp" else ())):
            made.pop(name, None)
    elif made["type"] == "tcp":
        made.update(host="127.0.0.1", port=9)
    if made.get("connection") == "reuse":
        made.pop("method", None)
    if "source_address" in made:
        made.pop("ip_family", None)
    if made["type"] == "dns" and made.get("transport") in ("tls", "https"):
        made["server"] = "127.0.0.1"
    elif made["type"] == "dns":
        made.pop("tls", None)
        made.get("expect", {}).pop("certificate_valid_for", None)
    for options in (made.get("tls"), made.get("proxy")):
        if isinstance(options, dict):
            _paired(options)
    if "@" in str(made.get("url")):
        made.pop("auth", None)
    elif isinstance(made.get("auth"), dict):
        made["auth"] = (
            {"basic": {"username": "probe", "password": "${TOKEN}"}}
            if chance.random() < 0.5
            else {"bearer": "${TOKEN}"}
        )
    if made.get("packet_interval"):
        made.update(count=2, timeout="1s")


def _paired(options: dict[str, Any]) -> None:
    if "cert_file" in options or "key_file" in options:
        options.update(cert_file="ca.pem", key_file="key.pem")
    if "password" in options:
        options["username"] = "probe"


def _unclashed(root: dict[str, Any]) -> None:
    shortest = root.get("limits", {}).get("min_interval")
    for made in root["checks"].values():
        if shortest == "5s" and made.get("interval", "5s") == "5s":
            made["interval"] = "30s"


def _spread(root: dict[str, Any], chance: Random) -> Documents:
    """In one file, or over several of a folder."""
    if chance.random() < 0.8:
        return {"checks.yaml": root}
    checks, defaults = root.pop("checks"), root.pop("defaults", {"timeout": "1s"})
    documents: Documents = {
        "watchbill.yaml": {"version": 1, "defaults": defaults},
        "base.yaml": {**root, "limits": root.get("limits", {})},
    }
    for number, (check_id, made) in enumerate(checks.items()):
        documents[chance.choice(("a.yaml", "shop/b.yml", "shop/deep/c.yaml")) if number else "shop/b.yml"] = {
            "version": 1,
            "checks": {check_id: made},
        }
    if chance.random() < 0.3:
        documents["shop/watchbill.yaml"] = {"version": 1, "defaults": {"labels": {"env": "shop"}}}
    return documents
