"""What validators demand that pydantic cannot tell, in the words of JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from watchbill.domain.checks import RECORD_TYPES, REPEATABLE
from watchbill.domain.fields import LABEL_PATTERN, RESERVED_LABELS
from watchbill.domain.objectives import OWN_LABELS
from watchbill.domain.otlp import ATTRIBUTE_PATTERN, PERCENTAGE_PATTERN

Schema: TypeAlias = dict[str, Any]

REFERENCE: Schema = {"type": "string", "pattern": r"\$\{[^{}]+\}"}
"""Text with a reference in it, which only loading the file resolves."""
_HOST = r"^(?!-)(\[[0-9A-Fa-f:.]+\]|[^\s/@?#\\%\x00-\x1f]+)$"
_PROXY = (
    r"^([hH][tT][tT][pP][sS]?|[sS][oO][cC][kK][sS]5[hH]?)://([^/?#\s]*@)?"
    r"(\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]%\\-][^\s:/?#@\[\]%\\]*):0*[1-9][0-9]{0,4}/?$"
)
_SOCKET: Schema = {"pattern": "^/", "examples": ["/run/app.sock"]}
_RESOLVER: Schema = {
    "pattern": r"^([0-9]+(\.[0-9]+){3}(:[0-9]+)?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|\[[0-9A-Fa-f:.]+\](:[0-9]+)?)$",
    "examples": ["9.9.9.9", "127.0.0.1:5353"],
}
EXTRA: Mapping[tuple[str, str], Schema] = {
    ("Http", "url"): {"pattern": r"^[hH][tT][tT][pP][sS]?://[^\s/?#\x00-\x1f]+[^\s\x00-\x1f]*$"},
    ("Http", "method"): {"pattern": r"^(?=.*[A-Za-z])[A-Za-z-]+$", "examples": ["GET", "HEAD", "POST"]},
    ("Tcp", "host"): {"pattern": _HOST},
    ("Tls", "host"): {"pattern": _HOST},
    ("Icmp", "host"): {"pattern": _HOST},
    ("TlsOptions", "server_name"): {"pattern": _HOST},
    ("Dns", "record"): {"enum": [*RECORD_TYPES, *map(str.lower, RECORD_TYPES)]},
    ("Dns", "server"): {
        "pattern": r"^[^\s/@?#\\%]+$|^[hH][tT][tT][pP][sS]://[^\s/@?#\\%\x00-\x1f]+(/[^\s?#\x00-\x1f]*)?$"
    },
    ("Http", "unix_socket"): _SOCKET,
    ("Tcp", "unix_socket"): _SOCKET,
    ("Proxy", "url"): {"pattern": _PROXY},
    ("OtlpOptions", "endpoint"): {
        "pattern": r"^[hH][tT][tT][pP][sS]?://[^\s/?#@\x00-\x1f]+(/[^\s?#\x00-\x1f]*)?$",
        "examples": ["http://127.0.0.1:4318"],
    },
    ("Outbound", "source_address"): {
        "pattern": r"^([0-9]+(\.[0-9]+){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+(%[^\s/%]+)?)$"
    },
    ("ByName", "resolver"): _RESOLVER,
    ("DnsSd", "resolver"): _RESOLVER,
    ("KubernetesSd", "api_server"): {
        "pattern": r"^[hH][tT][tT][pP][sS]?://[^\s/?#@\x00-\x1f]+(/[^\s?#\x00-\x1f]*)?$"
    },
    ("KubernetesSd", "token_file"): {"pattern": "^/"},
}
"""What validators demand that pydantic cannot tell."""
SHORT_FORMS: Mapping[tuple[str, str], Schema] = {
    ("DnsAnswers", "any"): {"type": "string"},
    ("DnsAnswers", "all"): {"type": "string"},
    ("DnsAnswers", "none"): {"type": "string"},
    ("OtlpTraces", "sample"): {"type": "string", "pattern": PERCENTAGE_PATTERN, "examples": ["10%"]},
    ("OtlpOptions", "traces"): {"anyOf": [{"type": "boolean"}, REFERENCE]},
    ("Http", "proxy"): {"anyOf": [{"type": "string", "pattern": _PROXY}, REFERENCE]},
}
"""Where text may stand for a mapping: for ``{equals: text}``, for ``{url: text}``."""
KEYS: Mapping[str, Schema] = {
    "labels": {
        "pattern": LABEL_PATTERN,
        "maxLength": 200,
        "not": {"pattern": f"^(__.*|{'|'.join(sorted(RESERVED_LABELS))})$"},
    },
    "match": {
        "pattern": LABEL_PATTERN,
        "maxLength": 200,
        "not": {"pattern": f"^(__.*|{'|'.join(sorted(RESERVED_LABELS - set(OWN_LABELS)))})$"},
    },
    "headers": {"pattern": r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"},
    "json": {"pattern": r"^\$"},
    "resource": {"pattern": ATTRIBUTE_PATTERN, "maxLength": 200},
}


def _only_family(version: int, source: str) -> Schema:
    """An address to send from reaches only its own family."""
    return {
        "if": {
            "required": ["source_address"],
            "properties": {"source_address": {"type": "string", "pattern": source}},
        },
        "then": {"properties": {"ip_family": {"anyOf": [{"enum": [version, None]}, REFERENCE]}}},
    }


def _in_any_case(words: Iterable[str]) -> str:
    return "|".join("".join(f"[{letter.lower()}{letter}]" for letter in word) for word in words)


_FAMILIES = [_only_family(4, r"^[0-9.]+$"), _only_family(6, "^[^$]*:")]
_CLEAR: Schema = {"properties": {"transport": {"enum": ["udp", "tcp"]}}}
"""A DNS check that says nothing of its transport is one of these, too."""
_REUSE: Schema = {
    "if": {"required": ["connection"], "properties": {"connection": {"const": "reuse"}}},
    "then": {
        "properties": {"method": {"anyOf": [{"pattern": f"^({_in_any_case(REPEATABLE)})$"}, REFERENCE]}}
    },
}


def _only_a_socket(*others: str) -> Schema:
    return {
        "if": {"required": ["unix_socket"], "properties": {"unix_socket": {"type": "string"}}},
        "then": {"properties": {key: {"type": "null"} for key in others}},
    }


_SOMETHING: Schema = {"not": {"type": "null"}}
_NO_SOCKET: Schema = {"properties": {"unix_socket": {"type": "null"}}}
RULES: Mapping[str, Schema] = {
    "Http": {
        "allOf": [*_FAMILIES, _REUSE, _only_a_socket("proxy", "ip_family", "source_address", "resolver")]
    },
    "Tcp": {
        "allOf": [
            *_FAMILIES,
            _only_a_socket("host", "port", "ip_family", "source_address", "resolver"),
            {
                "if": _NO_SOCKET,
                "then": {
                    "required": ["host", "port"],
                    "properties": {"host": {"type": "string"}, "port": {"not": {"type": "null"}}},
                },
            },
        ]
    },
    "Proxy": {"dependencies": {"password": ["username"]}},
    "Outbound": {"allOf": _FAMILIES},
    "Slo": {
        "allOf": [
            {"oneOf": [{"required": [key], "properties": {key: _SOMETHING}} for key in ("service", "match")]},
            {
                "anyOf": [
                    {"required": [key], "properties": {key: _SOMETHING}}
                    for key in ("availability", "latency")
                ]
            },
        ]
    },
    "DnsSd": {
        "allOf": [
            {
                "if": {"required": ["type"], "properties": {"type": {"enum": ["A", "AAAA", "MX", "NS"]}}},
                "then": {"required": ["port"], "properties": {"port": _SOMETHING}},
            },
            {
                "if": {"properties": {"type": {"const": "SRV"}}},
                "then": {"properties": {"port": {"type": "null"}}},
            },
        ]
    },
    "KubernetesSd": {"dependencies": {"token_file": ["api_server"], "tls": ["api_server"]}},
    "Auth": {"oneOf": [{"required": ["basic"]}, {"required": ["bearer"]}]},
    "TlsOptions": {"dependencies": {"cert_file": ["key_file"], "key_file": ["cert_file"]}},
    "Dns": {
        "allOf": [
            *_FAMILIES,
            {
                "if": _CLEAR,
                "then": {
                    "properties": {
                        "tls": {"not": {}},
                        "expect": {"properties": {"certificate_valid_for": {"type": "null"}}},
                    }
                },
            },
            {
                "if": {
                    "required": ["transport"],
                    "properties": {"transport": {"enum": ["tls", "https"]}},
                },
                "then": {"required": ["server"], "properties": {"server": {"type": "string"}}},
            },
            {
                "if": {"properties": {"transport": {"enum": ["udp", "tcp", "tls"]}}},
                "then": {"properties": {"server": {"not": {"type": "string", "pattern": "://"}}}},
            },
        ]
    },
}
"""What holds between the keys of a mapping."""
